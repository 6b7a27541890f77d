"""Vector files for tests, and processes that read them to be started and killed."""

import bz2
import gzip
import lzma
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

# Put before `LOOKUP`: no file can grow beyond 1,000 bytes, as on a full disk.
NO_ROOM = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
"""
LOOKUP = """
import sys, numpy as np
from zeroshot.embeddings import open_vectors
embeddings = open_vectors(sys.argv[1])
embeddings.dim
print("ready", flush=True)
vectors, found = embeddings.lookup(sys.argv[2:])
print(found.tolist(), vectors[found].tobytes().hex())
"""


def packed(content: bytes, packing: str, path: Path) -> Path:
    if packing == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("folder/vectors", content)
            archive.writestr("__MACOSX/folder/._vectors", b"junk")
    else:
        pack = {"plain": bytes, "gz": gzip.compress, "bz2": bz2.compress}
        path.write_bytes(pack.get(packing, lzma.compress)(content))
    return path


def written(words: list[str], vectors: np.ndarray, form: str) -> bytes:
    tokens = [word.encode("utf-8", "surrogateescape") for word in words]
    header = b"%d %d\n" % vectors.shape
    if form in ("binary", "c-binary"):
        end = b"\n" if form == "c-binary" else b""
        rows = [
            token + b" " + row.astype("<f4").tobytes() + end
            for token, row in zip(tokens, vectors, strict=True)
        ]
        return header + b"".join(rows)
    end = {"vec": b" \n", "crlf": b"\r\n", "blank": b"\n\n \n"}.get(form, b"\n")
    rows = [
        b" ".join([token, *(repr(float(x)).encode() for x in row)])
        for token, row in zip(tokens, vectors, strict=True)
    ]
    text = end.join(rows)
    return text if form == "glove" else header + text + end


def model_file(words: list[str], dim: int) -> bytes:
    """Return a fastText ``.bin`` of words and 40 buckets of n-grams."""
    rows = np.random.default_rng(0).normal(size=(len(words) + 40, dim))
    n = len(words)
    arguments = (dim, 5, 5, 1, 5, 1, 1, 2, 40, 3, 5, 100)
    head = struct.pack("<ii12id", 793712314, 12, *arguments, 1e-4)
    entries = [word.encode() + b"\0" + struct.pack("<qb", 1, 0) for word in words]
    dictionary = struct.pack("<3i2q", n, n, 0, n, -1) + b"".join(entries)
    shape = struct.pack("<?2q", False, *rows.shape)
    return head + dictionary + shape + rows.astype("<f4").tobytes()


def start_lookup(path: Path, *words: str, before: str = "") -> subprocess.Popen[str]:
    """Start a process that prints "ready" and then looks words up."""
    return subprocess.Popen(
        [sys.executable, "-c", before + LOOKUP, str(path), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed(found: list[bool], vectors: np.ndarray) -> str:
    return f"{found} {vectors.astype(np.float32).tobytes().hex()}"
