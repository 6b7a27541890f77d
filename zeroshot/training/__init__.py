"""What is learnt from: the backbone's own classes, fine-tuning, choices on folds.

In: a backbone and features with labels. Out: what a projection is trained on, or the
projection itself. To add a source of training, write a module beside these.
"""

from typing import TYPE_CHECKING

from zeroshot.lazy import lazy_names

if TYPE_CHECKING:
    from zeroshot.training.fine_tuning import check_fine_tuning, fine_tune
    from zeroshot.training.learning import Learnt, learn
    from zeroshot.training.pretrained import learn_from_head
    from zeroshot.training.targets import Targets

__all__ = [
    "Learnt",
    "Targets",
    "check_fine_tuning",
    "fine_tune",
    "learn",
    "learn_from_head",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Learnt": "learning",
        "Targets": "targets",
        "check_fine_tuning": "fine_tuning",
        "fine_tune": "fine_tuning",
        "learn": "learning",
        "learn_from_head": "pretrained",
    },
)
