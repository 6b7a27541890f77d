"""Small text encoders with random weights, in folders as their own packages save them.

PyTorch and what stands on it are imported here: import this module inside functions.
"""

import json
import shutil
import warnings
from contextlib import contextmanager

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", ":"]
WORDS += ["a", "photo", "of", "the", "zebra", "okapi", "red", "fox", "in", "snow"]
WORDS += [c for c in LETTERS if c != "a"] + [f"##{c}" for c in LETTERS]
DIM = 24
TEXTS = [
    "zebra",
    "a photo of the red fox in the snow.",
    "Okapi",
    "a photo of a zebra.",
    "q, w: x",
    "the red fox in the snow, a photo of a zebra, a photo of the okapi, a red zebra",
]


@contextmanager
def quiet():
    """Torch and its friends warn of each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save_sentence(folder, *, pooling="mean", normalize=True, max_length=None):
    """Write a folder of sentence-transformers: a tiny BERT, as the package saves it."""
    with quiet():
        import torch
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import (
            Normalize,
            Pooling,
            Transformer,
        )
        from transformers import BertConfig, BertModel, BertTokenizerFast
        from transformers.utils import logging

        logging.disable_progress_bar()
        parts = folder.with_name(f"{folder.name}-parts")
        parts.mkdir()
        (parts / "vocab.txt").write_text("\n".join(WORDS))
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(WORDS),
            hidden_size=DIM,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=40,
            initializer_range=0.5,
        )
        BertModel(config).eval().save_pretrained(parts)
        BertTokenizerFast(str(parts / "vocab.txt")).save_pretrained(parts)
        modules = [Transformer(str(parts)), Pooling(DIM, pooling_mode=pooling)]
        modules += [Normalize()] if normalize else []
        model = SentenceTransformer(modules=modules, device="cpu")
        if max_length is not None:
            model.max_seq_length = max_length
        model.save(str(folder), create_model_card=False)
        shutil.rmtree(parts)
    return folder


def add_onnx(folder):
    """Write ``onnx/model.onnx`` beside the weights, as the usual exporters do."""
    with quiet():
        import torch
        from transformers import BertModel

        class Network(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.bert = BertModel.from_pretrained(
                    folder, attn_implementation="eager"
                ).eval()

            def forward(self, ids, mask, types):
                return self.bert(
                    input_ids=ids, attention_mask=mask, token_type_ids=types
                ).last_hidden_state

        names = ["input_ids", "attention_mask", "token_type_ids"]
        ids = torch.ones((2, 5), dtype=torch.long)
        (folder / "onnx").mkdir()
        torch.onnx.export(
            Network(),
            (ids, ids, ids),
            str(folder / "onnx" / "model.onnx"),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={
                name: {0: "batch", 1: "tokens"}
                for name in [*names, "last_hidden_state"]
            },
            dynamo=False,
        )
    return folder


def change(file, **settings):
    """Change settings in a file of JSON."""
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | settings))


def as_the_package_says(folder, texts):
    """Return what sentence-transformers makes of texts."""
    with quiet():
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu")
        return model.encode(texts, show_progress_bar=False)


def save_static(folder, *, normalize=False):
    """Write a folder of model2vec; return the model."""
    with quiet():
        from model2vec import StaticModel
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

        vocabulary = {word: i for i, word in enumerate(WORDS)}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        vectors = np.random.default_rng(0).standard_normal((len(WORDS), DIM))
        model = StaticModel(
            vectors.astype(np.float32), tokenizer, {"normalize": normalize}, normalize
        )
        model.save_pretrained(folder)
    return model
