"""Several backbones side by side: their features in one vector."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zeroshot.backbones.base import Backbone, BackboneCard, card_of
from zeroshot.backbones.checked import CheckedBackbone, digest_of
from zeroshot.errors import PluginContractError

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
        wanted = [(*part.input_size, card_of(part).resize) for part in self.parts]
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
        return BackboneCard(cards[0].resize, *map(joined, fields))

    def _compute(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        blocks = []
        for part in self.parts:
            features = part.embed(_shrunk(images, part.input_size))
            lengths = np.linalg.norm(features, axis=1, keepdims=True)
            blocks.append(features / np.where(lengths > 0, lengths, 1))
        return np.concatenate(blocks, axis=1, dtype=np.float32)

    def __repr__(self) -> str:
        return f"Concatenated({list(self.parts)!r})"


def _shrunk(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if images.shape[1:3] == size:
        return images
    pictures = [Image.fromarray(image) for image in images]
    small = [each.resize(size[::-1], Image.Resampling.BILINEAR) for each in pictures]
    return np.stack([np.asarray(each) for each in small])
