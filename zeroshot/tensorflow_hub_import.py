"""The one door to tensorflow_hub, and what its import needs that may be missing.

Its last release, 0.16.1 of January 2024, imports `pkg_resources`, which setuptools has
no more since version 82, and tf-keras, each release of which goes with one minor
version of TensorFlow: pyproject says from which one on.
"""

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from zeroshot.errors import PluginError
from zeroshot.per_process import PerProcess
from zeroshot.tensorflow_import import import_tensorflow

__all__ = ["import_tensorflow_hub"]

MISSING = "pkg_resources"
_LOCK = PerProcess(threading.Lock)


def import_tensorflow_hub(*, to_run: bool = True) -> ModuleType:
    """Import tensorflow_hub and TensorFlow, quietly.

    Parameters
    ----------
    to_run : bool, default=True
        As for `zeroshot.tensorflow_import.import_tensorflow`.

    Returns
    -------
    tensorflow_hub : module

    Raises
    ------
    PluginError
        If it cannot be imported beside the TensorFlow that is installed, or as
        `import_tensorflow` says.
    """
    tensorflow = import_tensorflow(to_run=to_run)
    with _LOCK():
        if "tensorflow_hub" in sys.modules:
            return import_module("tensorflow_hub")
        try:
            with _package_resources():
                return import_module("tensorflow_hub")
        except Exception as error:  # tf-keras beside a foreign TensorFlow: any
            minor = ".".join(tensorflow.__version__.split(".")[:2])
            raise PluginError(
                f"Expected tensorflow-hub and tf-keras that go with TensorFlow "
                f"{tensorflow.__version__}. Got {type(error).__name__}: {error}. "
                f"Install them: pip install tensorflow-hub 'tf-keras~={minor}.0'"
            ) from error


@contextmanager
def _package_resources() -> Iterator[None]:
    """Let `pkg_resources.parse_version` be imported, without a word."""
    if MISSING in sys.modules or find_spec(MISSING) is not None:
        with warnings.catch_warnings():
            # Of setuptools 67.5 to 81, to those who still import it.
            warnings.filterwarnings("ignore", message=".*pkg_resources")
            yield
        return
    from packaging.version import parse

    stand_in = ModuleType(MISSING)
    stand_in.parse_version = parse  # type: ignore[attr-defined]
    sys.modules[MISSING] = stand_in
    try:
        yield
    finally:
        del sys.modules[MISSING]
