"""What a projection of ours must have learnt, to be put together from a bundle.

A foreign projection is its plugin's own business: it is tried when it is loaded.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.projections.base import Projection
from zeroshot.projections.devise import DeViSE
from zeroshot.projections.estimator import ProjectionEstimator
from zeroshot.projections.visual import Visual
from zeroshot.saving.record_form import (
    AUTO,
    EPOCHS,
    NONE,
    NUMBER,
    POSITIVE,
    SCALE,
    SEED,
    STRENGTH,
    SWITCH,
    WEIGHT,
    Listed,
    Named,
    check_form,
)

__all__ = ["check_array", "check_projection"]

LARGEST = 1e30  # of a number in an array
OF_VISUAL = dict.fromkeys(("alpha", "gamma", "pretrained_weight"), (AUTO, WEIGHT))
PARAMETERS = {
    "early_stopping": SWITCH,
    "normalize": SWITCH,
    "random_state": (NONE, SEED),
}
NUMBERS = {
    "alpha_": WEIGHT,
    "gamma_": WEIGHT,
    "history_": Named(Listed(NUMBER)),
    "image_weight_": STRENGTH,
    "n_epochs_": EPOCHS,
    "n_features_in_": POSITIVE,
    "pretrained_weight_": WEIGHT,
    "scale_": SCALE,
    "strength_": STRENGTH,
}
# Kind and axes of each array; an axis of one name has one length.
SHAPES = {
    "center_": "f visual",
    "centres_": "f prototypes text",
    "class_embeddings_": "f fitted text",
    "class_points_": "f classes points",
    "class_shares_": "f classes",
    "coef_": "f visual mapped",
    "counts_": "i classes",
    "dual_coef_": "f prototypes visual",
    "gram_": "f visual visual",
    "intercept_": "f fitted",
    "inverse_": "f prototypes owned",
    "mean_": "f visual",
    "owners_": "i prototypes",
    "sums_": "f classes visual",
}


def check_projection(
    projection: Projection,
    wordless: NDArray[np.bool_],
    dim_visual: int,
    dim_text: int,
) -> None:
    """Raise ValueError for a projection of ours that could not have been fitted so.

    ``wordless``: (n_classes,), seen classes without a word vector. ``dim_visual``,
    ``dim_text``: lengths of features and of word vectors.
    """
    is_ours = type(projection).__module__.startswith("zeroshot.projections.")
    if not (is_ours and isinstance(projection, ProjectionEstimator)):
        return
    projection.check_parameters()
    n_classes = len(wordless)
    forms = PARAMETERS | (OF_VISUAL if isinstance(projection, Visual) else {})
    for name, form in forms.items():
        if hasattr(projection, name):
            check_form(getattr(projection, name), form, name)
    wanted = {
        name
        for one in type(projection).__mro__
        for name in inspect.get_annotations(one)
        if name.endswith("_") and not name.startswith("_")
    }
    if isinstance(projection, DeViSE) and not projection.visual_weight:
        wanted -= {*inspect.get_annotations(Visual)}
    learnt: dict[str, Any] = {name: vars(projection).get(name) for name in wanted}
    if more := {name for name in vars(projection) if name.endswith("_")} - wanted:
        raise ValueError(f"'{min(more)[:80]}', which such a projection does not learn")
    for name in wanted & NUMBERS.keys():
        check_form(learnt[name], NUMBERS[name], name)
    sizes = {"classes": n_classes, "visual": dim_visual, "text": dim_text}
    sizes["mapped"] = dim_text
    if "intercept_" in wanted:  # a classifier, whose columns are classes
        sizes["mapped"] = sizes["fitted"] = np.size(learnt["intercept_"])
    if projection.n_features_in_ != dim_visual:
        raise ValueError(f"a projection of {projection.n_features_in_} features")
    for name in sorted(wanted & SHAPES.keys()):
        check_array(name, learnt[name], SHAPES[name], sizes)
    if "kernels_" in wanted:
        _check_layers(learnt, dim_visual, dim_text)
    if learnt.get("pretrained_"):
        axes = ("f visual rows", "f rows", "f rows text")
        for number, array in enumerate(learnt["pretrained_"]):
            check_array(f"pretrained_/{number}", array, axes[number], sizes)
    if "counts_" in wanted and (learnt["counts_"] < wordless).any():
        raise ValueError("classes with neither images nor a word")
    if "owners_" in wanted:
        owners = learnt["owners_"]
        is_owned = (owners >= 0).sum() == sizes["owned"]
        if not (is_owned and (owners >= -1).all() and (owners < n_classes).all()):
            raise ValueError("owners_ that are no classes")
        shares = learnt["class_shares_"]
        if not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError("class_shares_ that are no shares")


def check_array(name: str, array: Any, form: str, sizes: dict[str, int]) -> None:
    """Raise ValueError for an array of another kind or shape, or of NaN.

    ``form``: kind and axes, such as ``"f classes text"``. ``sizes``: of axes by name;
    new ones are added.
    """
    kind, *axes = form.split()
    if not isinstance(array, np.ndarray):
        raise ValueError(f"no array '{name}'")  # noqa: TRY004 - of a bundle
    if array.dtype.kind != kind or array.ndim != len(axes):
        raise ValueError(f"array '{name}' of {array.dtype} and shape {array.shape}")
    for axis, length in zip(axes, array.shape, strict=True):
        if sizes.setdefault(axis, length) != length:
            raise ValueError(
                f"array '{name}' of shape {array.shape}, beside {sizes[axis]} {axis}"
            )
    with np.errstate(invalid="ignore"):
        if kind == "f" and not (np.abs(array) <= LARGEST).all():
            raise ValueError(f"array '{name}' of NaN or numbers without bounds")


def _check_layers(learnt: Mapping[str, Any], dim_visual: int, dim_text: int) -> None:
    kernels, biases = learnt["kernels_"], learnt["biases_"]
    if not isinstance(kernels, list) or len(kernels) != len(biases) or not kernels:
        raise ValueError("layers that do not fit together")
    axes = ["visual", *(f"layer-{n}" for n in range(1, len(kernels))), "text"]
    sizes = {"visual": dim_visual, "text": dim_text}
    for number, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        before, after = axes[number : number + 2]
        check_array(f"kernels_/{number}", kernel, f"f {before} {after}", sizes)
        check_array(f"biases_/{number}", bias, f"f {after}", sizes)
