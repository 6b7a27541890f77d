"""Points and labels to scores, probabilities, ranks and "none of these".

In: points of images, vectors of labels, what was learnt on folds. Out: answers. To
change what a score loses or gains, open ``label_space.py`` and ``calibration.py``.
"""

from zeroshot.scoring.answers import Explanation, RankedLabel
from zeroshot.scoring.frozen import FrozenLabels
from zeroshot.scoring.ranking import (
    Ranking,
    cosine_scores,
    rank_candidates,
    softmax,
    top_k,
)
from zeroshot.scoring.scores import Scores as Scores  # for the classifier alone
from zeroshot.scoring.settings import ScoreSettings as ScoreSettings

__all__ = [
    "Explanation",
    "FrozenLabels",
    "RankedLabel",
    "Ranking",
    "cosine_scores",
    "rank_candidates",
    "softmax",
    "top_k",
]
