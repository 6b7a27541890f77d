"""What the site needs of pages that are tests too."""

import re
from typing import Any

_SKIP = re.compile(r'^(```\w+) skip=".*"$', re.MULTILINE)
# Files beside docs/, which the repository has and the site has not.
_OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./[^)]+\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Show fences that no test runs like the others, and links outside as text."""
    return _OUTSIDE.sub(r"\1", _SKIP.sub(r"\1", markdown))
