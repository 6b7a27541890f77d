"""Small joint models of random weights, as their reference implementations have them.

A folder holds what common tools export; ``probabilities`` and the rest are computed by
transformers, from the same weights.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TEXT = "a photo of the cat dog red blue star ring drawing picture zebra"
WORDS = TEXT.split()
SIDE, PATCH, DIM = 224, 32, 16
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@dataclass
class Reference:
    """A model of transformers, and the folder of its two towers in ONNX."""

    folder: Path
    model: Any
    tokenizer: Any
    processor: Any
    scale: float
    bias: float | None
    padding: str | bool
    context: int

    def image_vectors(self, images):
        import torch

        pixels = self.processor(images)["pixel_values"]
        with torch.no_grad():
            vectors = self.model.get_image_features(torch.tensor(np.stack(pixels)))
        return _plain(vectors)

    def text_vectors(self, texts):
        import torch

        tokens = self.tokenizer(
            texts,
            padding=self.padding,
            truncation=True,
            max_length=self.context,
            return_tensors="pt",
        )
        given = {"input_ids": tokens["input_ids"]}
        if self.bias is None:  # SigLIP's takes no mask
            given["attention_mask"] = tokens["attention_mask"]
        with torch.no_grad():
            return _plain(self.model.get_text_features(**given))

    def logits(self, images, texts):
        image, text = self.image_vectors(images), self.text_vectors(texts)
        cosines = _unit(image) @ _unit(text).T
        return self.scale * cosines + (self.bias or 0)

    def probabilities(self, images, texts):
        logits = self.logits(images, texts)
        if self.bias is not None:
            return 1 / (1 + np.exp(-logits))
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)


def clip_reference(folder):
    """Make a model of CLIP's form; all its files but the scale lie in the folder."""
    with _quiet():
        import torch
        from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

        tokenizer = _clip_tokenizer()
        n = len(tokenizer)
        config = CLIPConfig(
            text_config=TOWER
            | {
                "vocab_size": n,
                "bos_token_id": n - 2,
                "eos_token_id": n - 1,
                "pad_token_id": n - 1,
            },
            vision_config=TOWER | {"image_size": SIDE, "patch_size": PATCH},
            projection_dim=DIM,
        )
        torch.manual_seed(0)
        model = _lively(CLIPModel(config))
        vision, text = model.vision_model, model.text_model
        towers = {
            "vision": lambda x: model.visual_projection(vision(x).pooler_output),
            "text": lambda ids: model.text_projection(text(ids).pooler_output),
        }
        names = {"vision": "image_embeds", "text": "text_embeds"}
        processor = CLIPImageProcessorPil()
        _write(folder, model, tokenizer, processor, towers, names)
    return Reference(folder, model, tokenizer, processor, 100.0, None, True, 77)


def siglip_reference(folder, *, second=False):
    """Make a model of SigLIP's form; ``second``: with the tokenizer of SigLIP 2."""
    with _quiet():
        import torch
        from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

        make = _siglip2_tokenizer if second else _siglip_tokenizer
        tokenizer = make(folder)
        config = SiglipConfig(
            text_config=TOWER | {"vocab_size": len(tokenizer)},
            vision_config=TOWER | {"image_size": SIDE, "patch_size": PATCH},
        )
        torch.manual_seed(0)
        model = _lively(SiglipModel(config))
        towers = {
            "vision": lambda x: model.vision_model(x).pooler_output,
            "text": lambda ids: model.text_model(ids).pooler_output,
        }
        names = dict.fromkeys(towers, "pooler_output")
        processor = SiglipImageProcessorPil()
        _write(folder, model, tokenizer, processor, towers, names)
    if second:  # older exports do not say so themselves
        file = folder / "tokenizer.json"
        own = json.loads(file.read_text())
        steps = own["normalizer"]["normalizers"]
        own["normalizer"]["normalizers"] = [
            s for s in steps if s["type"] != "Lowercase"
        ]
        file.write_text(json.dumps(own))
    scale, bias = 20.0, -2.0
    logits = json.dumps({"logit_scale": scale, "logit_bias": bias})
    (folder / "zeroshot.json").write_text(logits)
    return Reference(folder, model, tokenizer, processor, scale, bias, "max_length", 64)


def photographs(n, seed=0):
    """Return images of various shapes, with detail that filters treat differently."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    images = []
    for _ in range(n):
        height, width = rng.integers(230, 420, 2)
        coarse = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((width, height)), np.int16)
        noise = rng.integers(-90, 90, (height, width, 3))
        images.append(Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8)))
    return images


def _write(folder, model, tokenizer, processor, towers, names):
    import torch

    config = model.config
    for part in (config, processor, tokenizer):
        part.save_pretrained(folder)
    examples = {
        "vision": torch.zeros(2, 3, SIDE, SIDE),
        "text": torch.zeros(2, config.text_config.max_position_embeddings).long(),
    }
    inputs = {"vision": "pixel_values", "text": "input_ids"}
    for kind, compute in towers.items():
        torch.onnx.export(
            _tower(model, compute),
            (examples[kind],),
            folder / f"{kind}_model.onnx",
            input_names=[inputs[kind]],
            output_names=[names[kind]],
            dynamic_axes={
                inputs[kind]: {0: "n", 1: "length"} if kind == "text" else {0: "n"},
                names[kind]: {0: "n"},
            },
            dynamo=False,
        )


def _tower(model, compute):
    import torch

    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model  # whose weights are those of this module

        def forward(self, given):
            return compute(given)

    return Tower().eval()


def _lively(model):
    """Return a model whose vectors differ: as it is made, they hardly do."""
    import torch

    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim > 1 and "embedding" not in name:
                weights.mul_(3)
    return model.eval()


def clip_words():
    """Return CLIP's kind of tokens, by number, and of merges, for a few words."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = alphabet + [f"{each}</w>" for each in alphabet]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
            vocabulary.append(parts[0])
    tokens = [*dict.fromkeys(vocabulary), "<|startoftext|>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(tokens)}
    return numbers, [*dict.fromkeys(merges)]


def _clip_tokenizer():
    from transformers import CLIPTokenizer

    numbers, merges = clip_words()
    return CLIPTokenizer(vocab=numbers, merges=merges)


def write_siglip_pieces(folder):
    """Write SigLIP's kind of tokens for a few words: ``spiece.model``."""
    import sentencepiece

    texts = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*texts, *"abcdefghijklmnopqrstuvwxyz"]),
        model_prefix=str(folder / "spiece"),
        vocab_size=80,
        hard_vocab_limit=False,
        unk_id=2,
        bos_id=-1,
        eos_id=1,
        pad_id=0,
        minloglevel=2,
    )
    return folder / "spiece.model"


def _siglip_tokenizer(folder):
    """Return SigLIP's tokenizer, and write the same one as a ``tokenizer.json``."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import SiglipTokenizer

    tokenizer = SiglipTokenizer(vocab_file=str(write_siglip_pieces(folder)))
    pieces = tokenizer.sp_model
    scored = [
        (pieces.IdToPiece(i), pieces.GetScore(i)) for i in range(pieces.GetPieceSize())
    ]
    own = Tokenizer(models.Unigram(scored, unk_id=2))
    own.pre_tokenizer = pre_tokenizers.Metaspace()
    own.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    own.save(str(folder / "tokenizer.json"))
    return tokenizer


def _siglip2_tokenizer(folder):
    from transformers import Siglip2Tokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    numbers = {token: number for number, token in enumerate(special)}
    merges = []
    for each in "abcdefghijklmnopqrstuvwxyz▁.!":
        numbers[each] = len(numbers)
    for word in WORDS:
        for end in range(2, len(word) + 1):
            merges.append((word[: end - 1], word[end - 1]))
            numbers.setdefault(word[:end], len(numbers))
    return Siglip2Tokenizer(
        vocab=numbers, merges=[*dict.fromkeys(merges)], padding_side="right"
    )


def _plain(vectors):
    """Return an array; some versions of transformers wrap it in what the tower said."""
    return np.asarray(getattr(vectors, "pooler_output", vectors))


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class _quiet(warnings.catch_warnings):
    """Leave out what torch and transformers warn of, in this block."""

    def __enter__(self):
        super().__enter__()
        warnings.simplefilter("ignore")
