"""What the site needs of pages that are tests too, and the pages of measurements."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
PLACE = "measurements"  # their folder in the site

_SKIP = re.compile(r'^(```\w+) skip=".*"$', re.MULTILINE)
# Files beside docs/, which the repository has and the site has not.
_OUTSIDE = re.compile(r"\[([^\]]*)\]\((?!\.\./benchmarks/results/)\.\./[^)]+\)")
_OUTSIDE_OF_RESULTS = re.compile(r"\[([^\]]*)\]\((?!\.\./\.\./docs/)\.\./[^)]+\)")


def on_config(config: MkDocsConfig) -> None:
    """List the measurements behind the pages that say what follows from them."""
    names = sorted(page.name for page in RESULTS.glob("*.md"))  # README comes first
    tables = {"Tables": [f"{PLACE}/{name}" for name in names]}
    measured = next(part["Measured"] for part in config.nav if "Measured" in part)
    measured.append(tables)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Take the measurements into the site; they lie beside the benchmarks."""
    for page in RESULTS.glob("*.md"):
        name = f"{PLACE}/{page.name}"
        files.append(File.generated(config, name, abs_src_path=str(page)))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Show fences that no test runs like the others, and links outside as text."""
    markdown = _SKIP.sub(r"\1", markdown)
    if page.file.src_uri.startswith(f"{PLACE}/"):
        markdown = _OUTSIDE_OF_RESULTS.sub(r"\1", markdown)
        return markdown.replace("](../../docs/", "](../")
    markdown = _OUTSIDE.sub(r"\1", markdown)
    return markdown.replace("](../benchmarks/results/", f"]({PLACE}/")
