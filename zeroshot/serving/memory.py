"""What the service remembers: a bounded number of things, the last used ones."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Memory"]

T = TypeVar("T")


class Memory(Generic[T]):
    """The things used last, by key; threads may share it.

    Parameters
    ----------
    most : int
        How many things are kept.
    most_bytes : int or None, default=None
        What they may take together.
    n_bytes : callable, optional
        Tells how much one takes.

    Examples
    --------
    >>> memory = Memory(2)
    >>> for key in "aba":
    ...     memory.keep(key, key.upper())
    >>> memory.keep("c", "C")
    >>> memory.find("a"), memory.find("b")
    ('A', None)
    """

    def __init__(
        self,
        most: int,
        most_bytes: int | None = None,
        n_bytes: Callable[[T], int] = lambda thing: 0,
    ) -> None:
        self._most, self._most_bytes, self._size_of = most, most_bytes, n_bytes
        self._things: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._things)

    def find(self, key: Hashable) -> T | None:
        """Return what is kept under a key, or None."""
        with self._lock:
            thing = self._things.get(key)
            if thing is not None:
                self._things.move_to_end(key)
            return thing

    def keep(self, key: Hashable, thing: T) -> None:
        """Keep a thing, and let the ones go that were not used for longest.

        One that alone is larger than all may be is not kept.
        """
        size = self._size_of(thing)
        if self._most_bytes is not None and size > self._most_bytes:
            return
        with self._lock:
            old = self._things.pop(key, None)
            self.n_bytes += size - (0 if old is None else self._size_of(old))
            self._things[key] = thing
            while len(self._things) > self._most or (
                self._most_bytes is not None and self.n_bytes > self._most_bytes
            ):
                _, gone = self._things.popitem(last=False)
                self.n_bytes -= self._size_of(gone)
