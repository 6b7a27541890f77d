"""Labels to class embeddings: the only place where a label becomes words.

In: candidate labels of any accepted form. Out: their vectors of unit length, which of
them were seen, and a report of how each was found. To add a form of list, open
``given.py``; a way to spell a word, ``spelling.py``; a step of the search,
``cascade.py``; a set of templates, ``templates.toml``.
"""

from zeroshot.labels.candidates import (
    Candidates,
    CandidateSet,
    PlacedCandidates,
    seen_class,
)
from zeroshot.labels.cascade import embed_labels
from zeroshot.labels.given import Labels, check_candidates, parse_labels, read_labels
from zeroshot.labels.report import LabelReport
from zeroshot.labels.templates import Templated, Templates, with_templates

__all__ = [
    "CandidateSet",
    "Candidates",
    "LabelReport",
    "Labels",
    "PlacedCandidates",
    "Templated",
    "Templates",
    "check_candidates",
    "embed_labels",
    "parse_labels",
    "read_labels",
    "seen_class",
    "with_templates",
]
