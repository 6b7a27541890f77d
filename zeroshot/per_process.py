"""What a forked process cannot use of its parent's: handles of runtimes, and locks.

LiteRT and ONNX Runtime keep pools of threads, and a forked process has no thread but
the one that forked: a call would wait for the others for ever. So would one for a lock
that another thread held at that moment.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

__all__ = ["LOADING", "PerProcess"]

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that each process makes for itself, when it first needs it.

    Parameters
    ----------
    make : callable
        Makes the value, and needs nothing for it that only the first process has. One
        thread makes it, the others wait.

    Examples
    --------
    >>> process = PerProcess(os.getpid)
    >>> process() == os.getpid()
    True
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        self._lock = threading.RLock()
        _ALL.add(self)

    def __call__(self) -> T:
        """Return this process' value."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]

    def _forget(self) -> None:
        for value in self._made:
            # Never destroyed, not even at exit: that would join threads that are gone.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
        self._made, self._lock = [], threading.RLock()


_ALL: WeakSet[PerProcess[Any]] = WeakSet()


def _forget_all() -> None:
    for each in list(_ALL):
        each._forget()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_all)

LOADING = PerProcess(threading.RLock)
"""``with LOADING():`` one network is built at a time: Keras has global settings."""
