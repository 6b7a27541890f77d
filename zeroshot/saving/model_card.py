"""The README that a bundle carries, for people."""

import re
from collections.abc import Mapping
from typing import Any

from zeroshot.escaping import for_markdown

__all__ = ["model_card"]


def model_card(record: Mapping[str, Any]) -> str:
    """Return a model card in Markdown.

    ``record``: the content of ``bundle.json``, as `ZeroShotClassifier.save` makes it.
    """
    backbone, embeddings = record["backbone"], record["embeddings"]
    labels = "; ".join(map(for_markdown, record["classes"]["labels"]))
    if backbone is None:
        visual = "features that were given (no backbone)"
    else:
        height, width = backbone["input_size"]
        visual = (
            f"{_code(backbone['name'])} at {height} x {width} ({backbone['resize']})"
        )
        if backbone["pretraining"]:
            visual += f", pretrained on {for_markdown(backbone['pretraining'])}"
        if backbone["weights"] is not None:
            visual += f", fine-tuned (all weights in `{backbone['weights']['file']}`)"
    kept = embeddings["vocabulary"]
    vectors = _code(embeddings["name"]) + (
        f", {len(kept)} vectors in the bundle" if kept else ", in a file of their own"
    )
    settings, found = record["parameters"], record.get("calibration")
    if settings["templates"] is not None:
        vectors += f", labels in the templates {for_markdown(settings['templates'])}"
    scores = ", ".join(
        f"{name} {_shown(settings[name])}"
        for name in ("seen_penalty", "temperature", "reject")
        if settings[name] is not None
    )
    return f"""# Zero-shot image classifier

Predicts labels given at prediction time. Made by `zeroshot` \
{record["versions"]["zeroshot"]} on {record["saved"]}.

| | |
| --- | --- |
| visual features | {visual} |
| word vectors | {vectors} |
| projection | {_code(record["projection"]["name"])} \
{for_markdown(record["projection"]["parameters"])} |
| trained on | {record["n_images"]} images of \
{len(record["classes"]["labels"])} classes{_pretrained(record["pretrained"])} |
| scores | {scores} |
{_calibration(found)}\

Seen classes: {labels}.

```python
import zeroshot

clf = zeroshot.load("this-folder")
clf.rank(["photo.jpg"], candidate_labels=["okapi", "zebra"])
```

**Limits.** "Unseen" means unseen by the projection: the backbone may have been trained
on those classes. Without a `seen_penalty`, an unseen label rarely wins against seen
ones. Probabilities are not calibrated unless a `temperature` was. A label is what its
word vector says: "crane" is both a bird and a machine.
"""


def _code(name: str) -> str:
    """Return a name as code; one that could end the code, or the cell, as text."""
    return f"`{name}`" if re.fullmatch(r"[\w.:/+ -]+", name) else for_markdown(name)


def _pretrained(content: Mapping[str, Any] | None) -> str:
    if content is None:
        return ", and on none of the backbone's own"
    return f", and on {len(content['names'])} classes of the backbone's own classifier"


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else f"`{value}`"


def _calibration(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return (
        f"| found on {found['n_folds']} class-disjoint folds of the seen classes | "
        f"seen_penalty {found['seen_penalty']:.3g} (H {found['h']:.2f}, without it "
        f"{found['h_without']:.2f}), temperature {found['temperature']:.3g}, "
        f"false-accept rate {found['false_accept_rate']:.2f} (AUROC "
        f"{found['auroc']:.2f}) |\n"
    )
