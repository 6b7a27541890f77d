import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from tests.test_features import MeanColor, plain
from zeroshot.errors import ArtifactError, ZeroShotWarning
from zeroshot.features import extract_features
from zeroshot.features.store import BATCH_ROWS, FeatureStore, features_limit

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and signals")


def key(number: int) -> bytes:
    return sha256(str(number).encode()).digest()


def fill(path: Path, numbers, dim: int = 3, **options) -> Path:
    """Store a row for each number, which it is made of; return the path."""
    with closing(FeatureStore(path, dim, **options)) as store:
        for number in numbers:
            store.add(key(number), np.full(dim, number, np.float32))
    return path


def held(path: Path, numbers, dim: int = 3, **options) -> list[int]:
    """Return which of the numbers a new store finds; each must have its own row."""
    with closing(FeatureStore(path, dim, **options)) as store:
        rows, found = store.get_many([key(number) for number in numbers])
    wanted = np.where(found, np.array(numbers, np.float32), np.nan)
    np.testing.assert_array_equal(rows, np.repeat(wanted[:, None], dim, axis=1))
    return [n for n, is_found in zip(numbers, found, strict=True) if is_found]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "features" / "store.sqlite"


def run_python(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_feature_store_many_writers_lose_nothing(path):
    def write(start):
        with closing(FeatureStore(path, 3)) as store:
            for number in range(start, start + 50):
                store.add(key(number), np.full(3, number, np.float32))
                store.flush()

    threads = [threading.Thread(target=write, args=(i * 50,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held(path, range(201)) == list(range(200))


def test_feature_store_used_by_threads_gives_each_its_rows(path):
    fill(path, range(300))
    wrong = []
    with closing(FeatureStore(path, 3)) as store:

        def read(seed):
            rng = np.random.default_rng(seed)
            for _ in range(20):
                numbers = rng.integers(0, 400, 128)
                rows, found = store.get_many([key(number) for number in numbers])
                if found.tolist() != (numbers < 300).tolist():
                    wrong.append(numbers)
                if not (rows[found] == numbers[found, None]).all():
                    wrong.append(rows)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_feature_store_later_changes_of_the_row_do_not_matter(path):
    row = np.ones(3, np.float32)
    with closing(FeatureStore(path, 3)) as store:
        store.add(key(1), row)
        row[:] = 5
    assert held(path, [1]) == [1]


def test_feature_store_finds_what_is_not_written_yet(path):
    with closing(FeatureStore(path, 3)) as store:
        store.add(key(1), np.full(3, 1, np.float32))
        rows, found = store.get_many([key(2), key(1), key(1)])
    assert found.tolist() == [False, True, True]
    np.testing.assert_array_equal(rows, [[np.nan] * 3, [1] * 3, [1] * 3])


def test_feature_store_finds_keys_in_any_order_and_repeated(path):
    fill(path, range(0, 300, 2))
    fill(path, range(1, 300, 2))
    order = np.random.default_rng(0).integers(0, 400, 1000).tolist()
    assert held(path, order) == [number for number in order if number < 300]


def test_feature_store_keys_that_end_in_zeros_are_keys_of_their_own(path):
    keys = [b"a" * n + bytes(32 - n) for n in range(1, 33)]
    with closing(FeatureStore(path, 1)) as store:
        for n, one in enumerate(keys):
            store.add(one, np.array([n], np.float32))
        store.flush()
        assert store.get_many(keys)[0].ravel().tolist() == list(range(32))


def test_feature_store_is_no_file_before_something_is_added(path):
    assert held(path, range(3)) == []
    assert not path.parent.exists()


def test_feature_store_deleted_meanwhile_begins_anew(path):
    fill(path, range(5))
    with closing(FeatureStore(path, 3)) as store:
        assert store.get_many([key(1)])[1].all()
        for file in path.parent.iterdir():
            file.unlink()
        assert not store.get_many([key(1)])[1].any()
        store.add(key(2), np.full(3, 2, np.float32))
    assert held(path, range(5)) == [2]


def test_feature_store_row_read_under_a_higher_limit_of_pixels_is_not_found(path):
    fill(path, [1], max_pixels=1000)
    assert held(path, [1], max_pixels=999) == []
    assert held(path, [1], max_pixels=1000) == [1]
    fill(path, [1], max_pixels=100)  # it was read under a lower one, too
    assert held(path, [1], max_pixels=999) == [1]


def test_feature_store_flipped_bit_costs_that_row(path):
    fill(path, range(5), dim=300)
    content = bytearray(path.read_bytes())
    content[content.index(np.full(300, 3, np.float32).tobytes()) + 700] ^= 1
    path.write_bytes(content)
    with pytest.warns(ZeroShotWarning, match="1 rows with another checksum"):
        assert held(path, range(5), dim=300) == [0, 1, 2, 4]
    assert held(path, range(5), dim=300) == [0, 1, 2, 4]  # no warning any more
    fill(path, [3], dim=300)
    assert held(path, range(5), dim=300) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "text", "other table"])
def test_feature_store_damaged_database_is_made_anew(path, damage):
    fill(path, range(50), dim=300)
    size = path.stat().st_size
    if damage == "other table":
        path.unlink()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE rows (id, something)")
    else:
        whole = path.read_bytes()
        texts = {"cut": whole[: size // 2], "empty": b"", "text": b"Dear reader " * 999}
        path.write_bytes(texts.get(damage, bytes(size)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(held(path, range(50), dim=300)) < 50
        fill(path, range(50), dim=300)
    assert len(caught) == (damage != "empty")
    assert all(one.category is ZeroShotWarning for one in caught)
    assert held(path, range(50), dim=300) == list(range(50))


def test_feature_store_over_its_limit_drops_what_was_not_used_longest(
    path, monkeypatch
):
    other = path.with_name("other.sqlite")
    for file in (other, path):
        fill(file, range(3000), dim=300)
    os.utime(other, (time.time() - 9000,) * 2)
    size = path.stat().st_size
    old = path.parent / ("0f" * 16) / ("0a" * 16 + ".features")
    old.parent.mkdir()
    old.write_bytes(bytes(size))
    monkeypatch.setenv("ZEROSHOT_FEATURES_LIMIT", str(3.5 * size / 1024) + "KB")
    fill(path, [3000], dim=300)
    assert old.exists()  # all that is there fits
    monkeypatch.setenv("ZEROSHOT_FEATURES_LIMIT", str(1.6 * size / 1024) + "KB")
    fill(path, [3001], dim=300)
    assert not old.exists()
    assert held(path, range(3002), dim=300) == list(range(3002))
    kept = held(other, range(3000), dim=300)
    assert 900 < len(kept) < 1800
    assert kept == list(range(3000))[-len(kept) :]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE used SET at = at - 9000 * (block + 1)")
        connection.commit()
    assert held(path, [2500], dim=300) == [2500]  # the oldest is the last used now
    os.utime(path, (time.time() - 9000,) * 2)
    monkeypatch.setenv("ZEROSHOT_FEATURES_LIMIT", str(0.7 * size / 1024) + "KB")
    fill(path, [3002], dim=300)
    assert not other.exists()
    kept = held(path, range(3003), dim=300)
    assert kept[-2:] == [3001, 3002]
    assert 2500 in kept
    assert not {*range(1023, 2047)} & {*kept}
    assert path.stat().st_size < 0.7 * size


def test_feature_store_limit_of_nothing_keeps_nothing_and_still_works(monkeypatch):
    monkeypatch.setenv("ZEROSHOT_FEATURES_LIMIT", "0")
    images, colors = plain(BATCH_ROWS + 50)
    for _ in range(2):
        backbone = MeanColor()
        result = extract_features(images, backbone)
        np.testing.assert_array_equal(result.matrix, colors)
        assert sum(backbone.batches) == len(images)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("", 10 << 30),
        ("12345", 12345),
        ("500MB", 500 << 20),
        ("1.5 gib", 3 << 29),
        ("2T", 2 << 40),
    ],
)
def test_features_limit_reads_sizes(text, limit, monkeypatch):
    monkeypatch.setenv("ZEROSHOT_FEATURES_LIMIT", text)
    assert features_limit() == limit


@pytest.mark.parametrize("text", ["much", "-1", "10 PB", "1e9"])
def test_features_limit_refuses_what_is_no_size(text, monkeypatch):
    monkeypatch.setenv("ZEROSHOT_FEATURES_LIMIT", text)
    backbone = MeanColor()
    with pytest.raises(ArtifactError, match="ZEROSHOT_FEATURES_LIMIT"):
        extract_features(plain(2)[0], backbone)
    assert backbone.batches == []


READ_ONLY = """
import os, sys, warnings
import numpy as np
import numpy.testing
from pathlib import Path
from tests.test_feature_store import FeatureStore, fill, held, key
path = fill(Path(sys.argv[1]), range(5))
for place, mode in ((path, 0o444), (path.parent, 0o555)):
    place.chmod(mode)
if os.getuid() == 0:
    os.setuid(65534)  # root may write anywhere
assert held(path, range(6)) == [0, 1, 2, 3, 4]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    store = FeatureStore(path, 3)
    store.get_many([key(9)])
    store.add(key(9), np.full(3, 9, np.float32))
    store.flush()
    assert store.get_many([key(1)])[1].all()
    store.close()
print(len(caught), caught[0].message, os.listdir(path.parent))
"""


@POSIX
def test_feature_store_that_may_only_be_read_is_read():
    with tempfile.TemporaryDirectory() as folder:  # pytest's is private
        os.chmod(folder, 0o755)
        said = run_python(READ_ONLY, f"{folder}/features/store.sqlite")
        os.chmod(f"{folder}/features", 0o755)
    assert said.startswith("1 Features are not kept")
    assert said.endswith("['store.sqlite']\n")


FULL_DISK = """
import resource, sys, warnings
import numpy as np
from pathlib import Path
from tests.test_feature_store import FeatureStore, held, key
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # no file gets larger
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    store = FeatureStore(path, 1000)
    for number in range(200):
        store.add(key(number), np.full(1000, number, np.float32))
        if number % 10 == 9:
            store.flush()
    rows, found = store.get_many([key(number) for number in range(200)])
    store.close()
assert (rows[found] == np.flatnonzero(found)[:, None]).all()
assert found[:10].all() and not found[-10:].any()
print(len(caught), caught[0].message)
"""


@POSIX
def test_feature_store_on_a_full_disk_warns_once_and_keeps_what_it_has(path):
    assert run_python(FULL_DISK, path).startswith("1 Features are not kept")
    kept = held(path, range(200), dim=1000)
    assert 10 <= len(kept) < 100
    assert fill(path, range(200), dim=1000)
    assert held(path, range(200), dim=1000) == list(range(200))


FORK = """
import os, sys
import numpy as np
from pathlib import Path
from tests.test_feature_store import FeatureStore, held, key
path = Path(sys.argv[1])
store = FeatureStore(path, 3)
children = []
for number in range(30):
    store.add(key(number), np.full(3, number, np.float32))
    store.flush()
    if (child := os.fork()) == 0:
        rows, found = store.get_many([key(number)])
        assert found.all() and (rows == number).all()
        store.add(key(100 + number), np.full(3, 100 + number, np.float32))
        store.close()
        os._exit(0)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 30
store.close()
wanted = [*range(30), *range(100, 130)]
assert held(path, wanted) == wanted
"""


@POSIX
def test_feature_store_opened_before_a_fork_serves_both(path):
    run_python(FORK, path)


KILLS = """
import os, random, signal, sys, time, warnings
import numpy as np
from pathlib import Path
from tests.test_feature_store import FeatureStore, key

path, n_processes, n_kills, seed = Path(sys.argv[1]), *map(int, sys.argv[2:])
warnings.simplefilter("error")  # a killed process damages nothing
KEYS = [key(number) for number in range(3000)]

def work(seed, rounds):
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        store = FeatureStore(path, 500)
        numbers = rng.integers(0, len(KEYS), 60)
        rows, found = store.get_many([KEYS[number] for number in numbers])
        assert (rows[found] == numbers[found, None]).all()
        for number in numbers[~found]:
            store.add(KEYS[number], np.full(500, number, np.float32))
            if rng.random() < 0.1:
                store.flush()
        store.close()

def start(number, rounds):
    if (child := os.fork()) == 0:
        status = 1
        try:
            work([seed, number], rounds)
            status = 0
        finally:
            os._exit(status)
    return child

random.seed(seed)
alive = [start(number, 10**9) for number in range(n_processes)]
for number in range(n_kills):
    time.sleep(random.random() * 0.05)
    victim = alive.pop(random.randrange(len(alive)))
    os.kill(victim, signal.SIGKILL)
    assert os.waitpid(victim, 0)[1] == signal.SIGKILL, "it failed before it was killed"
    alive.append(start(n_processes + number, 10**9))
for child in alive:
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it failed before it was killed"
last = start(-1 % 2**32, 5)
assert os.waitpid(last, 0)[1] == 0
store = FeatureStore(path, 500)
rows, found = store.get_many(KEYS)
assert (rows[found] == np.flatnonzero(found)[:, None]).all()
assert store.damage() == ""
print(found.sum())
"""


@POSIX
@pytest.mark.parametrize(
    ("n_processes", "n_kills"),
    [(3, 25), pytest.param(8, 250, marks=pytest.mark.slow)],
)
def test_feature_store_killed_processes_damage_nothing(path, n_processes, n_kills):
    assert int(run_python(KILLS, path, n_processes, n_kills, 0)) > 500


@pytest.mark.parametrize("n_flips", [200, pytest.param(6000, marks=pytest.mark.slow)])
def test_feature_store_flipped_bits_give_no_wrong_row_and_no_error(tmp_path, n_flips):
    source = tmp_path / "whole" / "store.sqlite"
    fill(source, range(40), dim=200)
    open_store = FeatureStore(source, 200)  # so the log stays
    for number in range(40, 80):
        open_store.add(key(number), np.full(200, number, np.float32))
    open_store.flush()
    contents = {file.name: file.read_bytes() for file in source.parent.iterdir()}
    open_store.close()
    contents.pop("store.sqlite-shm")
    rng = np.random.default_rng(0)
    path = tmp_path / "features" / source.name
    said = turns = 0
    while n_flips > 0:
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        for name, content in contents.items():
            (path.parent / name).write_bytes(content)
        flipped = path.with_name(str(rng.choice(list(contents))))
        content = bytearray(contents[flipped.name])
        # Half of the flips at the beginning, where what describes the file is.
        end = rng.choice([len(content), 200])
        for place in rng.integers(0, end, rng.integers(1, 4)):
            content[place] ^= 1 << rng.integers(8)
            n_flips -= 1
        flipped.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            held(path, range(80), dim=200)
            fill(path, range(80), dim=200)
            held(path, range(80), dim=200)
        assert all(one.category is ZeroShotWarning for one in caught)
        said, turns = said + bool(caught), turns + 1
    assert said > turns / 10
