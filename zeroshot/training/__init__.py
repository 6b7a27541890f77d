"""What is learnt from: images, the backbone's own classes, fine-tuning.

In: a backbone and features with labels. Out: what a projection is trained on, or the
projection itself. To add a source of training, write a module beside these.
"""

# For the classifier; no user imports them.
from zeroshot.training.fine_tuning import check_fine_tuning as check_fine_tuning
from zeroshot.training.labelled_moments import LabelledMoments as LabelledMoments
from zeroshot.training.labelled_moments import moments_of_parquet as moments_of_parquet
from zeroshot.training.learning import learn as learn
from zeroshot.training.learning import learn_from_moments as learn_from_moments
from zeroshot.training.learning import learn_without_images as learn_without_images
from zeroshot.training.pretrained import Pretrained as Pretrained
from zeroshot.training.pretrained import PretrainedSetting as PretrainedSetting
from zeroshot.training.targets import Targets as Targets
from zeroshot.training.targets import check_known as check_known
from zeroshot.training.targets import check_targets as check_targets
