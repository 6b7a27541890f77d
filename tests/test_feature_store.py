import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.test_features import MeanColor, plain
from zeroshot.errors import ArtifactError, ZeroShotWarning
from zeroshot.features import extract_features
from zeroshot.features.store import SEGMENT_ROWS, FeatureStore, features_limit
from zeroshot.images import content_key


def key(number: int) -> bytes:
    return content_key(np.full((1, 1, 3), (*divmod(number, 256), 1), np.uint8))


def fill(folder: Path, numbers, dim: int = 3) -> Path:
    """Write one segment with a row for each number; return its path."""
    before = set(segments(folder))
    with FeatureStore(folder, dim) as store:
        for number in numbers:
            store.add(key(number), np.full(dim, number, np.float32))
    (path,) = set(segments(folder)) - before
    return path


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*.features"))


def held(folder: Path, numbers, dim: int = 3) -> list[int]:
    """Return which of the numbers a new store finds; each must have its own row."""
    with FeatureStore(folder, dim) as store:
        rows, found = store.get_many([key(number) for number in numbers])
    for number, row, is_found in zip(numbers, rows, found, strict=True):
        np.testing.assert_array_equal(row, np.full(dim, number if is_found else np.nan))
    return [n for n, is_found in zip(numbers, found, strict=True) if is_found]


def test_feature_store_many_writers_lose_nothing(tmp_path):
    def write(start):
        with FeatureStore(tmp_path / "store", 3) as store:
            for image, color in zip(*plain(50, start), strict=True):
                store.add(content_key(image), color)
                store.flush()

    threads = [threading.Thread(target=write, args=(i * 50,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with FeatureStore(tmp_path / "store", 3) as store:
        for image, color in zip(*plain(200), strict=True):
            np.testing.assert_array_equal(store.get(content_key(image)), color)
        assert store.get(bytes(32)) is None


def test_feature_store_later_changes_of_the_row_do_not_matter(tmp_path):
    row, key = np.ones(3, np.float32), bytes(32)
    with FeatureStore(tmp_path / "store", 3) as store:
        store.add(key, row)
        row[:] = 5
    with FeatureStore(tmp_path / "store", 3) as store:
        np.testing.assert_array_equal(store.get(key), [1, 1, 1])


def test_feature_store_finds_keys_in_any_order_and_repeated(tmp_path):
    folder = tmp_path / "store"
    fill(folder, range(0, 300, 2))
    fill(folder, range(1, 300, 2))
    order = np.random.default_rng(0).integers(0, 400, 1000).tolist()
    assert held(folder, order) == [number for number in order if number < 300]


def test_feature_store_keys_that_end_in_zeros_are_keys_of_their_own(tmp_path):
    with FeatureStore(tmp_path / "store", 1) as store:
        for n in range(1, 33):
            store.add(b"a" * n + bytes(32 - n), np.array([n], np.float32))
        store.flush()
        for n in range(1, 33):
            assert store.get(b"a" * n + bytes(32 - n)) == [n]


def test_feature_store_many_small_segments_become_one(tmp_path):
    folder = tmp_path / "store"
    for number in range(15):
        fill(folder, [number])
    big = fill(folder, range(100, 100 + SEGMENT_ROWS))
    assert len(segments(folder)) == 16
    with FeatureStore(folder, 3) as store:
        store.add(key(15), np.full(3, 15, np.float32))
    assert len(segments(folder)) == 2
    assert big.exists()
    wanted = [*range(16), *range(100, 100 + SEGMENT_ROWS)]
    assert held(folder, wanted) == wanted


def test_feature_store_finds_what_another_process_merged_meanwhile(tmp_path):
    folder = tmp_path / "store"
    for number in range(15):
        fill(folder, [number])
    with FeatureStore(folder, 3) as store:
        assert store.get(key(3)) is not None
        with FeatureStore(folder, 3) as other:
            other.add(key(99), np.full(3, 99, np.float32))
        assert len(segments(folder)) == 1
        rows, found = store.get_many([key(number) for number in (3, 7, 99)])
    assert found.all()
    assert rows.tolist() == [[3] * 3, [7] * 3, [99] * 3]


def test_feature_store_that_was_cleared_meanwhile_finds_nothing(tmp_path):
    folder = tmp_path / "store"
    path = fill(folder, range(5))
    with FeatureStore(folder, 3) as store:
        assert store.get(bytes(32)) is None  # the index is read
        path.unlink()
        _, found = store.get_many([key(1), key(2)])
    assert found.tolist() == [False, False]


def test_feature_store_damage_of_one_segment_costs_that_one(tmp_path):
    folder = tmp_path / "store"
    fill(folder, range(5))
    damaged = fill(folder, range(5, 10))
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1  # one bit of the last number
    damaged.write_bytes(content)
    with pytest.warns(ZeroShotWarning, match=f"{damaged.name}.*checksum"):
        assert held(folder, range(10)) == list(range(5))
    assert not damaged.exists()


def test_feature_store_over_its_limit_drops_what_was_not_used_longest(
    tmp_path, monkeypatch
):
    folders = [tmp_path / "one", tmp_path / "two"]
    paths = [fill(folders[i % 2], range(100 * i, 100 * i + 100)) for i in range(4)]
    for age, path in enumerate(reversed(paths), start=2):
        os.utime(path, (time.time() - 9000 * age,) * 2)
    size = paths[0].stat().st_size
    assert held(folders[0], [0]) == [0]  # the oldest is the last used now
    monkeypatch.setenv("ZEROSHOT_FEATURES_LIMIT", f"{4.5 * size / 1024:.3f}KB")
    last = fill(folders[1], range(400, 500))
    assert [path.exists() for path in paths] == [True, False, True, True]
    assert last.exists()
    assert held(folders[1], [100, 300, 400]) == [300, 400]


def test_feature_store_limit_of_nothing_keeps_nothing_and_still_works(monkeypatch):
    monkeypatch.setenv("ZEROSHOT_FEATURES_LIMIT", "0")
    images, colors = plain(SEGMENT_ROWS + 50)
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
    with pytest.raises(ArtifactError, match="ZEROSHOT_FEATURES_LIMIT"):
        features_limit()


def test_feature_store_abandoned_temporary_files_go(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    old, new = folder / ".aa-1.features", folder / ".bb-2.features"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    fill(folder, [1])
    assert (old.exists(), new.exists()) == (False, True)


WRITER = """
import sys
import numpy as np
from pathlib import Path
from zeroshot.features.store import FeatureStore
from tests.test_feature_store import key
start = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(start, start + 40):
    with FeatureStore(Path(sys.argv[1]), 3) as store:
        store.add(key(number), np.full(3, number, np.float32))
    print(number, flush=True)
"""


def test_feature_store_processes_write_and_merge_at_once_and_one_is_killed(tmp_path):
    folder = tmp_path / "store"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(start)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for start in (0, 1000, 2000)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    told = [writers[2].stdout.readline() for _ in range(20)]
    writers[2].kill()
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers[:2]] == [0, 0]
    wanted = [*range(40), *range(1000, 1040), *map(int, told)]
    assert held(folder, wanted) == wanted
    assert len(segments(folder)) < 40
