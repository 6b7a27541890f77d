"""The plugin of `examples/write_a_plugin`, installed like a stranger's."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from zeroshot import registry
from zeroshot.testing import backbone_checks

EXAMPLE = Path(__file__).parents[1] / "examples" / "write_a_plugin"


@pytest.fixture(autouse=True)
def installed():
    try:
        return distribution("zeroshot-mean-color")
    except PackageNotFoundError:
        pytest.fail(
            "Expected the example plugin to be installed. `make test` installs it; by "
            "hand: pip install --no-deps --editable examples/write_a_plugin"
        )


def test_example_is_listed_under_its_own_distribution():
    assert "mean-color" in registry.names("backbones")
    assert registry.distribution_of("backbones", "mean-color") == "zeroshot-mean-color"


@pytest.mark.parametrize("check", backbone_checks())
def test_example_keeps_the_contract(check):
    check(registry.resolve_backbone("mean-color"))


def test_example_is_two_files_of_under_thirty_lines_together():
    files = sorted(
        path.name for path in EXAMPLE.iterdir() if path.suffix in (".py", ".toml")
    )
    assert files == ["pyproject.toml", "zeroshot_mean_color.py"]
    texts = [(EXAMPLE / file).read_text() for file in files]
    assert sum(len(text.splitlines()) for text in texts) < 30
