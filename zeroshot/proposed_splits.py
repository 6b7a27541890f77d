"""The benchmark of Xian et al.: features, class attributes and proposed splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from zeroshot.embeddings import Attributes
from zeroshot.embeddings.matlab_file import read_matlab
from zeroshot.errors import ArtifactError
from zeroshot.splits import ZeroShotSplit

__all__ = ["ProposedSplit", "load_proposed_split"]

LOCATIONS = ("train_loc", "val_loc", "trainval_loc", "test_seen_loc", "test_unseen_loc")


@dataclass(frozen=True)
class ProposedSplit:
    """One data set of the benchmark, ready for `zeroshot.evaluate`.

    Attributes
    ----------
    features : ndarray of shape (n, dim_visual), float32
        Published features of the images.
    labels : ndarray of shape (n,), str
        Their classes, as the attributes call them ("grizzly+bear").
    image_files : list of str
        Path of each image on its publisher's machine; empty if the file has none.
    attributes : Attributes
        The class attributes, for ``embeddings``.
    split : ZeroShotSplit
        The split that results are published on.
    validation : ZeroShotSplit
        To choose parameters on: training and validation classes, both of the seen ones.
        The test images of seen classes, which the published lists have here too, are
        left out, so that nothing is chosen on them.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.str_]
    image_files: list[str]
    attributes: Attributes
    split: ZeroShotSplit
    validation: ZeroShotSplit


def load_proposed_split(features: str | Path, att_splits: str | Path) -> ProposedSplit:
    """Read a data set in the form in which Xian et al. publish it.

    Parameters
    ----------
    features : str or Path
        ``res101.mat``: ``features`` (dim, n), ``labels`` (n, 1), the numbers of the
        classes from 1, and ``image_files``, cells of text.
    att_splits : str or Path
        ``att_splits.mat``: ``att`` (dim, n_classes), ``allclasses_names``, and the
        numbers of the images from 1, ``trainval_loc``, ``test_seen_loc``,
        ``test_unseen_loc``, ``train_loc`` and ``val_loc``.

    Returns
    -------
    benchmark : ProposedSplit

    Raises
    ------
    ArtifactError
        If a file is missing or damaged, the two do not fit together, or a class is
        among the seen and the unseen ones.

    References
    ----------
    .. [1] Xian et al., "Zero-Shot Learning - A Comprehensive Evaluation of the Good,
       the Bad and the Ugly", TPAMI 2018, section 5.1 (proposed splits).

    Examples
    --------
    >>> from zeroshot import evaluate
    >>> awa2 = load_proposed_split(
    ...     "AWA2/res101.mat", "AWA2/att_splits.mat"
    ... )  # doctest: +SKIP
    >>> evaluate(
    ...     awa2.features, awa2.labels, None, awa2.attributes, splits=[awa2.split]
    ... )  # doctest: +SKIP
    """
    features, att_splits = Path(features), Path(att_splits)
    images = _read(features, ("features", "labels"), ("image_files",))
    classes = _read(att_splits, ("allclasses_names", *LOCATIONS))
    matrix = images["features"]
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        _fail(features, "'features' (dim, n)", f"the shape {matrix.shape}")
    matrix = np.ascontiguousarray(matrix.T, dtype=np.float32)
    if not np.isfinite(matrix).all():
        _fail(features, "finite 'features'", "NaN or infinite ones")
    names = classes["allclasses_names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        _fail(att_splits, "cells of text in 'allclasses_names'", f"{names.dtype}")
    number = _numbers(images["labels"], len(names), features, "labels")
    if len(number) != len(matrix):
        _fail(features, f"{len(matrix)} 'labels', as features", f"{len(number)}")
    labels = names[number]
    train, val, trainval, seen_test, unseen_test = (
        np.sort(_numbers(classes[name], len(matrix), att_splits, name))
        for name in LOCATIONS
    )
    train, val = np.intersect1d(train, trainval), np.intersect1d(val, trainval)
    return ProposedSplit(
        matrix,
        labels,
        images.get("image_files", np.array([], np.str_)).ravel().tolist(),
        Attributes(att_splits),
        _split(att_splits, labels, trainval, seen_test, unseen_test),
        _split(att_splits, labels, train, np.array([], np.intp), val),
    )


def _split(
    path: Path,
    labels: NDArray[np.str_],
    train: NDArray[np.intp],
    seen_test: NDArray[np.intp],
    unseen_test: NDArray[np.intp],
) -> ZeroShotSplit:
    seen, unseen = np.unique(labels[train]), np.unique(labels[unseen_test])
    if both := np.intersect1d(seen, unseen).tolist():
        _fail(path, "seen and unseen classes apart", f"{both[0]!r} among both")
    if stray := np.setdiff1d(labels[seen_test], seen).tolist():
        _fail(path, "test images of seen classes", f"{stray[0]!r}, not trained on")
    if np.intersect1d(train, seen_test).size:
        _fail(path, "training and test images apart", "images among both")
    return ZeroShotSplit(seen, unseen, train, seen_test, unseen_test)


def _read(
    path: Path, needed: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, NDArray[Any]]:
    found = read_matlab(path, (*needed, *optional))
    if missing := [name for name in needed if name not in found]:
        _fail(path, f"the variable '{missing[0]}'", "a file without it")
    return found


def _numbers(
    values: NDArray[Any], largest: int, path: Path, name: str
) -> NDArray[np.intp]:
    """Return MATLAB's numbers, which count from 1, as positions."""
    flat = np.ravel(values)
    if flat.dtype.kind not in "fiu" or flat.size == 0:
        _fail(path, f"numbers in '{name}'", f"{flat.size} of {flat.dtype}")
    if not ((flat >= 1) & (flat <= largest) & (flat == np.floor(flat))).all():
        expected = f"whole numbers from 1 to {largest} in '{name}'"
        _fail(path, expected, f"{flat.min()} to {flat.max()}")
    return flat.astype(np.intp) - 1


def _fail(path: Path, expected: str, got: str) -> NoReturn:
    raise ArtifactError(
        f"Expected {expected} in '{path}'. Got {got}. Give res101.mat and "
        f"att_splits.mat of the same data set, as published."
    )
