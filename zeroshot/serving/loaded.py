"""What a worker reads once: models, by what they were asked for."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from zeroshot.per_process import PerProcess

__all__ = ["loaded"]

T = TypeVar("T")
MOST_LOADED = 2  # models of a process; one that serves many keeps the last ones

_LOADED = PerProcess(lambda: (threading.Lock(), OrderedDict[Hashable, Any]()))


def loaded(key: Hashable, make: Callable[[], T]) -> T:
    """Return what was made under a key before in this process, else make it."""
    lock, things = _LOADED()
    with lock:
        if key not in things:
            # Read by TensorFlow when it starts: it would take all memory of a GPU, and
            # leave none for the other workers.
            os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
            while len(things) >= MOST_LOADED:
                things.popitem(last=False)
            things[key] = make()
        things.move_to_end(key)
        found: T = things[key]
        return found
