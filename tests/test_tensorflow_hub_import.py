"""The import of tensorflow_hub, on stand-ins: what it wants may be there or not."""

import subprocess
import sys
from pathlib import Path

import packaging
import pytest

import zeroshot

HUB = """
from pkg_resources import parse_version
assert parse_version("2.21.0") > parse_version("2.9")
"""
PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:]
import warnings
warnings.simplefilter("error")
from zeroshot.tensorflow_hub_import import import_tensorflow_hub
try:
    print(import_tensorflow_hub().__name__)
except Exception as error:
    print(type(error).__name__, error)
print("pkg_resources" in sys.modules)
"""


def run(folder: Path, hub: str, package_resources: str | None = None):
    """Import it in a process that has what is given here, and no site-packages."""
    (folder / "tensorflow.py").write_text("__version__ = '2.99.1'")
    (folder / "tensorflow_hub.py").write_text(hub)
    (folder / "packaging").symlink_to(Path(packaging.__file__).parent)
    if package_resources is not None:
        (folder / "pkg_resources.py").write_text(package_resources)
    ours = Path(zeroshot.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, str(folder), str(ours)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def test_hub_without_pkg_resources_is_imported_and_nothing_stays_behind(tmp_path):
    assert run(tmp_path, HUB) == (["tensorflow_hub", "False"], "")


def test_hub_with_deprecated_pkg_resources_is_imported_without_a_word(tmp_path):
    deprecated = """
import warnings
from packaging.version import parse as parse_version
warnings.warn("pkg_resources is deprecated as an API. Pin to Setuptools<81.")
"""
    assert run(tmp_path, HUB, deprecated) == (["tensorflow_hub", "True"], "")


@pytest.mark.parametrize("failure", ["ImportError", "AttributeError"])
def test_hub_that_does_not_go_with_tensorflow_says_what_to_install(tmp_path, failure):
    lines, _ = run(tmp_path, f"raise {failure}('tf_keras is too old')")
    assert lines[0].startswith("PluginError Expected tensorflow-hub and tf-keras")
    assert "2.99.1. Got " in lines[0]
    assert "tf_keras is too old" in lines[0]
    assert "'tf-keras~=2.99.0'" in lines[0]
