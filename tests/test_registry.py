import subprocess
import sys
from importlib.metadata import entry_points

import numpy as np
import pytest

import zeroshot
from zeroshot import ZeroShotClassifier, registry
from zeroshot.backbones import ColorHOG, KerasModel
from zeroshot.embeddings import GloVe, RandomEmbeddings
from zeroshot.errors import (
    ArtifactError,
    PluginContractError,
    PluginError,
    UnknownPluginError,
)
from zeroshot.projections import Ridge

HEALTHY = """
import numpy as np

class Plain:
    name, dim, fingerprint, input_size = "plain", 3, "plain-1", (8, 8)

    def __init__(self, text=""):
        self.text = text

    def embed(self, images):
        return images.mean(axis=(1, 2)).astype(np.float32)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install distributions the way pip does: modules and a folder of metadata."""
    monkeypatch.syspath_prepend(tmp_path)
    registry.refresh()

    def install(distribution, entries, kind="backbones", **modules):
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        lines = "\n".join(f"{name} = {value}" for name, value in entries.items())
        (info / "entry_points.txt").write_text(f"[zeroshot.{kind}]\n{lines}\n")
        for module, code in modules.items():
            (tmp_path / f"{module}.py").write_text(code)
            monkeypatch.delitem(sys.modules, module, raising=False)
        registry.refresh()

    yield install
    monkeypatch.undo()
    registry.refresh()


class LazyBackbone:
    """Counts each use of a member that would load a network."""

    name, input_size = "lazy", (8, 8)
    loads = 0

    @property
    def dim(self):
        self.loads += 1
        return 3

    @property
    def fingerprint(self):
        self.loads += 1
        return "lazy"


class Lazy(LazyBackbone):
    def embed(self, images):
        self.loads += 1


# --------------------------------------------------------------------------- listing


def test_names_imports_neither_plugins_nor_anything_heavy():
    code = """
import sys
from zeroshot import registry
for kind in ("backbones", "embeddings", "projections"):
    assert registry.names(kind)
    assert registry.distribution_of(kind, registry.names(kind)[0])
print(*sys.modules)
"""
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(listed.stdout.split())
    heavy = {"tensorflow", "keras", "sklearn", "scipy", "skimage", "gensim", "pandas"}
    assert not heavy & loaded
    plugins = {
        entry.module
        for kind in ("backbones", "embeddings", "projections")
        for entry in entry_points(group=f"zeroshot.{kind}")
    }
    assert "zeroshot.projections.devise" in plugins
    assert not plugins & loaded


def test_names_are_sorted_and_hold_our_own():
    projections = registry.names("projections")
    assert projections == sorted(projections)
    assert {"conse", "devise", "eszsl", "ridge", "sae"} <= set(projections)
    backbones = registry.names("backbones")
    assert backbones == sorted(backbones)
    assert {"color-hog", "keras"} <= set(backbones)


def test_names_after_an_installation_need_refresh(install, tmp_path):
    install("zeroshot-plain", {"plain": "plain_module:Plain"}, plain_module=HEALTHY)
    assert "plain" in registry.names("backbones")
    assert registry.distribution_of("backbones", "plain") == "zeroshot-plain"
    (tmp_path / "zeroshot_plain-1.0.dist-info" / "entry_points.txt").write_text("")
    assert "plain" in registry.names("backbones")
    registry.refresh()
    assert "plain" not in registry.names("backbones")


def test_names_never_import_a_plugin_that_cannot_be_imported(install):
    install("zeroshot-bad", {"bad": "bad_module:Bad"}, bad_module="1 / 0")
    assert "bad" in registry.names("backbones")


# ------------------------------------------------------------------- names that fail


@pytest.mark.parametrize("name", ["color-hgo", "Color-Hog", "color_hog", "colorhog:9"])
def test_resolve_near_miss_suggests_the_name_then_lists_all(name):
    with pytest.raises(UnknownPluginError) as caught:
        registry.resolve_backbone(name)
    message = str(caught.value)
    suggestion = message.index("Did you mean 'color-hog'")
    listing = message.index("Registered: ")
    assert suggestion < listing
    for registered in registry.names("backbones"):
        assert registered in message[listing:]


@pytest.mark.parametrize("name", ["", "qqqqqqqqqqqq"])
def test_resolve_far_from_any_name_suggests_nothing(name):
    with pytest.raises(LookupError, match="Registered: ") as caught:
        registry.resolve_projection(name)
    assert "Did you mean" not in str(caught.value)


def test_resolve_a_name_of_two_distributions_names_both(install):
    install("first-plugin", {"plain": "one_module:Plain"}, one_module=HEALTHY)
    install("second-plugin", {"plain": "two_module:Plain"}, two_module=HEALTHY)
    with pytest.raises(PluginError, match="'first-plugin', 'second-plugin'"):
        registry.resolve_backbone("plain")
    with pytest.raises(PluginError, match="'first-plugin', 'second-plugin'"):
        registry.distribution_of("backbones", "plain")
    assert registry.names("backbones").count("plain") == 1
    assert registry.resolve_backbone("color-hog").name == "color-hog"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("broken_module:Plain", "1 / 0"),
        ("broken_module:Plain", "import a_module_that_is_not_there"),
        ("broken_module:Plain", "this is no Python"),
        ("broken_module:Missing", HEALTHY),
        ("no_such_module:Plain", ""),
        ("not an object reference!", ""),
    ],
)
def test_resolve_a_broken_plugin_names_it_and_its_distribution(install, value, code):
    install("zeroshot-broken", {"broken": value}, broken_module=code)
    with pytest.raises(PluginError, match=r"'broken' of 'zeroshot-broken'") as caught:
        registry.resolve_backbone("broken")
    assert caught.value.__cause__ is not None
    assert registry.resolve_backbone("color-hog").name == "color-hog"


def test_resolve_a_plugin_that_cannot_be_made_names_it_and_its_distribution(install):
    code = "class Plain:\n    def __init__(self):\n        open('/no/such/file')"
    install("zeroshot-broken", {"broken": "broken_module:Plain"}, broken_module=code)
    with pytest.raises(PluginError, match=r"'broken' of 'zeroshot-broken'.*FileNotFou"):
        registry.resolve_backbone("broken")


def test_name_of_a_class_that_its_package_re_exports_is_found(install):
    install(
        "zeroshot-outer",
        {"outer": "outer_module:Plain", "outer-made": "outer_module:made"},
        outer_module="from inner_module import Plain\nmade = lambda: Plain()\n",
        inner_module=HEALTHY,
    )
    install("zeroshot-broken", {"broken": "broken_module:Plain"}, broken_module="1 / 0")
    plugin_class = registry.load("backbones", "outer")
    assert plugin_class.__module__ == "inner_module"
    assert registry.name_of("backbones", plugin_class) == "outer"
    assert registry.name_of("backbones", Lazy) is None


def test_a_projection_registered_where_it_is_re_exported_can_be_saved(
    install, tmp_path
):
    code = "from zeroshot.projections import Ridge\nclass Mine(Ridge):\n    pass\n"
    entries = {"mine": "mine_package:Mine"}
    install(
        "zeroshot-mine",
        entries,
        "projections",
        mine_package="from mine_inner import Mine\n",
        mine_inner=code,
    )
    X = np.random.default_rng(0).normal(size=(12, 4))
    y = np.array(["cat", "dog", "emu"] * 4)
    fitted = ZeroShotClassifier(None, "random", projection="mine").fit(X, y)
    fitted.save(tmp_path / "model")
    loaded = zeroshot.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))


# -------------------------------------------------------------- what can be resolved


@pytest.mark.parametrize(
    ("resolve", "name", "made"),
    [
        (registry.resolve_backbone, "color-hog", ColorHOG),
        (registry.resolve_embeddings, "random", RandomEmbeddings),
        (registry.resolve_projection, "ridge", Ridge),
    ],
)
def test_resolve_takes_a_name_a_class_and_an_object(resolve, name, made):
    assert type(resolve(name)) is made
    assert type(resolve(made)) is made
    instance = made()
    assert resolve(instance) is instance


def test_resolve_a_spec_with_argument_passes_it_on(install, tmp_path):
    install("zeroshot-plain", {"plain": "plain_module:Plain"}, plain_module=HEALTHY)
    assert registry.resolve_backbone("plain").text == ""
    assert registry.resolve_backbone("plain:").text == ""
    assert registry.resolve_backbone("plain:/a:b?c=d").text == "/a:b?c=d"


def test_resolve_a_spec_of_a_class_with_from_spec_reads_name_and_argument(install):
    code = HEALTHY + (
        "    @classmethod\n"
        "    def from_spec(cls, name, argument):\n"
        "        return cls([name, argument])\n"
    )
    entries = {"plain": "plain_module:Plain", "other": "plain_module:Plain"}
    install("zeroshot-plain", entries, plain_module=code)
    assert registry.resolve_backbone("other").text == ["other", None]
    assert registry.resolve_backbone("plain:1:2").text == ["plain", "1:2"]
    made_by_class = registry.load("backbones", "plain")
    assert registry.resolve_backbone(made_by_class).text == ""


def test_resolve_a_class_that_needs_arguments_says_so():
    with pytest.raises(PluginContractError, match=r"class 'GloVe' with no argument"):
        registry.resolve_embeddings(GloVe)
    with pytest.raises(PluginContractError, match=r"class 'KerasModel'"):
        registry.resolve_backbone(KerasModel)


def test_resolve_a_spec_with_an_argument_too_many_says_so():
    with pytest.raises(PluginContractError, match=r"'ridge:3'.*the argument '3'"):
        registry.resolve_projection("ridge:3")


@pytest.mark.parametrize("wrong", [None, 3, b"color-hog", ["color-hog"], np.ones(3)])
def test_resolve_an_object_that_is_no_plugin_names_the_missing_members(wrong):
    expected = r"dim, embed, fingerprint, input_size, name\."
    with pytest.raises(PluginContractError, match=expected):
        registry.resolve_backbone(wrong)


def test_resolve_an_object_without_a_member_loads_nothing():
    incomplete = LazyBackbone()
    with pytest.raises(PluginContractError, match=r"'LazyBackbone'.*lacks embed\."):
        registry.resolve_backbone(incomplete)
    assert incomplete.loads == 0


def test_resolve_an_object_with_all_members_loads_nothing():
    lazy = Lazy()
    assert registry.resolve_backbone(lazy) is lazy
    assert lazy.loads == 0


def test_resolve_a_plugin_of_another_kind_is_refused():
    with pytest.raises(PluginContractError, match=r"'ColorHOG'.*lacks lookup"):
        registry.resolve_embeddings(ColorHOG())


# --------------------------------------------------------------- paths of vector files


@pytest.fixture
def vectors(tmp_path):
    path = tmp_path / "my vectors"
    path.write_text("zebra 1 2\nokapi 3 4\n")
    return path


def test_resolve_embeddings_of_a_bare_path_reads_the_file(vectors, monkeypatch):
    monkeypatch.chdir(vectors.parent)
    monkeypatch.setenv("HOME", str(vectors.parent))
    for spec in (vectors, str(vectors), vectors.name, f"~/{vectors.name}"):
        found = registry.resolve_embeddings(spec).lookup(["okapi"])
        np.testing.assert_array_equal(found[0], [[3, 4]])


def test_resolve_embeddings_of_a_name_wins_over_a_file(vectors, monkeypatch):
    monkeypatch.chdir(vectors.parent)
    vectors.rename(vectors.parent / "random")
    assert isinstance(registry.resolve_embeddings("random"), RandomEmbeddings)


TOO_LONG = pytest.param("./" + "a" * 999, id="too-long")


@pytest.mark.parametrize(
    "spec",
    ["/no/such/file", "no_such.txt", "~nobody-here/a.txt", "/a:b", TOO_LONG],
)
def test_resolve_embeddings_of_a_path_without_file_says_so(spec):
    with pytest.raises(ArtifactError, match="neither") as caught:
        registry.resolve_embeddings(spec)
    assert f"'{spec}'" in str(caught.value)


def test_resolve_embeddings_of_a_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="neither"):
        registry.resolve_embeddings(tmp_path)


def test_resolve_embeddings_of_a_misspelt_name_with_a_path_suggests_the_name():
    with pytest.raises(UnknownPluginError, match="Did you mean 'glove'"):
        registry.resolve_embeddings("glvoe:/path/file.txt")


# ------------------------------------------------------------------------------ specs


def test_spec_of_a_plugin_makes_an_equal_one(vectors, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(vectors.parent)
    opened = registry.resolve_embeddings(vectors.name)
    spec = registry.spec_of(opened)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    again = registry.resolve_embeddings(spec)
    assert again.fingerprint == opened.fingerprint


def test_spec_of_a_plugin_without_one_is_none():
    assert registry.spec_of(Lazy()) is None
