"""Fixtures that many tests share."""

import os
import signal
from pathlib import Path

import pytest

# A background job of a shell ignores Ctrl-C, and so would the programs that tests start
# and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Path:
    """Give every test a cache of its own; nobody's real cache is touched."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ZEROSHOT_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real weights, vectors and photographs, or skip the test."""
    named = os.environ.get("ZEROSHOT_DATA")
    if not named:
        pytest.skip("needs real data: set ZEROSHOT_DATA to the folder that holds it")
    return Path(named).resolve()
