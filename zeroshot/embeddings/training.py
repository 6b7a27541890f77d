"""Phase one of DeViSE: skip-gram vectors of words and phrases from one's own text.

A sentence is a line of the text, and windows do not reach across lines. Its words are
what stands between spaces and punctuation, in lower case: letters of any script, digits
and combining marks, ``_``, and an apostrophe inside a word (``don't``). A hyphen parts
words. Languages written without spaces (Chinese, Thai) must be segmented first.

Words that stand together more often than by chance become one word, joined by ``_``
(``polar_bear``, up to four words), as in [1]_ section 4, but scored by normalised
pointwise mutual information [3]_; `zeroshot.labels.cascade` finds them for the label
"polar bear". The paper [2]_ trained on 5.4 billion words of Wikipedia, with 500
dimensions and a window of 20; the defaults here suit smaller text.

References
----------
.. [1] Mikolov et al., "Distributed Representations of Words and Phrases and their
   Compositionality", NeurIPS 2013.
.. [2] Frome et al., "DeViSE", NeurIPS 2013, section 3.1.
.. [3] Bouma, "Normalized (Pointwise) Mutual Information in Collocation Extraction",
   GSCL 2009.
"""

import logging
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from numbers import Integral
from pathlib import Path
from types import ModuleType

from zeroshot.embeddings.vectors.vector_file import describe_content, open_packed
from zeroshot.errors import ArtifactError, MissingExtraError
from zeroshot.progress import progress_bar
from zeroshot.storage.cache import replace_file

__all__ = ["TrainedVectors", "train_vectors"]

IS_BINARY = {".bin": True, ".txt": False, ".vec": False}
PHRASE_PASSES = 2  # each joins two words or phrases; Mikolov et al. make 2 to 4
# Of a phrase, in [-1, 1]; does not depend on the length of the text, as the score of
# Mikolov et al. does. Of 2,114 phrases in 20 MB of old books 8.1 % are names in
# WordNet; 6.4 % of 4,472 at 0.4; 7.6 % of 1,028 at 0.6; 7.3 % of 2,777 at their 100.
LEAST_NPMI = 0.5
# Between the words of a phrase while gensim counts, which takes words apart here: with
# "_" it would count "hot" and "balloon" in place of "hot_air" and "balloon".
JOINER = "-"
# Words. word2vec.c cuts here; gensim loses what is behind the 10,000th.
LONGEST_SENTENCE = 1000
LONGEST_READ = 1 << 20  # bytes of a line held at once; no word is as long
NO_TEXT = re.compile("[\0\udc80-\udcff]")  # a zero, or a byte that is no UTF-8
KEPT = "_'\u200c\u200d"  # inside a word; the last two are joiners of letters


@dataclass(frozen=True)
class TrainedVectors:
    """What `train_vectors` wrote."""

    path: Path  # absolute
    n_words: int  # with a vector, phrases included
    n_phrases: int  # of these, words that hold a "_"
    n_tokens: int  # words of the corpus, repeats included


def train_vectors(
    corpus: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dim: int = 100,
    window: int = 5,
    epochs: int = 5,
    min_count: int = 5,
    phrases: bool = True,
    random_state: int = 0,
    workers: int = 1,
) -> TrainedVectors:
    """Train skip-gram word vectors on a text and write them to a file.

    Skip-gram with five negative samples, by gensim. The words of the text are written
    to temporary files, at most two at a time, each as large as the text unpacked. The
    text is never in memory as a whole, but every pair of neighbouring words is, while
    phrases are counted (up to 40 million).

    ``corpus``: text in UTF-8, plain or packed (gzip, bzip2, xz, zip with one member),
    with a sentence or a paragraph a line. ``out``: file to write, in word2vec's binary
    form if its name ends in ``.bin``, as text with a header if in ``.txt`` or ``.vec``.
    It is replaced after the training succeeds, not before. ``dim``: length of a vector.
    ``window``: words to the left and to the right that a word must predict. ``epochs``:
    passes over the text to train. ``min_count``: words and phrases that are rarer get
    no vector. ``phrases``: whether words that often stand together become one word.
    ``random_state``: seed, 0 to 2**32 - 1. ``workers``: threads that train. One gives
    the same file in every run; several are faster and give slightly different vectors
    each time. Raises ValueError if a number is out of range; MissingExtraError if
    gensim is not installed; ArtifactError if the corpus is missing, damaged, no UTF-8
    text, or no word in it reaches ``min_count``; if ``out`` cannot be written.
    """
    counts = {"dim": dim, "window": window, "epochs": epochs, "min_count": min_count}
    numbers = counts | {"workers": workers, "random_state": random_state}
    for name, number in numbers.items():
        least = 0 if name == "random_state" else 1
        is_whole = isinstance(number, Integral) and not isinstance(number, bool)
        if not is_whole or not least <= number < 2**32:
            raise ValueError(
                f"Expected '{name}' as an integer from {least} to 2**32 - 1. Got "
                f"{number!r}. Give another number."
            )
    source = Path(os.path.abspath(Path(corpus).expanduser()))
    target = Path(os.path.abspath(Path(out).expanduser()))
    _check_files(source, target)
    models = _import_models()
    try:
        with tempfile.TemporaryDirectory() as folder, _quiet_gensim():
            text = Path(folder) / "words.txt"
            n_tokens = _write_words(source, text)
            passes = (2 * PHRASE_PASSES if phrases else 0) + 1 + epochs
            with progress_bar(f"{passes} passes, words", passes * n_tokens) as advance:
                sentences = _Sentences(models, text, advance)
                for _ in range(PHRASE_PASSES if phrases else 0):
                    found = models.Phrases(
                        sentences,
                        min_count=min_count,
                        scoring="npmi",
                        threshold=LEAST_NPMI,
                        delimiter=JOINER,
                    ).freeze()
                    with replace_file(text) as joined:
                        _write(joined, (found[words] for words in sentences))
                model = models.Word2Vec(
                    vector_size=dim,
                    window=window,
                    min_count=min_count,
                    sg=1,  # skip-gram
                    seed=int(random_state),
                    workers=workers,
                )
                model.build_vocab(sentences)
                if not (words := model.wv.index_to_key):
                    raise ArtifactError(
                        f"Expected words that occur at least {min_count} times. Got "
                        f"{n_tokens} words in '{source}', all rarer. Use more text, or "
                        f"a lower 'min_count'."
                    )
                model.train(sentences, total_examples=model.corpus_count, epochs=epochs)
            with replace_file(target) as temporary:
                binary = IS_BINARY[target.suffix]
                model.wv.save_word2vec_format(str(temporary), binary=binary)
    except OSError as error:
        raise ArtifactError(
            f"Expected room for the words of the text in the folder of temporary "
            f"files, '{tempfile.gettempdir()}', and for the vectors at '{target}'. "
            f"Got: {error}. Make room, or name another file."
        ) from error
    return TrainedVectors(target, len(words), sum("_" in w for w in words), n_tokens)


def _check_files(source: Path, target: Path) -> None:
    """Refuse before the work what cannot be read or written."""
    with open_packed(source) as (stream, _):
        foreign = describe_content(stream.peek(200)[:200])
    if foreign is not None:
        raise ArtifactError(
            f"Expected a text file. Got '{source}', which holds {foreign}. Extract its "
            f"text first, as UTF-8."
        )
    if target.suffix not in IS_BINARY:
        expected = f"a file name that ends in {', '.join(IS_BINARY)}"
    elif not target.parent.is_dir():
        expected = "a file name in a folder that is there"
    elif target.is_dir():
        expected = "the name of a file, not of a folder,"
    elif target.exists() and target.samefile(source):
        expected = "another file than the text, which would be lost,"
    else:
        return
    raise ArtifactError(
        f"Expected {expected} to write the vectors to. Got '{target}'. Correct the "
        f"path."
    )


def _import_models() -> ModuleType:
    try:
        return import_module("gensim.models")
    except ImportError as error:
        raise MissingExtraError(
            f"Expected the package 'gensim', which trains word vectors. Got: {error}. "
            f'Run: pip install "zeroshot[train]"'
        ) from error


@contextmanager
def _quiet_gensim() -> Iterator[None]:
    # It warns of every small corpus; what matters here is checked here.
    logger = logging.getLogger("gensim")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Sentences:
    """What gensim reads: the sentences of a file of words, anew by each loop."""

    def __init__(
        self, models: ModuleType, path: Path, advance: Callable[..., None]
    ) -> None:
        self._lines = models.word2vec.LineSentence(
            str(path), max_sentence_length=LONGEST_SENTENCE
        )
        self._advance = advance

    def __iter__(self) -> Iterator[list[str]]:
        for words in self._lines:
            yield words
            self._advance(len(words))


def _write_words(source: Path, out: Path) -> int:
    """Write the words of the text, a sentence a line; return how many they are."""
    size = source.stat().st_size >> 10
    with progress_bar("reading the text, kB", size) as advance:
        n_tokens = _write(out, _words_of_lines(source, advance))
    if not n_tokens:
        raise ArtifactError(
            f"Expected a text file. Got '{source}' without any word. Name a file with "
            f"text."
        )
    return n_tokens


def _write(out: Path, sentences: Iterable[list[str]]) -> int:
    n_tokens = 0
    with out.open("w", encoding="utf-8", newline="\n") as file:
        for words in sentences:
            file.write(" ".join(words).replace(JOINER, "_") + "\n")
            n_tokens += len(words)
    return n_tokens


def _words_of_lines(source: Path, advance: Callable[..., None]) -> Iterator[list[str]]:
    """Yield the words of each line, of one longer than `LONGEST_READ` in parts."""
    rest, number, done = b"", 1, 0
    with open_packed(source) as (stream, packed):
        while (piece := stream.readline(LONGEST_READ)) or rest:
            line, rest = rest + piece, b""
            if len(piece) == LONGEST_READ and not piece.endswith(b"\n"):
                end = max(line.rfind(b" "), line.rfind(b"\t")) + 1  # not in a word
                line, rest = line[:end], line[end:]
            text = line.decode(errors="surrogateescape")
            if (bad := NO_TEXT.search(text)) or len(rest) > LONGEST_READ:
                what = f"a word of over {LONGEST_READ} bytes"
                if bad:
                    what = f"the byte 0x{ord(bad[0]) & 0xFF:02x}"
                raise ArtifactError(
                    f"Expected text in UTF-8. Got {what} in line {number} of "
                    f"'{source}'. If it is text in another encoding, convert it first."
                )
            text = unicodedata.normalize("NFC", text.lower()).translate(_SPACED)
            words = [word.strip("_'") for word in text.split()]
            yield [word for word in words if word]
            number += piece.endswith(b"\n")
            now = packed.tell() >> 10
            advance(now - done)
            done = now


class _Spaced(dict[int, int | None]):
    """For `str.translate`: characters that are no part of a word become spaces."""

    def __missing__(self, code: int) -> int:
        letter = chr(code)
        is_part = letter in KEPT or unicodedata.category(letter)[0] in "LMN"
        self[code] = result = code if is_part else ord(" ")
        return result


# The curly apostrophe; the soft hyphen is no part of a word, nor does it end one.
_SPACED = _Spaced({0x2019: ord("'"), 0xAD: None})
