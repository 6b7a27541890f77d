"""Batches as engines give them, dicts of arrays, DataFrames or Arrow tables, and back.

In: a batch of any of these forms. Out: one column as images, and the same form with
other columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import ArtifactError
from zeroshot.features.block import Features

__all__ = ["column_names", "column_of", "features_of", "images_of", "with_columns"]

NO_FEATURES = "It has no features."


def column_names(batch: Any) -> list[str]:
    """Return the names of a batch's columns.

    Parameters
    ----------
    batch : dict of arrays, DataFrame, pyarrow.Table or RecordBatch

    Returns
    -------
    names : list of str
    """
    if isinstance(batch, Mapping):
        return list(batch)
    if hasattr(batch, "schema"):
        return list(batch.schema.names)
    if hasattr(batch, "columns") and hasattr(batch, "to_numpy"):
        return [str(name) for name in batch.columns]
    raise ArtifactError(
        f"Expected a batch: a dict of arrays, a DataFrame or an Arrow table. Got "
        f"'{type(batch).__name__}'. Choose another batch_format."
    )


def column_of(batch: Any, name: str) -> Sequence[Any] | NDArray[Any]:
    """Return a column: an array, or a list where it is not of numbers.

    Parameters
    ----------
    batch : dict of arrays, DataFrame, pyarrow.Table or RecordBatch
    name : str

    Returns
    -------
    column : ndarray or list

    Raises
    ------
    ArtifactError
        If there is no such column.
    """
    names = column_names(batch)
    if name not in names:
        raise ArtifactError(
            f"Expected a column {name!r} with the images. Got "
            f"{', '.join(map(repr, names)) or 'no column'}. Name it (image_column)."
        )
    column: Any = batch[name]
    if isinstance(batch, Mapping):
        return column if isinstance(column, np.ndarray) else list(column)
    if not hasattr(batch, "schema"):
        values: NDArray[Any] = column.to_numpy()
        return values
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    if hasattr(column, "chunks"):  # combined, but of an extension's type
        column = column.chunk(0) if column.num_chunks else column
    size = getattr(column.type, "list_size", -1)
    if size > 0 and column.null_count == 0:
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat).reshape(-1, size)
    kind = str(column.type)
    if kind.startswith(("binary", "large_binary", "string", "large_string", "list")):
        found: list[Any] = column.to_pylist()
        return found
    array: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array


def features_of(
    column: Sequence[Any] | NDArray[Any],
    reasons: Sequence[Any] | NDArray[Any] | None = None,
) -> Features | None:
    """Return a column of features, or None where it holds images.

    Parameters
    ----------
    column : ndarray or list
        Of features: numbers of shape (n, dim), or n rows of dim numbers.
    reasons : sequence of length n, optional
        Why a row has none; None or "" where it has.

    Returns
    -------
    features : Features or None
        ``errors`` has the rows that are missing or not finite.
    """
    matrix = _matrix(column)
    if matrix is None:
        return None
    errors = {
        i: str((reasons[i] if reasons is not None else "") or NO_FEATURES)
        for i in np.flatnonzero(~np.isfinite(matrix).all(axis=1)).tolist()
    }
    return Features(matrix, errors, np.arange(len(matrix)))


def _matrix(column: Sequence[Any] | NDArray[Any]) -> NDArray[np.float32] | None:
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiu":
        return column.astype(np.float32) if column.ndim == 2 else None
    rows = [None if row is None else np.asarray(row) for row in column]
    first = next((row for row in rows if row is not None), None)
    if first is None or first.ndim != 1 or first.dtype.kind not in "fiu":
        return None
    nothing = np.full(len(first), np.nan, np.float32)
    return np.stack([nothing if row is None else row for row in rows], dtype=np.float32)


def images_of(column: Sequence[Any] | NDArray[Any]) -> list[Any]:
    """Return a column of images as a list: bytes, paths or arrays."""
    if isinstance(column, np.ndarray) and column.dtype.kind not in "OSU":
        return list(column)
    return list(column)


def with_columns(
    batch: Any, without: Sequence[str], columns: Mapping[str, Any], schema: Any
) -> Any:
    """Return a batch of the same form with other columns.

    Parameters
    ----------
    batch : dict of arrays, DataFrame, pyarrow.Table or RecordBatch
        Not changed. Of a record batch a table is made.
    without : sequence of str
        Columns that are left out.
    columns : mapping of str to ndarray or list
        New ones; text as a list, with None where there is none.
    schema : callable
        Gives the type of a new column in Arrow, by its name.

    Returns
    -------
    batch : dict of arrays, DataFrame or pyarrow.Table
        In a dict text is never None, but empty.
    """
    if isinstance(batch, Mapping):
        kept = {k: v for k, v in batch.items() if k not in without}
        return kept | {name: _plain(values) for name, values in columns.items()}
    if not hasattr(batch, "schema"):
        values = {n: list(v) if _is_rows(v) else v for n, v in columns.items()}
        return batch.drop(columns=list(without)).assign(**values)
    import pyarrow as pa

    table = batch if hasattr(batch, "append_column") else None
    if table is None or isinstance(batch, pa.RecordBatch):
        table = pa.Table.from_batches([batch])
    table = table.drop_columns(list(without))
    for name, column in columns.items():
        kind = schema(name)
        if _is_rows(column):
            flat = pa.array(np.ascontiguousarray(column).ravel(), kind.value_type)
            made = pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
        else:
            made = pa.array(column, kind)
        table = table.append_column(pa.field(name, kind), made)
    return table


def _is_rows(column: Any) -> bool:
    return isinstance(column, np.ndarray) and column.ndim == 2


def _plain(values: Any) -> NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    return np.array([value or "" for value in values], np.str_)
