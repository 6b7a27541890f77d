"""What the families of joint models do to pixels and texts, as published.

References
----------
.. [1] Radford et al., "Learning Transferable Visual Models From Natural Language
   Supervision", ICML 2021 (CLIP).
.. [2] Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023 (SigLIP).
.. [3] Tschannen et al., "SigLIP 2", 2025.
"""

import string
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zeroshot.images.sources import Filter, Resize

__all__ = ["CLIP_SCALE", "FAMILIES", "Family", "PixelRule"]

CLIP_SCALE = 100.0  # to which the scale is clipped in training [1]_, section 2.5
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class PixelRule:
    """How an image becomes what an image tower takes.

    ``size``: height and width. ``resize``, ``filter``: see `zeroshot.images.fit_image`.
    ``mean``, ``deviation``: of red, green and blue, in 0 to 1.
    """

    size: tuple[int, int]
    resize: Resize
    filter: Filter
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def scaled(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return pixels (n, 3, height, width) from images (n, height, width, 3)."""
        deviation = np.array(self.deviation)
        factor = (1 / (255 * deviation)).astype(np.float32)[:, None, None]
        offset = (np.array(self.mean) / deviation).astype(np.float32)[:, None, None]
        pixels = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
        np.multiply(images.transpose(0, 3, 1, 2), factor, out=pixels)
        pixels -= offset
        return pixels


@dataclass(frozen=True)
class Family:
    """What is known of a family, beside what the files of a model say.

    ``cleaned``: what is done to a text before it is cut into tokens. ``context``:
    tokens at most. ``is_padded``: each text gets ``context`` tokens, whatever its
    length; else what follows the end token changes nothing. ``outputs``: names of the
    towers' outputs, of images and of texts, the first that there is. ``logit_scale``:
    None where each model has its own. ``is_sigmoid``: it is trained with a sigmoid and
    a bias.
    """

    cleaned: Callable[[str], str]
    context: int
    is_padded: bool
    outputs: tuple[tuple[str, ...], tuple[str, ...]]
    logit_scale: float | None
    is_sigmoid: bool


def _as_it_is(text: str) -> str:
    return text


def _canonical(text: str) -> str:
    """Return a text in lower case, without punctuation, its spaces single.

    As big_vision's and transformers' code for SigLIP.
    """
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


_POOLED = (("image_embeds", "pooler_output"), ("text_embeds", "pooler_output"))
FAMILIES: dict[str, Family] = {
    # Their tokenizer.json puts texts into lower case and adds both end tokens.
    "clip": Family(
        _as_it_is, 77, False, (("image_embeds",), ("text_embeds",)), CLIP_SCALE, False
    ),
    "siglip": Family(_canonical, 64, True, _POOLED, None, True),
    # In lower case, but with punctuation [3]_, section 2.1.
    "siglip2": Family(str.lower, 64, True, _POOLED, None, True),
}
"""By ``model_type`` of ``config.json``; SigLIP 2 of one image size has SigLIP's."""
