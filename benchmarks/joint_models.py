"""What each part adds to a joint model, and how fast its images are read.

A small joint model is trained: drawn shapes ("red star") and texts of them, an image
tower and a text tower, by a contrastive loss, on 24 of 64 combinations of color and
shape. Of the 40 that it has never seen, half are the user's own classes, with images;
the other half are named among themselves. The model is written as a folder, as tools
export CLIP, and used as ``clip:/folder``.

    python benchmarks/joint_models.py
    ZEROSHOT_DATA=... python benchmarks/joint_models.py --speed

With ``--write`` the tables go into results/joint_models.md too. Needs torch,
transformers and tokenizers.
"""

import copy
import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pages import RESULTS, markdown_table, mean_and_spread, new_parser, write_page

from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.metrics import per_class_accuracy

PAGE = RESULTS / "joint_models.md"
WORTH, SPEED = "<!-- worth -->", "<!-- speed -->"
SEEDS, TRAINED_ON, OWN = (0, 1, 2), 24, 20
SIDE, DIM, PER_CLASS, STEPS, BATCH = 32, 64, 60, 600, 128
TEMPLATES = ("a photo of a {}.", "a {}", "a drawing of the {}.")
SHOTS, DRAWS = (1, 4), 3
ROUNDS, PHOTOGRAPHS, AT_ONCE = (
    5,
    96,
    16,
)  # of the speed of an image tower of ViT-B/32's size


def measure(seed: int) -> dict[str, list[float]]:
    """Return the accuracies on the unseen classes of one joint model."""
    images, labels = make_shapes(PER_CLASS, size=SIDE, random_state=seed)
    classes = np.random.default_rng(seed).permutation(np.unique(labels))
    known, own, unseen = np.split(classes, [TRAINED_ON, TRAINED_ON + OWN])
    with tempfile.TemporaryDirectory() as folder:
        is_known = np.isin(labels, known)
        train_joint_model(Path(folder), images[is_known], labels[is_known], seed)
        return _accuracies(Path(folder), images, labels, own, unseen, seed)


def _accuracies(
    folder: Path, images: Any, labels: Any, own: Any, unseen: Any, seed: int
) -> dict[str, list[float]]:
    settings: dict[str, Any] = {"templates": list(TEMPLATES), "cache": False}
    plain = ZeroShotClassifier(f"clip:{folder}", **settings)
    X = plain.transform(images)
    is_own, is_unseen = np.isin(labels, own), np.isin(labels, unseen)
    candidates = unseen.tolist()
    fitted = ZeroShotClassifier(f"clip:{folder}", random_state=seed, **settings)
    fitted.fit(X[is_own], labels[is_own])
    print(
        f"strength {fitted.projection_.strength_}, image weight "
        f"{fitted.projection_.image_weight_}",
        flush=True,
    )

    def accuracy(classifier: Any, rows: Any, **how: Any) -> float:
        names = classifier.predict(X[rows], candidates, **how)
        return float(per_class_accuracy(labels[rows], names == labels[rows]))

    rest = np.flatnonzero(is_unseen)
    found = {
        "identity: as it is": [accuracy(plain, rest)],
        "identity, adapt": [accuracy(plain, rest, adapt=True)],
        "fit": [accuracy(fitted, rest)],
        "fit, adapt": [accuracy(fitted, rest, adapt=True)],
    }
    for shots in SHOTS:
        rows_of: dict[str, list[float]] = {}
        for draw in range(DRAWS):
            random = np.random.default_rng([seed, draw])
            few = np.concatenate(
                [
                    random.choice(np.flatnonzero(labels == each), shots, replace=False)
                    for each in unseen
                ]
            )
            left = np.setdiff1d(rest, few)
            more = copy.deepcopy(fitted).partial_fit(X[few], labels[few])
            means = np.stack([X[few][labels[few] == u].mean(axis=0) for u in unseen])
            unit = X / np.linalg.norm(X, axis=1, keepdims=True)
            nearest = unseen[(unit[left] @ means.T).argmax(axis=1)]
            for name, value in {
                "fit, {}": accuracy(more, left),
                "fit, {}, adapt": accuracy(more, left, adapt=True),
                "{} alone, nearest mean": per_class_accuracy(
                    labels[left], nearest == labels[left]
                ),
            }.items():
                n = f"{shots} image{'s' * (shots > 1)} of each"
                rows_of.setdefault(name.format(n), []).append(float(value))
        found |= rows_of
    found["chance"] = [1 / len(unseen)]
    return found


def train_joint_model(folder: Path, images: Any, labels: Any, seed: int) -> None:
    """Train two towers, and write them as tools export CLIP."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    torch.set_num_threads(1)  # two that wait for each other are slower beside others
    tokenizer = _tokenizer(sorted({word for each in labels for word in each.split()}))
    tokenizer.save(str(folder / "tokenizer.json"))
    vision = nn.Sequential(*_convolutions(nn), nn.Flatten(), nn.Linear(128, DIM))

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(tokenizer.get_vocab_size(), 64)
            self.layers = nn.Sequential(nn.Linear(64, 128), nn.GELU())
            self.last = nn.Linear(128, DIM)

        def forward(self, ids: Any) -> Any:
            return self.last(self.layers(self.words(ids)).sum(dim=1))

    text = Text()
    scale = nn.Parameter(torch.tensor(2.66))  # ln(1 / 0.07), as CLIP begins
    weights = [*vision.parameters(), *text.parameters(), scale]
    optimizer = torch.optim.AdamW(weights, lr=2e-3, weight_decay=0.05)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS)
    random = np.random.default_rng(seed)
    names, index = np.unique(labels, return_inverse=True)
    for _ in range(STEPS):
        rows = random.choice(len(images), BATCH, replace=False)
        template = TEMPLATES[random.integers(len(TEMPLATES))]
        texts = [template.format(name) for name in names]
        ids = torch.tensor([e.ids for e in tokenizer.encode_batch(texts)])
        pixels = torch.tensor(_scaled(images[rows], random))
        x = nn.functional.normalize(vision(pixels), dim=1)
        t = nn.functional.normalize(text(ids), dim=1)
        logits = scale.exp().clamp(max=100) * x @ t.T
        loss = nn.functional.cross_entropy(logits, torch.tensor(index[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        plan.step()
    print(f"seed {seed}: loss {loss.item():.3f}, scale {scale.exp().item():.1f}")
    (folder / "zeroshot.json").write_text(
        json.dumps({"logit_scale": min(float(scale.exp()), 100.0)})
    )
    length = len(tokenizer.encode("a").ids)
    _export(folder, "vision", vision.eval(), torch.zeros(2, 3, SIDE, SIDE))
    _export(folder, "text", text.eval(), torch.zeros(2, length).long())
    _write_settings(folder, SIDE)


def _convolutions(nn: Any) -> list[Any]:
    layers: list[Any] = []
    for before, after in ((3, 32), (32, 64), (64, 128)):
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return [*layers, nn.AdaptiveAvgPool2d(1)]


def _scaled(images: Any, random: Any) -> Any:
    """Return pixels as CLIP's are, half of the images mirrored."""
    from zeroshot.joint.families import PixelRule

    flipped = np.where(random.random(len(images))[:, None, None, None] < 0.5, 1, 0)
    images = np.where(flipped, images[:, :, ::-1], images)
    return PixelRule((SIDE, SIDE), "short-side", "bicubic", *_pixels()).scaled(images)


def _pixels() -> tuple[tuple[float, ...], tuple[float, ...]]:
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    return tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD)


def _tokenizer(words: list[str]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = [*words, "a", "photo", "of", "the", "drawing", "."]
    # Words that no combination of training had are known, as those of CLIP are.
    vocabulary = {w: i for i, w in enumerate(["<unk>", "<end>", *dict.fromkeys(words)])}
    own = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    own.normalizer = normalizers.Lowercase()
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.post_processor = processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", 1)]
    )
    return own


def _export(folder: Path, kind: str, tower: Any, example: Any) -> None:
    import torch

    place = {"vision": "pixel_values", "text": "input_ids"}[kind]
    output = {"vision": "image_embeds", "text": "text_embeds"}[kind]
    axes = {0: "n"} if kind == "vision" else {0: "n", 1: "length"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            tower,
            (example,),
            folder / f"{kind}_model.onnx",
            input_names=[place],
            output_names=[output],
            dynamic_axes={place: axes, output: {0: "n"}},
            dynamo=False,
        )


def _write_settings(folder: Path, side: int) -> None:
    mean, deviation = _pixels()
    settings = {
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "resample": 3,
        "image_mean": mean,
        "image_std": deviation,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))


def speed() -> list[list[str]]:
    """Return photographs a second of an image tower: ours, and ONNX Runtime alone."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from zeroshot.features import extract_features
    from zeroshot.joint import ONNXFolder

    root = Path(os.environ["ZEROSHOT_DATA"]) / "images" / "caltech-classes"
    files = sorted(root.glob("*/*"))
    files = files[:: len(files) // PHOTOGRAPHS][:PHOTOGRAPHS]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        model = CLIPVisionModelWithProjection(CLIPVisionConfig()).eval()  # ViT-B/32

        class Tower(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, pixels: Any) -> Any:
                return self.model(pixels).image_embeds

        _export(folder, "vision", Tower(), torch.zeros(2, 3, 224, 224))
        _export(
            folder,
            "text",
            torch.nn.EmbeddingBag(9, 512),
            torch.zeros(2, 1).long(),
        )
        _write_settings(folder, 224)
        _tokenizer([]).save(str(folder / "tokenizer.json"))
        ours = ONNXFolder(folder)
        batch = np.zeros((AT_ONCE, 224, 224, 3), np.uint8)
        ours.embed(batch)
        pixels = ours.pixel_rule.scaled(batch)
        alone = ours._images
        rates: dict[str, list[float]] = {"ours": [], "alone": []}
        for _ in range(ROUNDS):
            start = time.perf_counter()
            extract_features(files, ours, batch_size=AT_ONCE, cache=False)
            rates["ours"].append(len(files) / (time.perf_counter() - start))
            start = time.perf_counter()
            for _ in range(PHOTOGRAPHS // AT_ONCE):
                alone(pixels)
            rates["alone"].append(PHOTOGRAPHS / (time.perf_counter() - start))
    ratios = np.array(rates["ours"]) / np.array(rates["alone"])
    return [
        ["ONNX Runtime alone, pixels ready", mean_and_spread(rates["alone"])],
        ["`extract_features` from JPEG files", mean_and_spread(rates["ours"])],
        ["ratio, round by round", ", ".join(f"{each:.2f}" for each in ratios)],
        ["ratio, median", f"{np.median(ratios):.2f}"],
    ]


def main() -> None:
    """Measure, print and, if asked, write the page."""
    parser = new_parser(__doc__, PAGE)
    parser.add_argument("--speed", action="store_true", help="the speed alone")
    arguments = parser.parse_args()
    load = f"Load of the machine in the last minutes: {os.getloadavg()[1]:.1f}."
    if arguments.speed:
        text = markdown_table(["", "photographs a second"], speed())
        text, below = f"{text}\n\n{load}", SPEED
    else:
        found: dict[str, list[float]] = {}
        for seed in SEEDS:
            for name, values in measure(seed).items():
                found.setdefault(name, []).extend(values)
        rows = [[name, mean_and_spread(values)] for name, values in found.items()]
        text, below = markdown_table(["", "accuracy on unseen classes"], rows), WORTH
    print(text)
    if arguments.write:
        until = SPEED if below == WORTH else ""
        write_page(PAGE, text, below=below, until=until)


if __name__ == "__main__":
    main()
