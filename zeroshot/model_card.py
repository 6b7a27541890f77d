"""The README that a bundle carries, for people."""

from collections.abc import Mapping
from typing import Any

__all__ = ["model_card"]


def model_card(record: Mapping[str, Any]) -> str:
    """Return a model card in Markdown.

    Parameters
    ----------
    record : mapping
        The content of ``bundle.json``, as `ZeroShotClassifier.save` makes it.

    Returns
    -------
    card : str
    """
    backbone, embeddings = record["backbone"], record["embeddings"]
    labels = ", ".join(str(label) for label in record["classes"]["labels"])
    if backbone is None:
        visual = "features that were given (no backbone)"
    else:
        height, width = backbone["input_size"]
        visual = f"`{backbone['name']}` at {height} x {width} ({backbone['resize']})"
        if backbone["pretraining"]:
            visual += f", pretrained on {backbone['pretraining']}"
    kept = embeddings["vocabulary"]
    vectors = f"`{embeddings['name']}`" + (
        f", {len(kept)} vectors in the bundle" if kept else ", in a file of their own"
    )
    return f"""# Zero-shot image classifier

Predicts labels given at prediction time. Made by `zeroshot` \
{record["versions"]["zeroshot"]} on {record["saved"]}.

| | |
| --- | --- |
| visual features | {visual} |
| word vectors | {vectors} |
| projection | `{record["projection"]["name"]}` \
{record["projection"]["parameters"]} |
| trained on | {record["n_images"]} images of \
{len(record["classes"]["labels"])} classes |

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
