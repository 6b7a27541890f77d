"""What an import costs, and what modules promise to export."""

import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

import zeroshot
from zeroshot import ZeroShotClassifier, make_shapes
from zeroshot.datasets import shape_attributes
from zeroshot.embeddings import Attributes

NETWORKS = {"gensim", "keras", "skimage", "tensorflow"}
# scikit-learn imports pandas itself, where it is installed.
SKLEARN = {"joblib", "pandas", "scipy", "sklearn"}
HEAVY = {"numpy"} | SKLEARN | NETWORKS
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(zeroshot.__path__, "zeroshot.")
    if not any(part.startswith("_") for part in module.name.split("."))
)


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Run code in a new process; return the modules that it leaves loaded."""
    report = f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", report, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_import_zeroshot_loads_nothing_heavy():
    assert not HEAVY & loaded_by("import zeroshot")


def test_dir_of_zeroshot_loads_nothing_heavy():
    assert not HEAVY & loaded_by("import zeroshot\nassert dir(zeroshot)")


def test_help_loads_nothing_heavy():
    code = """
from zeroshot.cli import main
try:
    main()
except SystemExit as exit:
    assert not exit.code
"""
    assert not HEAVY & loaded_by(code, "--help")


@pytest.mark.parametrize(
    "module", ["zeroshot.registry", "zeroshot.backbones.base", "zeroshot.errors"]
)
def test_import_of_what_listing_needs_loads_no_sklearn(module):
    assert not (SKLEARN | NETWORKS) & loaded_by(f"import {module}")


PREDICT = """
import sys, numpy as np
from zeroshot import load
clf = load(sys.argv[1]).set_params(cache=False)
clf.predict(np.zeros((1, 64, 64, 3), np.uint8), ["red star", "blue ring"])
"""


# Keras 3.15 with NumPy 2.4, whenever it writes weights.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_prediction_loads_no_tensorflow_and_little_of_sklearn(
    real_data, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(real_data / "keras"))
    images, labels = make_shapes(1, random_state=0)
    clf = ZeroShotClassifier("mobilenet-v2:96", Attributes(*shape_attributes()))
    clf.fit(images[::4], labels[::4]).save(tmp_path / "model")
    loaded = loaded_by(PREDICT, str(tmp_path / "model"))
    parts = {f"sklearn.{p}" for p in ("linear_model", "metrics", "model_selection")}
    assert "ai_edge_litert" in loaded
    assert not (NETWORKS | parts | {"sklearn.preprocessing"}) & loaded


def test_zeroshot_testing_needs_no_pytest():
    blocked = "sys.modules['pytest'] = None\nsys.modules['_pytest'] = None\n"
    code = """
from zeroshot.backbones import ColorHOG
from zeroshot.testing import check_backbone
check_backbone(ColorHOG())
"""
    loaded_by(blocked + code)


def test_import_of_every_module_loads_no_tensorflow():
    code = "\n".join(f"import {module}" for module in MODULES)
    assert not NETWORKS & loaded_by(code)


def test_modules_are_all_found():
    assert {"zeroshot.registry", "zeroshot.testing", "zeroshot.errors"} < set(MODULES)


@pytest.mark.parametrize("name", ["zeroshot", *MODULES])
def test_all_is_sorted_and_every_name_exists(name):
    module = import_module(name)
    names = getattr(module, "__all__", [])  # some packages are a folder only
    assert names == sorted(names, key=constants_then_classes)
    assert set(names) <= set(dir(module))
    for public in names:
        assert hasattr(module, public)


def constants_then_classes(name: str) -> tuple[bool, bool, str]:
    """Sort as ruff does (RUF022)."""
    return not name.isupper(), not name[:1].isupper(), name


@pytest.mark.parametrize("name", ["zeroshot", *MODULES])
def test_unknown_name_of_a_module_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match="no_such_name"):
        import_module(name).no_such_name  # noqa: B018 - must raise
