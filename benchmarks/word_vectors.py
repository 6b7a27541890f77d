"""Word vectors beside gensim, the official fastText, `wc -l` and `import numpy`.

Files of full size are generated, always the same: GloVe text of 400,000 x 300 (1.1 GB),
fastText .vec text (2.7 GB) and word2vec binary (1.2 GB) of 1,000,000 x 300, and a .bin
that the official fastText trains (300,000 words, 2,000,000 buckets, 3.1 GB). Every
program is a whole process that needs 1,000 labels, 990 of them present; the programs of
a table take turns, and a ratio is the median of the ratios of the turns. Files lie in
the page cache. Prints Markdown tables.

    python benchmarks/word_vectors.py --folder /tmp/word-vectors [--turns 7]
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pages import markdown_table

DIM = 300
N_TEXT, N_LARGE, N_FASTTEXT, N_BUCKETS = 400_000, 1_000_000, 300_000, 2_000_000
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"

# Each is given the file and the words, and leaves what it found at the last argument.
READ_LABELS = """
import sys
file, labels, result = sys.argv[1:]
words = open(labels, encoding="utf-8").read().split()
"""
SAVE = "import numpy as np\nnp.save(result, vectors)\n"
OURS = (
    READ_LABELS
    + """
from zeroshot.embeddings import {provider}
vectors, found = {provider}(file).lookup(words)
assert found.sum() >= 990
"""
    + SAVE
)
GENSIM = (
    READ_LABELS
    + """
import warnings; warnings.simplefilter("ignore")
from gensim.models import KeyedVectors
loaded = KeyedVectors.load_word2vec_format(file, binary={binary}, no_header={no_header})
import numpy as np
empty = np.full({dim}, np.nan, np.float32)
vectors = np.array([loaded[w] if w in loaded else empty for w in words])
"""
    + SAVE
)
OFFICIAL = (
    READ_LABELS
    + """
import fasttext, numpy as np
model = fasttext.load_model(file)
vectors = np.array([model.get_word_vector(word) for word in words])
"""
    + SAVE
)


def word(rank: int) -> str:
    """Return the word of a rank; all differ, and every eleventh is no ASCII."""
    # Shorter words first, as in real files; the factor is odd, so no two are equal.
    number, letters = (rank * 2654435761 + 12345) % 26**6, []
    for _ in range(6):
        number, letter = divmod(number, 26)
        letters.append(LETTERS[letter])
    return "".join(letters) + str(rank % 10) * (rank % 3) + "é" * (rank % 11 == 0)


def labels_of(n_words: int) -> list[str]:
    """Return 990 words of a file and 10 that it has not, in random order."""
    labels = [word(i * (n_words // 990)) for i in range(990)]
    labels += [f"absent-{i}" for i in range(10)]
    random.Random(0).shuffle(labels)
    return labels


def write_text(path: Path, n_words: int, *, header: bool) -> None:
    """Write text of GloVe's looks: numbers of 5 or 6 decimals."""
    numbers = [i / 65536 for i in range(-32768, 32768)]
    texts = [b" %.6f" % x if x >= 0 else b" %.5f" % x for x in numbers]
    table = np.array(texts, dtype="S9").view(np.uint8).reshape(-1, 9)
    draw = np.random.default_rng(0)
    with path.open("wb") as file:
        if header:
            file.write(b"%d %d\n" % (n_words, DIM))
        for start in range(0, n_words, 1000):
            rows = table[draw.integers(0, len(table), (1000, DIM))].reshape(1000, -1)
            file.writelines(
                word(start + i).encode() + row.tobytes() + b"\n"
                for i, row in enumerate(rows)
            )


def write_binary(path: Path) -> None:
    """Write word2vec binary, as gensim does."""
    draw = np.random.default_rng(1)
    with path.open("wb") as file:
        file.write(b"%d %d\n" % (N_LARGE, DIM))
        for start in range(0, N_LARGE, 1000):
            rows = draw.standard_normal((1000, DIM), dtype=np.float32)
            file.writelines(
                word(start + i).encode() + b" " + row.tobytes()
                for i, row in enumerate(rows)
            )


def write_model(path: Path) -> None:
    """Train a .bin by the official fastText, in a process of its own."""
    corpus = path.with_suffix(".corpus")
    corpus.write_text(
        "\n".join(
            " ".join(map(word, range(start, start + 50)))
            for start in range(0, N_FASTTEXT, 50)
        ),
        encoding="utf-8",
    )
    # Ten threads: with fewer the official program leaves rows uninitialised. A tiny
    # rate: the threads race, but the vectors stay what they were drawn as.
    code = f"""
import fasttext, sys
model = fasttext.train_unsupervised(
    sys.argv[1], dim={DIM}, bucket={N_BUCKETS}, minCount=1, minn=3, maxn=6, epoch=1,
    thread=10, lr=1e-9, ws=1, neg=1, t=1, verbose=0)
model.save_model(sys.argv[2])
"""
    subprocess.run([sys.executable, "-c", code, str(corpus), str(path)], check=True)
    corpus.unlink()


class Bench:
    """Runs programs in turns, with a cache of its own."""

    def __init__(self, folder: Path, turns: int) -> None:
        self.folder, self.turns = folder, turns
        self.cache = folder / "cache"
        # Byte code is kept, as for an installed package, and nowhere but here.
        self.environment = {
            **os.environ,
            "ZEROSHOT_CACHE": str(self.cache),
            "PYTHONPYCACHEPREFIX": str(folder / "byte-code"),
        }
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.result = folder / "result.npy"

    def file(self, name: str, write: Callable[[Path], None]) -> Path:
        """Return a file of the folder, written if it is not there."""
        path = self.folder / name
        if not path.exists():
            print(f"writing {path}", file=sys.stderr)
            temporary = path.with_name(f"{name}.part")
            write(temporary)
            temporary.rename(path)
        with path.open("rb") as file:  # into the page cache
            while file.read(1 << 24):
                pass
        return path

    def python(self, code: str, path: Path, n_words: int) -> list[str]:
        """Return the command of a program that looks the labels up."""
        labels = self.folder / f"labels-{n_words}.txt"
        labels.write_text("\n".join(labels_of(n_words)), encoding="utf-8")
        return [sys.executable, "-c", code, str(path), str(labels), str(self.result)]

    def ours(self, provider: str, path: Path, n_words: int) -> list[str]:
        """Return the command of our program."""
        return self.python(OURS.format(provider=provider), path, n_words)

    def seconds(self, name: str, command: list[str]) -> float:
        """Run a whole process once; a name with "first" starts with an empty cache."""
        self.prepare(name)
        start = time.perf_counter()
        subprocess.run(
            command, check=True, env=self.environment, stdout=subprocess.DEVNULL
        )
        return time.perf_counter() - start

    def peak(self, name: str, command: list[str]) -> float:
        """Run once more and return the most anonymous memory seen, in MiB."""
        self.prepare(name)
        most = 0
        process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL
        )
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            if "RssAnon:" in status:  # not in a process that has just ended
                most = max(most, int(status.split("RssAnon:")[1].split()[0]))
            time.sleep(0.001)
        assert process.returncode == 0
        return most / 1024

    def prepare(self, name: str) -> None:
        """Empty the cache before a first lookup."""
        if "first" in name:
            shutil.rmtree(self.cache, ignore_errors=True)

    def table(
        self,
        title: str,
        programs: dict[str, list[str]],
        slow: tuple[str, ...] = (),
        check: tuple[str, str] | None = None,
    ) -> None:
        """Run programs in turns and print times, memory and ratios.

        The first is what the others are compared with. Those in ``slow`` run once.
        ``check`` names two programs whose results must be the same.
        """
        times: dict[str, list[float]] = {name: [] for name in programs}
        for name, command in programs.items():
            if name not in slow:
                self.seconds(name, command)  # the byte code
        for turn in range(self.turns):
            for name, command in programs.items():
                if turn == 0 or name not in slow:
                    times[name].append(self.seconds(name, command))
        base = next(iter(programs))
        print(f"\n### {title}\n")
        results, rows = {}, []
        for name, command in programs.items():
            pairs = zip(times[name], times[base], strict=False)
            ratio = statistics.median(ours / other for ours, other in pairs)
            memory = self.peak(name, command)
            if self.result.exists():
                results[name] = np.load(self.result)
                self.result.unlink()
            median, least = statistics.median(times[name]), min(times[name])
            figures = f"{median:.3f}", f"{least:.3f}", f"{ratio:.2f}", f"{memory:.0f}"
            rows.append((name, *figures))
        header = "program", "s, median", "s, least", f"x `{base}`", "peak anonymous MiB"
        print(markdown_table(header, rows))
        if check is not None:
            one, other = (results[name] for name in check)
            found = np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
            difference = np.abs(one[found] - other[found]).max()
            print(
                f"\n{check[0]} and {check[1]}: {found.sum()} vectors compared, "
                f"greatest difference {difference}."
            )


def main() -> None:
    """Write the files and print a table for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="for some 8 GB of files; kept")
    parser.add_argument("--turns", type=int, default=7)
    chosen = parser.parse_args()
    if chosen.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            measure(Bench(Path(folder), chosen.turns))
    else:
        chosen.folder.mkdir(parents=True, exist_ok=True)
        measure(Bench(chosen.folder, chosen.turns))


def measure(bench: Bench) -> None:
    """Print every table."""
    numpy = [sys.executable, "-c", "import numpy"]
    text = bench.file("glove.txt", lambda p: write_text(p, N_TEXT, header=False))
    gensim = GENSIM.format(binary=False, no_header=True, dim=DIM)
    ours = bench.ours("GloVe", text, N_TEXT)
    bench.table(
        f"1. Text, {N_TEXT:,} x {DIM}, {text.stat().st_size / 1e9:.2f} GB",
        {
            "wc -l": ["wc", "-l", str(text)],
            "zeroshot, first": ours,
            "zeroshot, again": ours,
            "import numpy": numpy,
            "gensim": bench.python(gensim, text, N_TEXT),
        },
        slow=("gensim",),
        check=("zeroshot, again", "gensim"),
    )
    bench.table(
        "1. The same, afterwards",
        {"import numpy": numpy, "zeroshot, again": ours},
    )
    vec = bench.file("large.vec", lambda p: write_text(p, N_LARGE, header=True))
    ours = bench.ours("FastText", vec, N_LARGE)
    bench.table(
        f"1. Text, {N_LARGE:,} x {DIM}, {vec.stat().st_size / 1e9:.2f} GB",
        {
            "wc -l": ["wc", "-l", str(vec)],
            "zeroshot, first": ours,
            "zeroshot, again": ours,
        },
    )
    model = bench.file("fasttext.bin", write_model)
    ours = bench.ours("FastText", model, N_FASTTEXT)
    bench.table(
        f"2. fastText .bin, {model.stat().st_size / 1e9:.2f} GB",
        {
            "zeroshot, first": ours,
            "zeroshot, again": ours,
            "official fastText": bench.python(OFFICIAL, model, N_FASTTEXT),
        },
        check=("zeroshot, again", "official fastText"),
    )
    binary = bench.file("word2vec.bin", write_binary)
    ours = bench.ours("Word2Vec", binary, N_LARGE)
    gensim = GENSIM.format(binary=True, no_header=False, dim=DIM)
    bench.table(
        f"3. word2vec binary, {N_LARGE:,} x {DIM}, "
        f"{binary.stat().st_size / 1e9:.2f} GB",
        {
            "zeroshot, first": ours,
            "zeroshot, again": ours,
            "gensim": bench.python(gensim, binary, N_LARGE),
        },
        check=("zeroshot, again", "gensim"),
    )
    neighbours(bench, binary)


def neighbours(bench: Bench, path: Path) -> None:
    """Print what a search for neighbours costs beside the product of the matrix."""
    os.environ["ZEROSHOT_CACHE"] = str(bench.cache)
    from zeroshot.embeddings import Word2Vec

    start = time.perf_counter()
    embeddings = Word2Vec(path)
    units = embeddings.unit_matrix()
    built = time.perf_counter() - start
    matrix = units.matrix.astype(np.float32) / np.float32(32767)
    times: dict[str, list[float]] = {"product": [], "nearest": []}
    same = 0
    for turn in range(3 * bench.turns):
        query = embeddings.lookup([word(turn)])[0][0]
        query /= np.linalg.norm(query)
        start = time.perf_counter()
        scores = matrix @ query
        middle = time.perf_counter()
        found = embeddings.nearest(word(turn), 10)
        times["nearest"].append(time.perf_counter() - middle)
        times["product"].append(middle - start)
        best = [units.words[row] for row in np.argsort(-scores)[1:11]]
        same += best == [one for one, _ in found]
    pairs = zip(times["nearest"], times["product"], strict=True)
    ratio = statistics.median(ours / other for ours, other in pairs)
    print(f"\n### 4. Ten neighbours of a word among {N_LARGE:,} x {DIM}\n")
    print(f"The matrix is built once, in {built:.1f} s.\n")
    product, ours = (statistics.median(times[name]) for name in times)
    rows = [
        ("product with a float32 matrix in memory", f"{product:.4f}", 1),
        ("zeroshot", f"{ours:.4f}", f"{ratio:.2f}"),
    ]
    print(markdown_table(("program", "s, median", "x product"), rows))
    print(f"\nThe same ten words as the float32 product in {same} of {turn + 1} turns.")


if __name__ == "__main__":
    main()
