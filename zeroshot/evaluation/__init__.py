"""How good a classifier is: protocol, baselines, report.

In: labelled images, a backbone and embeddings, or a fitted classifier. Out: accuracies
on classes not trained on, beside chance and baselines, as a table or a page. To add a
measure, open ``scored_split.py``; a baseline, ``baselines.py``.
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.evaluation.protocol import evaluate, evaluate_model
    from zeroshot.evaluation.result import Evaluation
    from zeroshot.evaluation.scored_split import METRICS

__all__ = ["METRICS", "Evaluation", "evaluate", "evaluate_model"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Evaluation": "result",
        "METRICS": "scored_split",
        "evaluate": "protocol",
        "evaluate_model": "protocol",
    },
)
