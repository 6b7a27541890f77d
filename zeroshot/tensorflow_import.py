"""The one door to TensorFlow and Keras: imported late, and quietly."""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from types import ModuleType

from zeroshot.errors import PluginError
from zeroshot.per_process import PerProcess
from zeroshot.progress import NOBODY_LISTENS

__all__ = ["has_gpu", "import_keras", "import_tensorflow", "stderr_set_aside"]

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, Windows' Linux
_LOCK = PerProcess(threading.Lock)
_RAN_BEFORE_FORK = False  # TensorFlow, in the process that this one was forked from


def import_tensorflow(*, to_run: bool = True) -> ModuleType:
    """Import TensorFlow without the log lines that it prints on stderr.

    A first import takes some 5 s. Where the user has set ``TF_CPP_MIN_LOG_LEVEL``,
    nothing is silenced. Otherwise that variable is set to 3 (TensorFlow's messages
    about missing GPUs come later than its import), and file descriptor 2 points
    elsewhere while the import runs, because TensorFlow 2.21 prints its first lines at
    every level. Should the import fail, all that it printed is shown.

    Parameters
    ----------
    to_run : bool, default=True
        Whether operations will be run. LiteRT, the version and the list of devices do
        not need that.

    Returns
    -------
    tensorflow : module

    Raises
    ------
    ImportError
        As TensorFlow raised it.
    PluginError
        If operations would never end: this process was forked from one in which
        TensorFlow ran, and lacks its threads.
    """
    if to_run and _RAN_BEFORE_FORK:
        raise PluginError(
            "Expected TensorFlow to run in a process that has its threads. Got one "
            "that was forked after TensorFlow had run, where it would wait for ever. "
            "Start processes with 'spawn' or 'forkserver' "
            "(multiprocessing.get_context), or fork before the first fit or predict."
        )
    with _LOCK():
        if "tensorflow" in sys.modules or LOG_LEVEL in os.environ:
            return import_module("tensorflow")
        os.environ[LOG_LEVEL] = "3"
        with stderr_set_aside():
            return import_module("tensorflow")


def import_keras() -> ModuleType:
    """Import Keras, quietly, on the TensorFlow backend.

    Returns
    -------
    keras : module

    Raises
    ------
    ImportError
        As TensorFlow or Keras raised it.
    PluginError
        If Keras is configured for another backend, or as `import_tensorflow` says.
    """
    import_tensorflow()
    keras = import_module("keras")
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise PluginError(
            f"Expected Keras on the 'tensorflow' backend. Got '{backend}'. Set the "
            f"environment variable KERAS_BACKEND=tensorflow before Python starts."
        )
    return keras


def has_gpu() -> bool:
    """Tell whether TensorFlow would run networks on a GPU.

    Only where a driver of one is there is TensorFlow imported and asked.

    Returns
    -------
    has_gpu : bool
    """
    if sys.platform == "linux" and not any(map(os.path.exists, GPU_DRIVERS)):
        return False
    return bool(import_tensorflow(to_run=False).config.list_physical_devices("GPU"))


def _note_fork() -> None:
    global _RAN_BEFORE_FORK
    # Nothing public says whether TensorFlow has started its threads.
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)
    _RAN_BEFORE_FORK |= getattr(context, "_context_handle", None) is not None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_note_fork)


@contextmanager
def stderr_set_aside() -> Iterator[None]:
    """Send file descriptor 2 to a file; show the file's content if the block fails.

    Where that cannot be, for want of a stderr or of room for the file, nothing is done.

    Yields
    ------
    None
    """
    with suppress(*NOBODY_LISTENS):
        sys.stderr.flush()
    with ExitStack() as opened:
        try:
            original = opened.enter_context(os.fdopen(os.dup(2), "wb"))
            aside = opened.enter_context(tempfile.TemporaryFile())
        except OSError:
            yield
            return
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            shutil.copyfileobj(aside, original)
            raise
        finally:
            os.dup2(original.fileno(), 2)
