"""The commands that use and make word vectors: lookup, nearest, train."""

from pathlib import Path
from typing import Annotated, Any

import typer

from zeroshot.cli import options
from zeroshot.cli.first_use import confirm_downloads
from zeroshot.cli.tables import print_rows, print_text
from zeroshot.defaults import EMBEDDINGS
from zeroshot.escaping import escaped

__all__ = ["COMMANDS"]

FIRST_NUMBERS = 5

WORD = options.argument("A word, exactly as written.", metavar="WORD")
CORPUS = options.argument(
    "Text in UTF-8, plain or packed (gzip, bzip2, xz), a sentence or a paragraph a "
    "line.",
    metavar="CORPUS",
)
OUT = options.option(
    "--out -o FILE",
    "File to write: word2vec binary if it ends in .bin, text if in .txt or .vec.",
)
WINDOW = typer.Option(min=1, help="Words on either side that a word must predict.")
MIN_COUNT = typer.Option("--min-count", min=1, help="Rarer words get no vector.")
PHRASES = options.option(
    "--phrases/--no-phrases",
    "Whether words that often stand together become one (polar_bear). Default: they "
    "do.",
)
WORKERS = typer.Option(
    min=1,
    help="Threads. More than one is faster, and no two runs give the same vectors.",
)


def _lookup(
    words: Annotated[list[str], options.argument("Words, exactly as written.")],
    embeddings: Annotated[str, options.WORDS] = EMBEDDINGS,
    output: Annotated[options.Format, options.FORMAT] = options.Format.table,
    yes: Annotated[bool, options.YES] = False,
) -> None:
    """Look words up: whether they are known, the length and the numbers of the vector.

    JSON and CSV give all numbers. For how labels are looked up, with spelling variants
    and means of words, see 'zeroshot labels check'.
    """
    import numpy as np

    from zeroshot import registry
    from zeroshot.embeddings.base import SupportsSubwords

    confirm_downloads(registry.missing_files(None, embeddings), yes=yes)
    provider = registry.resolve_embeddings(embeddings)
    vectors, found = provider.lookup(words)
    stored = found
    if isinstance(provider, SupportsSubwords):
        stored = provider.in_vocabulary(words)
    rows: list[dict[str, Any]] = [
        {
            "word": word,
            "found": "no" if not known else "yes" if in_file else "composed",
            "norm": float(np.linalg.norm(vector.astype(float))) if known else None,
            "vector": vector.tolist() if known else None,
        }
        for word, vector, known, in_file in zip(
            words, vectors, found, stored, strict=True
        )
    ]
    if output is options.Format.table:
        for row in rows:
            numbers = row["vector"] or []
            shown = [f"{number:.4f}" for number in numbers[:FIRST_NUMBERS]]
            more = ["..."] if len(numbers) > FIRST_NUMBERS else []
            row["vector"] = " ".join(shown + more)
    print_rows(("word", "found", "norm", "vector"), rows, output, numbers=("norm",))


def _nearest(
    word: Annotated[str, WORD],
    embeddings: Annotated[str, options.WORDS] = EMBEDDINGS,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many words.")] = 10,
    output: Annotated[options.Format, options.FORMAT] = options.Format.table,
    yes: Annotated[bool, options.YES] = False,
) -> None:
    """Show the words nearest to a word, by cosine: what the vectors take for alike.

    The first time, a matrix of all words of the file is made and kept in the cache (2
    bytes a number).
    """
    from zeroshot import registry
    from zeroshot.embeddings.base import SupportsNeighbours
    from zeroshot.embeddings.vectors.neighbours import nearest

    confirm_downloads(registry.missing_files(None, embeddings), yes=yes)
    provider = registry.resolve_embeddings(embeddings)
    if isinstance(provider, SupportsNeighbours):
        found = provider.nearest(word, k)
    else:
        found = nearest(provider, word, k)
    rows = [{"word": word, "cosine": cosine} for word, cosine in found]
    print_rows(("word", "cosine"), rows, output, numbers=("cosine",))


def _train(
    corpus: Annotated[Path, CORPUS],
    out: Annotated[Path, OUT],
    dim: Annotated[int, typer.Option(min=1, help="Numbers in a vector.")] = 100,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the text.")] = 5,
    window: Annotated[int, WINDOW] = 5,
    min_count: Annotated[int, MIN_COUNT] = 5,
    phrases: Annotated[bool, PHRASES] = True,
    seed: Annotated[int, options.SEED] = 0,
    workers: Annotated[int, WORKERS] = 1,
) -> None:
    """Train skip-gram word vectors on your own text (phase one of the DeViSE paper).

    Needs gensim: the error says how to install it. The file is used like any other:
    --embeddings vectors.bin.
    """
    from zeroshot.embeddings.training import train_vectors

    trained = train_vectors(
        corpus,
        out,
        dim=dim,
        window=window,
        epochs=epochs,
        min_count=min_count,
        phrases=phrases,
        random_state=seed,
        workers=workers,
    )
    print_text(
        f"Trained on {trained.n_tokens} words of text: {trained.n_words} vectors of "
        f"{dim} numbers, {trained.n_phrases} of them of phrases.\nSaved: {escaped(out)}"
    )


COMMANDS = (
    (_lookup, "zeroshot embeddings lookup zebra okapi"),
    (_nearest, "zeroshot embeddings nearest okapi"),
    (_train, "zeroshot embeddings train corpus.txt.gz --out vectors.bin"),
)
