"""Variables of a MATLAB file, read by SciPy in a process of its own.

Damaged files crash SciPy's reader (1.17.1: of 1,500 small files with one changed byte
32 ended the process, and one asked for 6 GB), so it is not let into this one.
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroshot.errors import ArtifactError
from zeroshot.storage.arrays import LARGEST_RATIO, NEVER_A_BOMB, open_arrays

__all__ = ["read_matlab"]

TIME_LIMIT = 60  # seconds, and one for each MB of the file
MEMORY_LIMIT = 1 << 30  # bytes, and 20 for each one of the file, which may be packed


def read_matlab(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Read variables by name; others are passed over.

    ``path``: MATLAB 4 to 7, compressed or not. Returns variables: numbers and text as
    SciPy gives them, in MATLAB's shape; a cell array of text as a 1-D array of str,
    column by column. Those that the file lacks are left out. Raises ArtifactError if
    the file is missing, of another version or damaged, or a variable holds something
    else.
    """
    if not path.is_file():
        raise ArtifactError(
            f"Expected a MATLAB file at '{path}'. Got "
            f"{'another thing' if path.exists() else 'nothing there'}. Check the path."
        )
    with TemporaryDirectory() as folder:
        out = Path(folder) / "variables.npz"
        command = [sys.executable, "-P", "-m", __name__, str(path), str(out), *names]
        search = {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
        try:
            subprocess.run(
                command,
                capture_output=True,
                env={**os.environ, **search},
                timeout=TIME_LIMIT + path.stat().st_size // 1_000_000,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (error.stderr or b"").decode(errors="replace").strip()
            raise ArtifactError(
                f"Expected a whole MATLAB file of version 4 to 7. Got '{path}', which "
                f"SciPy cannot read ({said.rpartition(chr(10))[2] or 'it crashes'}). "
                f"Save it in MATLAB with the option '-v7', or fetch it again."
            ) from None
        size, largest = path.stat().st_size, out.stat().st_size
        if largest > max(NEVER_A_BOMB, LARGEST_RATIO * size):
            raise ArtifactError(
                f"Expected a MATLAB file some times as large unpacked. Got "
                f"{largest >> 20} MiB in '{path}', packed in {size} bytes. Save it "
                f"again with the option '-v6' if you trust it."
            )
        with open_arrays(out) as variables:
            return {name: variables.read(name) for name in variables.names}


def _extract(path: Path, out: str, names: list[str]) -> None:
    """Write the variables as an .npz: what the other process does."""
    with suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        limit = MEMORY_LIMIT + 20 * path.stat().st_size
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    from scipy.io import loadmat

    found = loadmat(path, variable_names=names)
    np.savez(
        out, **{name: _plain(name, found[name]) for name in names if name in found}
    )


def _plain(name: str, value: Any) -> Any:
    kind = value.dtype.kind if isinstance(value, np.ndarray) else type(value).__name__
    if kind == "O":  # a cell array; the text of a cell is an array of none or one str
        cells = [np.asarray(cell) for cell in value.ravel(order="F")]
        if all(cell.dtype.kind == "U" and cell.size <= 1 for cell in cells):
            return np.array(["".join(cell.ravel()) for cell in cells], dtype=np.str_)
    elif kind in "fiubcU":
        return value
    raise TypeError(f"'{name}' is no array of numbers, text or cells of text")


if __name__ == "__main__":
    _extract(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
