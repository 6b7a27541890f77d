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

import io
import logging
import os
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from numbers import Integral
from pathlib import Path
from types import ModuleType
from typing import Any

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
# gensim parts phrases at every joiner, and so would count "hot" and "balloon" in place
# of "hot_air" and "balloon". This one is no part of a word.
JOINER = "-"
# Words. word2vec.c cuts here; gensim loses what is behind the 10,000th.
LONGEST_SENTENCE = 1000
LONGEST_READ = 1 << 16  # bytes of a line read at once
LONGEST_WORD = 1 << 20  # bytes; a text has none such
KEPT = "_'\u200c\u200d"  # inside a word; the last two are joiners of letters


@dataclass(frozen=True)
class TrainedVectors:
    """What `train_vectors` wrote.

    Attributes
    ----------
    path : Path
        The file of vectors, absolute.
    n_words : int
        Words with a vector, phrases included, the most frequent first.
    n_phrases : int
        Of these, words that hold a ``_``.
    n_tokens : int
        Words of the corpus, repeats included.
    """

    path: Path
    n_words: int
    n_phrases: int
    n_tokens: int


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

    The text is read ``epochs + 1`` times, and twice more for phrases; it is never in
    memory as a whole, but every pair of neighbouring words is, while phrases are
    counted (up to 40 million). Skip-gram with five negative samples, by gensim.

    Parameters
    ----------
    corpus : str or path-like
        Text in UTF-8, plain or packed (gzip, bzip2, xz, zip with one member), with a
        sentence or a paragraph a line.
    out : str or path-like
        File to write, in word2vec's binary form if its name ends in ``.bin``, as text
        with a header if in ``.txt`` or ``.vec``. It is replaced after the training
        succeeds, not before.
    dim : int, default=100
        Length of a vector.
    window : int, default=5
        Words to the left and to the right that a word must predict.
    epochs : int, default=5
        Passes over the text to train.
    min_count : int, default=5
        Words and phrases that are rarer get no vector.
    phrases : bool, default=True
        Whether words that often stand together become one word.
    random_state : int, default=0
        Seed, 0 to 2**32 - 1.
    workers : int, default=1
        Threads that train. One gives the same file in every run; several are faster
        and give slightly different vectors each time.

    Returns
    -------
    trained : TrainedVectors

    Raises
    ------
    ValueError
        If a number is out of range.
    MissingExtraError
        If gensim is not installed.
    ArtifactError
        If the corpus is missing, damaged, no UTF-8 text, or no word in it reaches
        ``min_count``; if ``out`` cannot be written.
    """
    _check_numbers(
        dim=dim, window=window, epochs=epochs, min_count=min_count, workers=workers
    )
    if not isinstance(random_state, Integral) or not 0 <= random_state < 2**32:
        raise ValueError(
            f"Expected 'random_state' as an integer from 0 to 2**32 - 1. Got "
            f"{random_state!r}. Give another seed."
        )
    source = Path(os.path.abspath(Path(corpus).expanduser()))
    target = Path(os.path.abspath(Path(out).expanduser()))
    size = _check_files(source, target)
    models = _import_models()
    phrase_passes = PHRASE_PASSES if phrases else 0
    n_passes = phrase_passes + 1 + epochs
    total = n_passes * (size >> 10)
    with _quiet_gensim(), progress_bar(f"{n_passes} passes, kB", total) as advance:
        text = _Corpus(source, advance)
        for _ in range(phrase_passes):
            found = models.Phrases(
                text,
                min_count=min_count,
                scoring="npmi",
                threshold=LEAST_NPMI,
                delimiter=JOINER,
            )
            text.check()
            text.phrases.append(found.freeze())
        model = models.Word2Vec(
            vector_size=dim,
            window=window,
            min_count=min_count,
            sg=1,  # skip-gram
            seed=int(random_state),
            workers=workers,
        )
        model.build_vocab(text)
        text.check()
        if not len(model.wv):
            raise ArtifactError(
                f"Expected words that occur at least {min_count} times. Got "
                f"{text.n_tokens} words in '{source}', all rarer. Use more text, or a "
                f"lower 'min_count'."
            )
        model.train(text, total_examples=model.corpus_count, epochs=epochs)
        text.check()
    try:
        with replace_file(target) as temporary:
            binary = IS_BINARY[target.suffix]
            model.wv.save_word2vec_format(str(temporary), binary=binary)
    except OSError as error:
        raise ArtifactError(
            f"Expected a place to write {len(model.wv)} vectors to. Got '{target}': "
            f"{error}. Name another, with room."
        ) from error
    words = model.wv.index_to_key
    n_phrases = sum("_" in word for word in words)
    return TrainedVectors(target, len(words), n_phrases, text.n_tokens)


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, Integral) or number < 1:
            raise ValueError(
                f"Expected '{name}' as an integer of at least 1. Got {number!r}. Give "
                f"another number."
            )


def _check_files(source: Path, target: Path) -> int:
    """Refuse before the work what cannot be read or written; return the size."""
    if source.exists() and not source.is_file() and not source.is_dir():
        raise ArtifactError(
            f"Expected a file, which can be read several times. Got '{source}', a pipe "
            f"or a device. Write its text to a file first."
        )
    with open_packed(source) as (stream, packed):
        foreign = describe_content(stream.peek(200)[:200])
        size = os.fstat(packed.fileno()).st_size
    if foreign is not None:
        raise ArtifactError(
            f"Expected a text file. Got '{source}', which holds {foreign}. Extract its "
            f"text first, as UTF-8."
        )
    if target.suffix not in IS_BINARY:
        raise ArtifactError(
            f"Expected a file name that ends in {', '.join(IS_BINARY)}. Got "
            f"'{target.name}'. Give it one of these endings."
        )
    if not target.parent.is_dir():
        raise ArtifactError(
            f"Expected a folder at '{target.parent}', to write '{target.name}' to. Got "
            f"nothing there. Make it first, or correct the path."
        )
    if target.is_dir():
        raise ArtifactError(
            f"Expected the path of a file to write. Got the folder '{target}'. Add a "
            f"file name, such as '{target / 'vectors.bin'}'."
        )
    if target.exists() and target.samefile(source):
        raise ArtifactError(
            f"Expected another file to write than the text. Got '{target}' for both. "
            f"Name another file, or the text is lost."
        )
    return size


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


class _Corpus:
    """The sentences of a text, read anew by each loop, with phrases joined."""

    def __init__(self, path: Path, advance: Callable[..., None]) -> None:
        self._path = path
        self._advance = advance
        self._error: ArtifactError | None = None
        self.phrases: list[Any] = []
        self.n_tokens = 0

    def __iter__(self) -> Iterator[list[str]]:
        n_tokens = 0
        try:
            for sentence in self._sentences():
                n_tokens += len(sentence)
                for phrases in self.phrases:
                    joined = phrases[sentence]
                    sentence = [word.replace(JOINER, "_") for word in joined]
                yield sentence
        except ArtifactError as error:
            # gensim reads in a thread, and waits for ever for one that raised.
            self._error = error
        self.n_tokens = n_tokens

    def check(self) -> None:
        """Raise what went wrong while the text was read."""
        if self._error:
            raise self._error
        if not self.n_tokens:
            raise ArtifactError(
                f"Expected a text file. Got '{self._path}' without any word. Name a "
                f"file with text."
            )

    def _sentences(self) -> Iterator[list[str]]:
        done = 0
        with open_packed(self._path) as (stream, packed):
            for line in _lines(self._path, stream):
                words = [word.strip("_'") for word in line.translate(_SPACED).split()]
                words = [word for word in words if word]
                for start in range(0, len(words), LONGEST_SENTENCE):
                    yield words[start : start + LONGEST_SENTENCE]
                now = packed.tell() >> 10
                self._advance(now - done)
                done = now


def _lines(path: Path, stream: io.BufferedReader) -> Iterator[str]:
    """Yield the lines, one longer than `LONGEST_READ` in parts."""
    rest, number = b"", 1
    while piece := stream.readline(LONGEST_READ):
        line, rest = rest + piece, b""
        if len(piece) == LONGEST_READ and not piece.endswith(b"\n"):
            end = max(line.rfind(b" "), line.rfind(b"\t")) + 1  # not within a word
            line, rest = line[:end], line[end:]
            if len(rest) > LONGEST_WORD:
                raise _no_text(path, number, f"a word of over {LONGEST_WORD} bytes")
        yield _decoded(path, number, line)
        number += piece.endswith(b"\n")
    yield _decoded(path, number, rest)


def _decoded(path: Path, number: int, line: bytes) -> str:
    if b"\0" in line:
        raise _no_text(path, number, "a zero byte")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        got = f"the byte 0x{line[error.start]:02x}"
        raise _no_text(path, number, got) from error
    return unicodedata.normalize("NFC", text.lower())


def _no_text(path: Path, number: int, got: str) -> ArtifactError:
    return ArtifactError(
        f"Expected text in UTF-8. Got {got} in line {number} of '{path}'. If it is "
        f"text in another encoding, convert it first."
    )


class _Spaced(dict[int, int | None]):
    """For `str.translate`: characters that are no part of a word become spaces."""

    def __missing__(self, code: int) -> int:
        letter = chr(code)
        is_part = letter in KEPT or unicodedata.category(letter)[0] in "LMN"
        self[code] = result = code if is_part else ord(" ")
        return result


# The curly apostrophe; the soft hyphen is no part of a word, nor does it end one.
_SPACED = _Spaced({0x2019: ord("'"), 0xAD: None})
