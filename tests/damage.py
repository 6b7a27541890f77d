"""Damaged copies of a file's content, the same ones in every run with one seed."""

import os
from collections.abc import Iterator

import numpy as np


def n_cases(small: int, large: int) -> int:
    """Return ``large`` where the environment says ``ZEROSHOT_FUZZ=1``."""
    return large if os.environ.get("ZEROSHOT_FUZZ") == "1" else small


def flips(content: bytes, n: int, seed: int) -> Iterator[bytes]:
    """Yield ``n`` copies of ``content``, each with one bit changed."""
    random = np.random.default_rng(seed)
    for _ in range(n):
        yield _flipped(content, random)


def mutations(content: bytes, n: int, seed: int) -> Iterator[bytes]:
    """Yield ``n`` copies, each differing from ``content`` by one to three damages.

    A damage is a changed bit, an end cut off, a range that is removed, doubled,
    zeroed or copied over another place, or bytes put between.
    """
    random = np.random.default_rng(seed)
    yielded = 0
    while yielded < n:
        damaged = content
        for _ in range(int(random.integers(1, 4))):
            damage = _DAMAGES[int(random.integers(len(_DAMAGES)))]
            damaged = damage(damaged, random)
        if damaged != content:
            yielded += 1
            yield damaged


def _flipped(content: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[int(random.integers(len(changed)))] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: int(random.integers(len(content) + 1))]


def _removed(content: bytes, random: np.random.Generator) -> bytes:
    start, stop = _range(content, random)
    return content[:start] + content[stop:]


def _doubled(content: bytes, random: np.random.Generator) -> bytes:
    start, stop = _range(content, random)
    return content[:stop] + content[start:stop] + content[stop:]


def _zeroed(content: bytes, random: np.random.Generator) -> bytes:
    start, stop = _range(content, random)
    return content[:start] + bytes(stop - start) + content[stop:]


def _inserted(content: bytes, random: np.random.Generator) -> bytes:
    place = int(random.integers(len(content) + 1))
    return content[:place] + random.bytes(int(random.integers(1, 64))) + content[place:]


def _spliced(content: bytes, random: np.random.Generator) -> bytes:
    start, stop = _range(content, random)
    place = int(random.integers(len(content) + 1))
    return content[:place] + content[start:stop] + content[place + stop - start :]


def _range(content: bytes, random: np.random.Generator) -> tuple[int, int]:
    """Return a range within the content, short ones as often as long ones."""
    start = int(random.integers(len(content) + 1))
    length = int(2 ** random.uniform(0, np.log2(len(content) + 2)))
    return start, min(start + length, len(content))


_DAMAGES = (_flipped, _cut, _removed, _doubled, _zeroed, _inserted, _spliced)
