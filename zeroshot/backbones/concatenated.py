"""Several backbones side by side: their features in one vector."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zeroshot.backbones.base import (
    Backbone,
    BackboneCard,
    ClassifierHead,
    SupportsDownload,
    card_of,
    head_of,
)
from zeroshot.backbones.checked import CheckedBackbone, digest_of, resized
from zeroshot.errors import NoClassifierError, PluginContractError
from zeroshot.storage.published import PublishedFile

__all__ = ["Concatenated"]


class Concatenated(CheckedBackbone):
    """Two or more backbones whose features are put one behind the other.

    Each part's features are made unit length first, so that none drowns the others by
    its scale. Images are decoded once, at the largest size of any part; a part that
    wants a smaller one gets them shrunk (as by `zeroshot.images.sources`), which
    differs a little from what it gets alone.

    Parameters
    ----------
    parts : sequence of Backbone
        At least two, of one resize rule and one shape (square, say).

    Notes
    -----
    The spec string is that of the parts, with ``+`` between them:
    ``"mobilenet-v2+resnet50:160"``.

    Examples
    --------
    >>> from zeroshot.backbones import ColorHOG
    >>> both = Concatenated([ColorHOG(64), ColorHOG(32)])
    >>> both.name, both.input_size, both.dim == 2 * ColorHOG().dim
    ('color-hog+color-hog', (64, 64), True)
    """

    def __init__(self, parts: Sequence[Backbone]) -> None:
        self.parts = parts

    @property
    def name(self) -> str:
        """Names of the parts."""
        return "+".join(part.name for part in self.parts)

    @property
    def spec(self) -> str | None:
        """Spec string from which an equal one is made; None where a part has none."""
        specs = [getattr(part, "spec", None) for part in self.parts]
        return None if None in specs else "+".join(map(str, specs))

    @property
    def dim(self) -> int:
        """Length of a feature vector, the sum of the parts'."""
        return sum(part.dim for part in self.parts)

    @property
    def input_size(self) -> tuple[int, int]:
        """The largest height and width of the parts.

        Raises
        ------
        PluginContractError
            If there are fewer than two parts, or they want images of other shapes.
        """
        wanted = [(*part.input_size, card_of(part).fitting) for part in self.parts]
        height, width, resize = wanted[0] if wanted else (1, 1, "crop")
        if len(wanted) < 2 or any(
            h * width != w * height or rule != resize for h, w, rule in wanted
        ):
            raise PluginContractError(
                f"Expected two or more backbones with one resize rule and one shape of "
                f"images. Got {', '.join(f'{h} x {w} ({r})' for h, w, r in wanted)}. "
                f"Give them sizes that are alike, as in 'mobilenet-v2+resnet50:160'."
            )
        return max((h, w) for h, w, _ in wanted)

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever features would."""
        facts = {
            "parts": [part.fingerprint for part in self.parts],
            "input_size": self.input_size,
            "shrunk": "bilinear",
            "normalised": "each part, L2",
        }
        return f"{self.name}-{digest_of(facts)}"

    @property
    def card(self) -> BackboneCard:
        """The parts' cards, each different thing once."""
        cards = [card_of(part) for part in self.parts]

        def joined(field: str) -> str:
            said = [getattr(card, field) for card in cards]
            return "; ".join(dict.fromkeys(filter(None, said)))

        fields = ("pretraining", "weights_url", "licence", "citation")
        said = dict(zip(fields, map(joined, fields), strict=True))
        return BackboneCard(cards[0].resize, filter=cards[0].filter, **said)

    def missing_files(self, *, classifier: bool = True) -> list[PublishedFile]:
        """Return the files that the parts would fetch.

        Parameters
        ----------
        classifier : bool, default=True
            Also those that only the parts' classifiers need.

        Returns
        -------
        files : list of PublishedFile
        """
        return [
            file
            for part in self.parts
            if isinstance(part, SupportsDownload)
            for file in part.missing_files(classifier=classifier)
        ]

    def _compute(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        blocks = []
        for part in self.parts:
            features = part.embed(resized(images, part.input_size))
            lengths = np.linalg.norm(features, axis=1, keepdims=True)
            blocks.append(features / np.where(lengths > 0, lengths, 1))
        return np.concatenate(blocks, axis=1, dtype=np.float32)

    def classifier_head(self) -> ClassifierHead:
        """Return a classifier of the classes that all parts were trained on.

        Each part's weights are centred over the classes and divided by their mean
        length, so that all parts count alike, as their features do. There is no bias.

        Returns
        -------
        head : ClassifierHead
            In the order of the first part's classes. Classes are the same where all
            their names are.

        Raises
        ------
        NoClassifierError
            If a part has no classifier, or none that is one dense layer, or the parts
            have fewer than two classes in common.
        PluginContractError
            As `input_size`, and the parts' own.
        ArtifactError
            As the parts' own.
        """
        _ = self.input_size  # says whether these can be parts
        heads = [(part.name, *_linear_head_of(part)) for part in self.parts]
        in_all = set.intersection(*(set(names) for _, names, _ in heads))
        common = tuple(names for names in heads[0][1] if names in in_all)
        if len(common) < 2:
            counts = ", ".join(f"'{name}' {len(names)}" for name, names, _ in heads)
            raise NoClassifierError(
                f"Expected parts that were trained on classes of the same names. Got "
                f"{len(common)} in common of {counts}. Use parts of one pretraining."
            )
        blocks = []
        for _, names, weights in heads:
            place = {each: i for i, each in enumerate(names)}
            rows = weights[:, [place[each] for each in common]]
            rows = rows - rows.mean(axis=1, keepdims=True)
            blocks.append(rows / (np.linalg.norm(rows, axis=0).mean() or 1))
        weights = np.concatenate(blocks, dtype=np.float32)
        return ClassifierHead(common, weights, np.zeros(len(common), np.float32))

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the scores of the classes of `classifier_head`.

        Parameters
        ----------
        images : ndarray of shape (n, height, width, 3), uint8
            As for `embed`.

        Returns
        -------
        logits : ndarray of shape (n, n_classes), float32
            ``embed(images) @ weights``.

        Raises
        ------
        NoClassifierError, PluginContractError, ArtifactError
            As `classifier_head`.
        """
        return self.classifier_head().logits(self.embed(images))

    def __repr__(self) -> str:
        return f"Concatenated({list(self.parts)!r})"


def _linear_head_of(
    part: Backbone,
) -> tuple[tuple[tuple[str, ...], ...], NDArray[np.float32]]:
    """Return the class names and the weights of a part's classifier."""
    try:
        head = head_of(part)
    except NoClassifierError as error:
        raise NoClassifierError(
            f"Expected parts that have a classifier each. Got '{part.name}' without "
            f"one: {error}"
        ) from error
    if head.weights is None:
        raise NoClassifierError(
            f"Expected parts whose classifier is one dense layer on their features. "
            f"Got '{part.name}', whose classifier is more. Leave it out."
        )
    return head.class_names, head.weights
