"""What a classifier answers about one image."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from zeroshot.escaping import escaped

if TYPE_CHECKING:
    from zeroshot.labels.report import LabelEntry

__all__ = ["Explanation", "RankedLabel", "as_pre_annotation", "as_results"]


# What `RankedLabel.basis` means, for people.
BASES = {
    "images": "images of training",
    "pretrained": "the backbone's own class",
    "word": "its word alone",
}


class RankedLabel(NamedTuple):
    """One candidate for an image, from `ZeroShotClassifier.rank`.

    Attributes
    ----------
    label : hashable
        The candidate label.
    score : float
        As `ZeroShotClassifier.decision_function` returns it: a cosine, less the
        corrections for hubs and for seen classes.
    probability : float
        In [0, 1], among the candidates; see `ZeroShotClassifier.predict_proba`.
    seen : bool
        Whether it names a class of training (`zeroshot.labels.seen_class`).
    rejected : bool
        Whether ``reject`` makes `ZeroShotClassifier.predict` answer ``unknown_label``
        for the image; the same for all its candidates.
    basis : {"images", "pretrained", "word"}
        What stands behind the label: images of training; else a class that the backbone
        was pretrained on, and that was learnt from; else its word alone.
    """

    label: Any
    score: float
    probability: float
    seen: bool
    rejected: bool = False
    basis: str = "word"


@dataclass(frozen=True)
class Explanation:
    """Why an image got its label, from `ZeroShotClassifier.explain`.

    Attributes
    ----------
    prediction : hashable
        What `ZeroShotClassifier.predict` answers.
    ranked : tuple of RankedLabel
        The best candidates, best first; empty for an unreadable image.
    entries : tuple of LabelEntry or None
        How the vector of each of those was made; None for words of a vocabulary, which
        are found as they are.
    margin : float
        Score of the best candidate less that of the second; NaN without a second.
    nearest_seen : tuple of (hashable, float)
        The seen classes that the image is nearest to, and the cosines, whether they are
        candidates or not: what the image looks like to what was trained.
    """

    prediction: Any
    ranked: tuple[RankedLabel, ...]
    entries: "tuple[LabelEntry | None, ...]"
    margin: float
    nearest_seen: tuple[tuple[Any, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as JSON can hold it.

        Returns
        -------
        content : dict
        """
        return {
            "margin": self.margin if len(self.ranked) > 1 else None,
            "nearest_seen": [
                {"label": label, "cosine": cosine}
                for label, cosine in self.nearest_seen
            ],
            "vectors": [
                None if entry is None else asdict(entry) for entry in self.entries
            ],
        }

    def __str__(self) -> str:
        """Return the explanation for people: a few lines of text."""
        if not self.ranked:
            return f"{escaped(self.prediction)}: the image cannot be read"
        lines = [f"{escaped(self.prediction)}{self._reason()}"]
        width = max(len(escaped(answer.label)) for answer in self.ranked)
        for answer, entry in zip(self.ranked, self.entries, strict=True):
            lines.append(
                f"  {escaped(answer.label):{width}}  score {answer.score:6.3f}  "
                f"probability {answer.probability:.3f}  "
                f"from {BASES[answer.basis]:24}  vector: {_made(entry)}"
            )
        near = ", ".join(
            f"{escaped(label).partition(',')[0]} {cosine:.3f}"
            for label, cosine in self.nearest_seen
        )
        return "\n".join([*lines, f"  nearest seen classes: {near}"])

    def _reason(self) -> str:
        best = self.ranked[0]
        if best.rejected:
            return f": rejected, no candidate fits; the best is {escaped(best.label)}"
        if len(self.ranked) == 1:
            return ""
        return f": {self.margin:.3f} before {escaped(self.ranked[1].label)}"


def as_results(
    names: Sequence[str],
    positions: Iterable[int],
    errors: Mapping[int, str],
    ranked: Iterable[Sequence[RankedLabel]],
    unknown_label: Any,
    why: Iterable[Explanation] = (),
) -> list[dict[str, Any]]:
    """Return answers for images as JSON can hold them, for programs.

    Parameters
    ----------
    names : sequence of str
        Of all images that were given.
    positions, errors : as in `zeroshot.features.ImagePoints`
    ranked : iterable of sequence of RankedLabel
        As `ZeroShotClassifier.rank` returned them.
    unknown_label : hashable
        The answer where no label fits.
    why : iterable of Explanation, default=()
        What to add to each answer.

    Returns
    -------
    results : list of dict
    """
    results: list[dict[str, Any]] = []
    for i, best in zip(positions, ranked, strict=True):
        is_known = bool(best) and not best[0].rejected
        results.append(
            {
                "image": names[i],
                "prediction": best[0].label if is_known else unknown_label,
                "ranked": [label._asdict() for label in best],
                "error": errors.get(i),
            }
        )
    for result, each in zip(results, why, strict=False):
        result |= each.to_dict()
    return results


def as_pre_annotation(
    best: RankedLabel | None,
    model: str,
    from_name: str = "choice",
    to_name: str = "image",
    shown: Mapping[Any, str] | None = None,
) -> dict[str, Any]:
    """Return an answer as Label Studio takes predictions.

    Parameters
    ----------
    best : RankedLabel or None
        None, and one that was rejected, is a prediction without a result.
    model : str
        Its version, in the words of Label Studio.
    from_name, to_name : str
        Names of the tags ``<Choices>`` and ``<Image>``.
    shown : mapping, optional
        Names that Label Studio has for labels, where they are others.

    Returns
    -------
    prediction : dict
    """
    if best is None or best.rejected:
        return {"model_version": model, "score": 0.0, "result": []}
    choice = str((shown or {}).get(best.label, best.label))
    result = {
        "from_name": from_name,
        "to_name": to_name,
        "type": "choices",
        "score": best.probability,
        "value": {"choices": [choice]},
    }
    return {"model_version": model, "score": best.probability, "result": [result]}


def _made(entry: "LabelEntry | None") -> str:
    if entry is None:
        return "the word itself"
    words, missing = (", ".join(map(escaped, w)) for w in (entry.words, entry.missing))
    without = f", without {missing}" if missing else ""
    return f"{entry.how} ({words}){without}"
