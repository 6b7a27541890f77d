"""For each check of backbones, plugins that break just that promise."""

import uuid

import numpy as np
import pytest
from kits import Kit

from zeroshot.backbones import ClassifierHead
from zeroshot.errors import NoClassifierError, PluginContractError
from zeroshot.testing import backbone_checks, check_backbone


class Means:
    """A healthy backbone: mean colour of the halves of an image."""

    name, dim, input_size, fingerprint = "means", 6, (12, 10), "means-1"

    def embed(self, images):
        halves = images.reshape(len(images), 2, 6, 10, 3).mean(axis=(2, 3))
        return halves.reshape(len(images), self.dim).astype(np.float32)

    def __sklearn_clone__(self):
        return self


class Nameless(Means):
    name = ""


class WithoutFingerprint:
    name, dim, input_size = Means.name, Means.dim, Means.input_size
    embed, __sklearn_clone__ = Means.embed, Means.__sklearn_clone__


class FloatDim(Means):
    dim = 6.0


class OneSide(Means):
    input_size = 12


class Float64(Means):
    def embed(self, images):
        return super().embed(images).astype(np.float64)


class TooWide(Means):
    dim = 7

    def embed(self, images):
        return np.zeros((len(images), 6), np.float32)


class NotANumber(Means):
    def embed(self, images):
        return super().embed(images) * np.float32(np.nan)


class SqueezesOne(Means):
    def embed(self, images):
        return super().embed(images).squeeze()


class CrashesOnNone(Means):
    def embed(self, images):
        images[0]
        return super().embed(images)


class InPlace(Means):
    def embed(self, images):
        features = super().embed(images)
        np.subtract(255, images, out=images)
        return features


class Dropout(Means):
    def embed(self, images):
        features = super().embed(images)
        return features * (np.random.default_rng().random(features.shape) < 0.5)


class TrainingBatchNorm(Means):
    def embed(self, images):
        features = super().embed(images)
        return features - (features.mean(axis=0) if len(images) else 0)


class Reorders(Means):
    def embed(self, images):
        return np.sort(super().embed(images), axis=0)


class ReusesItsResult(Means):
    def embed(self, images):
        if not hasattr(self, "result"):
            self.result = np.empty((8, 6), np.float32)
        self.result[: len(images)] = super().embed(images)
        return self.result[: len(images)]


class Constant(Means):
    def embed(self, images):
        return np.ones((len(images), 6), np.float32)


class Grey(Means):
    def __init__(self, weights):
        self.weights = np.array(weights)

    def embed(self, images):
        grey = (images @ self.weights)[..., None].repeat(3, axis=3)
        return super().embed(grey)


class CopiedByDefault:
    name, dim, input_size, fingerprint = "copied", 6, (12, 10), "copied-1"
    embed = Means.embed


class ChangesFingerprintInUse(Means):
    n_calls = 0

    @property
    def fingerprint(self):
        return f"means-{self.n_calls}"

    def embed(self, images):
        self.n_calls += 1
        return super().embed(images)


class FingerprintOfTheProcess(Means):
    def __init__(self):
        self.key = uuid.uuid4().hex

    @property
    def fingerprint(self):
        return self.key

    def __getstate__(self):
        return {}

    def __setstate__(self, state):
        self.__init__()


class LosesWeights(Means):
    def __init__(self):
        self.weight = np.float32(2)

    def embed(self, images):
        return super().embed(images) * getattr(self, "weight", np.float32(1))

    def __getstate__(self):
        return {"weight": np.float32(1)}


class CannotBePickled(Means):
    def __init__(self):
        self.scale = lambda features: features


class Headed(Means):
    """A healthy backbone that knows two classes of its pretraining."""

    names = (("left",), ("right", "other"))

    def classifier_head(self):
        weights = np.eye(6, 2, dtype=np.float32)
        return ClassifierHead(self.names, weights, np.ones(2, np.float32))

    def logits(self, images):
        return self.classifier_head().logits(self.embed(images))


class HeadOfAnOlderPlugin(Means):
    """Healthy, without a method for logits."""

    names, classifier_head = Headed.names, Headed.classifier_head


class LogitsAlone(Headed):
    """A healthy backbone whose classifier is more than one layer."""

    def classifier_head(self):
        return ClassifierHead(self.names, None, None)

    def logits(self, images):
        return np.maximum(self.embed(images), 100)[:, :2]


class LostItsHead(Headed):
    def classifier_head(self):
        raise NoClassifierError("Expected a classifier. Got random weights.")


class NarrowHead(Headed):
    def classifier_head(self):
        weights = np.eye(5, 2, dtype=np.float32)
        return ClassifierHead(self.names, weights, np.ones(2, np.float32))


class NamelessClass(Headed):
    names = (("left",), ("",))


class PairOfArrays(Headed):
    def classifier_head(self):
        return np.eye(6, 2, dtype=np.float32), np.ones(2, np.float32)


class NewHeadEachTime(Headed):
    def classifier_head(self):
        weights = np.random.default_rng().random((6, 2), np.float32)
        return ClassifierHead(self.names, weights, np.ones(2, np.float32))


class OtherNamesEachTime(Headed):
    @property
    def names(self):
        return (("left",), (uuid.uuid4().hex,))


class HeadOnlyOnce(Headed):
    def classifier_head(self):
        if hasattr(self, "asked"):
            raise NoClassifierError("Expected to be asked once. Got twice.")
        self.asked = True
        return super().classifier_head()


class ForgetsTheBias(Headed):
    def logits(self, images):
        return super().logits(images) - 1


class DoubleLogits(Headed):
    def logits(self, images):
        return super().logits(images).astype(float)


class CentredLogits(LogitsAlone):
    def logits(self, images):
        logits = super().logits(images)
        return logits - (logits.mean(axis=0) if len(images) else 0)


class LogitsNeedAnImage(LogitsAlone):
    def logits(self, images):
        return super().logits(images) + 0 * images.max()


class InfiniteLogits(LogitsAlone):
    def logits(self, images):
        return super().logits(images) * np.float32(np.inf)


BROKEN = [
    ("check_members", Nameless()),
    ("check_members", WithoutFingerprint()),
    ("check_members", FloatDim()),
    ("check_members", OneSide()),
    ("check_features", Float64()),
    ("check_features", TooWide()),
    ("check_features", NotANumber()),
    ("check_features", SqueezesOne()),
    ("check_features", CrashesOnNone()),
    ("check_input_unchanged", InPlace()),
    ("check_deterministic", Dropout()),
    ("check_rows_independent", TrainingBatchNorm()),
    ("check_rows_independent", Reorders()),
    ("check_rows_independent", ReusesItsResult()),
    ("check_sees_color", Constant()),
    ("check_sees_color", Grey([1 / 3, 1 / 3, 1 / 3])),
    ("check_sees_color", Grey([0.299, 0.587, 0.114])),
    ("check_sees_color", Grey([0.2125, 0.7154, 0.0721])),
    ("check_clone", CopiedByDefault()),
    ("check_fingerprint", ChangesFingerprintInUse()),
    ("check_pickle", CannotBePickled()),
    ("check_pickle", FingerprintOfTheProcess()),
    ("check_pickle", LosesWeights()),
    ("check_classifier_head", NarrowHead()),
    ("check_classifier_head", NamelessClass()),
    ("check_classifier_head", PairOfArrays()),
    ("check_classifier_head", NewHeadEachTime()),
    ("check_classifier_head", OtherNamesEachTime()),
    ("check_classifier_head", HeadOnlyOnce()),
    ("check_logits", ForgetsTheBias()),
    ("check_logits", DoubleLogits()),
    ("check_logits", CentredLogits()),
    ("check_logits", LogitsNeedAnImage()),
    ("check_logits", InfiniteLogits()),
]

KIT = Kit(check_backbone, backbone_checks(), BROKEN)


@pytest.mark.parametrize(("check", "plugin"), KIT.cases())
def test_kit_given_a_broken_plugin_names_the_check_and_the_plugin(check, plugin):
    KIT.must_catch(check, plugin)


def test_kit_every_check_has_a_plugin_that_it_catches():
    KIT.must_have_a_plugin_for_every_check()


@pytest.mark.parametrize(
    "plugin", [Means(), Headed(), HeadOfAnOlderPlugin(), LogitsAlone(), LostItsHead()]
)
def test_kit_given_a_healthy_plugin_passes(plugin):
    KIT.must_pass(plugin)


def test_kit_given_an_expected_failure_passes():
    reason = {"check_sees_color": "it was trained on grey images"}
    grey = Grey([1 / 3, 1 / 3, 1 / 3])
    check_backbone(grey, expected_failures=reason)


def test_kit_given_an_expected_failure_that_passes_fails():
    with pytest.raises(PluginContractError, match=r"'Means'.*passes check_clone.*soon"):
        check_backbone(Means(), expected_failures={"check_clone": "soon"})


def test_kit_given_an_expected_failure_of_no_check_suggests_the_name():
    with pytest.raises(ValueError, match=r"'check_colour'.*'check_sees_color'"):
        check_backbone(Means(), expected_failures={"check_colour": "grey"})


def test_kit_given_a_crashing_plugin_keeps_the_cause():
    with pytest.raises(PluginContractError, match="IndexError: index 0") as caught:
        check_backbone(CrashesOnNone())
    assert isinstance(caught.value.__cause__, IndexError)


def test_kit_given_a_class_asks_for_an_object():
    with pytest.raises(PluginContractError, match=r"'Means'.*Expected an object"):
        check_backbone(Means)
