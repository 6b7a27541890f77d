"""Names to plugins, over the entry points of installed distributions.

Listing names imports no plugin. A spec string is a registered name, optionally with an
argument after a colon (``"glove:/path/file.txt"``), or, for text embeddings, the bare
path of a vector file.
"""

import difflib
import importlib
import inspect
import os
from contextlib import suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, Protocol, cast, runtime_checkable

from zeroshot.backbones.base import Backbone, SupportsDownload
from zeroshot.defaults import EMBEDDINGS
from zeroshot.embeddings.base import (
    SupportsFetching,
    SupportsPhrases,
    TextEmbeddings,
)
from zeroshot.errors import (
    ArtifactError,
    PluginContractError,
    PluginError,
    UnknownPluginError,
    ZeroShotError,
)
from zeroshot.joint.base import SupportsJoint, as_joint
from zeroshot.projections.base import Projection
from zeroshot.storage.addresses import shown_spec
from zeroshot.storage.published import PublishedFile, offline, offline_error

__all__ = [
    "Kind",
    "SupportsSpec",
    "backbone_names",
    "distribution_of",
    "joint_model",
    "load",
    "may_be_joint",
    "missing_files",
    "missing_weights",
    "name_of",
    "names",
    "refresh",
    "resolve_backbone",
    "resolve_embeddings",
    "resolve_pair",
    "resolve_projection",
    "spec_of",
    "suited_projection",
    "why_untrusted",
]

Kind = Literal["backbones", "embeddings", "projections"]
PROGRAMS = {"keras", "tfhub"}  # a saved model is a graph or code that is run
CONTRACTS: dict[Kind, type] = {
    "backbones": Backbone,
    "embeddings": TextEmbeddings,
    "projections": Projection,
}


@runtime_checkable
class SupportsSpec(Protocol):
    """A plugin that knows the spec string from which an equal one can be made."""

    @property
    def spec(self) -> str | None:
        """Spec string, such as ``"glove:/path/file.txt"``; None for one in memory."""


@runtime_checkable
class _FromSpec(Protocol):
    """A plugin class that serves several names or reads its argument itself."""

    def from_spec(self, name: str, argument: str | None) -> Any: ...


def names(kind: Kind) -> list[str]:
    """Return the registered names of a kind of plugin, sorted; imports none of them.

    Parameters
    ----------
    kind : {"backbones", "embeddings", "projections"}
        Entry-point group (``zeroshot.<kind>``), here and below.

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> {"devise", "ridge"} <= set(names("projections"))
    True
    """
    return sorted(_entries(kind))


def distribution_of(kind: Kind, name: str) -> str:
    """Return the name of the distribution that registers a plugin.

    Parameters
    ----------
    kind : {"backbones", "embeddings", "projections"}
    name : str
        Registered name.

    Returns
    -------
    distribution : str
        As on a package index, such as ``"zeroshot"``.

    Raises
    ------
    PluginError
        If no installed distribution registers ``name``, or two do.
    """
    return _distribution(_entry(kind, name))


def backbone_names(spec: str) -> list[str]:
    """Return the registered names that the spec string of a backbone uses.

    Parameters
    ----------
    spec : str
        As for `resolve_backbone`.

    Returns
    -------
    names : list of str
        Registered or not.

    Examples
    --------
    >>> backbone_names("int8:mobilenet-v2:160+color-hog")
    ['mobilenet-v2', 'color-hog']
    """
    return [_name(part) for part in _parts(spec)]


def name_of(kind: Kind, plugin_class: type) -> str | None:
    """Return the name under which a class is registered, or None.

    Where no entry point has the class's own path, those of other distributions are
    imported: they may name it where their package re-exports it.

    Parameters
    ----------
    kind : {"backbones", "embeddings", "projections"}
    plugin_class : type

    Returns
    -------
    name : str or None
        The first in alphabetical order, where a class has several.
    """
    value = f"{plugin_class.__module__}:{plugin_class.__qualname__}"
    entries = [entry for name in names(kind) for entry in _entries(kind)[name]]
    for entry in entries:
        if entry.value.replace(" ", "") == value:
            return entry.name
    for entry in entries:
        if _distribution(entry) != "zeroshot":  # ours name their own paths
            with suppress(Exception):  # a stranger's plugin may raise anything
                if entry.load() is plugin_class:
                    return entry.name
    return None


def refresh() -> None:
    """Forget the entry points read so far, after a plugin was installed."""
    importlib.invalidate_caches()
    _entries.cache_clear()


def load(kind: Kind, name: str) -> Any:
    """Import and return the registered class or factory.

    Parameters
    ----------
    kind : {"backbones", "embeddings", "projections"}
    name : str
        Registered name, without an argument.

    Returns
    -------
    factory : type or callable

    Raises
    ------
    UnknownPluginError
        If no installed distribution registers ``name``; suggests near names.
    PluginError
        If two distributions register it, or its import fails.
    """
    entry = _entry(kind, name)
    try:
        return entry.load()
    except Exception as error:
        owner = f"'{_distribution(entry)}'"
        raise PluginError(
            f"Plugin '{name}' of {owner} ({entry.value}) cannot be imported: "
            f"{type(error).__name__}: {error}. Update or uninstall {owner}."
        ) from error


def resolve_backbone(spec: str | type | Backbone) -> Backbone:
    """Return the backbone that a spec names; an instance is returned as it is.

    Parameters
    ----------
    spec : str, class or Backbone
        ``"mobilenet-v2"``, ``"keras:/model.keras"``, several with ``+`` between them
        (see `zeroshot.backbones.Concatenated`), ``"int8:"`` before one (see
        `zeroshot.backbones.Quantised`), a class that is made without arguments, or an
        object that keeps the contract.

    Returns
    -------
    backbone : Backbone
        Nothing of it is loaded yet.

    Raises
    ------
    UnknownPluginError, PluginError
        As `load`.
    PluginContractError
        If it cannot be made, or what is made lacks members of the contract.
    """
    parts = _parts(spec) if isinstance(spec, str) else []
    if len(parts) > 1:
        from zeroshot.backbones.concatenated import Concatenated

        return Concatenated([resolve_backbone(part) for part in parts])
    if isinstance(spec, str) and spec.startswith("int8:"):
        from zeroshot.backbones.keras.quantised import Quantised

        return Quantised(resolve_backbone(spec.removeprefix("int8:")))
    return cast(Backbone, _resolve("backbones", spec))


def resolve_embeddings(spec: str | Path | type | TextEmbeddings) -> TextEmbeddings:
    """Return the text embeddings that a spec names; an instance is returned as it is.

    Parameters
    ----------
    spec : str, Path, class or TextEmbeddings
        ``"random"``, ``"glove:/path/file.txt"``, the path of a vector file (recognised
        by its content), the name of published vectors (``"glove.6B.300d"``, see
        `zeroshot.embeddings.catalogue`), a class that is made without arguments, or an
        object that keeps the contract. A registered name wins over a file of that name,
        a file over the name of published vectors. Those are downloaded here, unless
        they are in the cache.

    Returns
    -------
    embeddings : TextEmbeddings
        Nothing of it is loaded yet.

    Raises
    ------
    PluginError
        As `resolve_backbone`; the catalogue of published vectors is looked at, too.
    ArtifactError
        If a path is no file, the file holds no vectors, or published vectors cannot be
        downloaded.
    """
    spec = str(spec) if isinstance(spec, Path) else spec
    if (
        isinstance(spec, str)
        and spec.partition(":")[0] not in _entries("embeddings")
        and (file := _vector_file(spec)) is not None
    ):
        from zeroshot.embeddings import open_vectors

        return open_vectors(file)
    return cast(TextEmbeddings, _resolve("embeddings", spec))


def resolve_pair(
    backbone: str | type | Backbone | None,
    embeddings: str | Path | type | TextEmbeddings | None,
) -> tuple[Backbone | None, TextEmbeddings]:
    """Return a backbone, and the text embeddings that go with it.

    Parameters
    ----------
    backbone : str, class, Backbone or None
        None stays None.
    embeddings : str, Path, class, TextEmbeddings or None
        None: those of the backbone, if it encodes texts too; else the default,
        `zeroshot.defaults.EMBEDDINGS`.

    Returns
    -------
    pair : tuple of Backbone or None, and TextEmbeddings

    Raises
    ------
    PluginError, ArtifactError
        As `resolve_backbone` and `resolve_embeddings`.
    """
    network = None if backbone is None else resolve_backbone(backbone)
    is_same = isinstance(backbone, str) and backbone == embeddings
    if embeddings is None or is_same:
        encodes = isinstance(network, SupportsPhrases)
        if encodes or not is_same:
            embeddings = cast(TextEmbeddings, network) if encodes else EMBEDDINGS
    given = cast(TextEmbeddings, embeddings)
    if offline() and (file := _published_vectors(given)) and not file.is_here:
        raise offline_error(missing_files(network, given))  # all at once
    return network, resolve_embeddings(given)


def may_be_joint(backbone: object, embeddings: object) -> bool:
    """Tell whether a backbone and embeddings may be one joint model; loads nothing.

    Parameters
    ----------
    backbone, embeddings : object
        As for `resolve_pair`.

    Returns
    -------
    may_be : bool
        `joint_model` decides.

    Raises
    ------
    PluginError
        As `resolve_backbone`.
    """
    given = [each for each in (backbone, embeddings) if each is not None]
    return bool(given) and all(map(_joint_named, given))


def _joint_named(plugin: object) -> bool:
    """Tell whether a spec or an object is a joint model; nothing of it is loaded."""
    if isinstance(plugin, str):
        name = _name(plugin)
        if any(name not in _entries(kind) for kind in ("backbones", "embeddings")):
            return False
        plugin = resolve_backbone(plugin)
    return as_joint(plugin) is not None


def joint_model(
    backbone: Backbone | None, embeddings: TextEmbeddings
) -> SupportsJoint | None:
    """Return the joint model that a backbone and text embeddings are together.

    Parameters
    ----------
    backbone : Backbone or None
        None where there are features: they are taken for those of the model.
    embeddings : TextEmbeddings

    Returns
    -------
    joint : SupportsJoint or None
        None where they are two things.
    """
    joint = as_joint(embeddings)
    if joint is None or backbone is None or backbone is joint:
        return joint
    other = as_joint(backbone)
    is_one = other is not None and other.fingerprint == joint.fingerprint
    return joint if is_one else None


def _vector_file(spec: str) -> Path | None:
    """Return the file that a path, or a name of published vectors, stands for.

    None where the spec is neither and looks like no path: a misspelt plugin.
    """
    # os.path, because Path raises for "~nobody" and for too long names.
    path = os.path.expanduser(spec)
    if os.path.isfile(path):
        return Path(path)
    from zeroshot.embeddings import catalogue

    if spec in catalogue.catalogue_names():
        return catalogue.find_vectors(spec)
    near = catalogue.near_catalogue_names(spec)
    if near and not os.path.dirname(spec):
        raise UnknownPluginError(
            f"Expected a registered name of embeddings, the name of published vectors "
            f"or a file. Got '{shown_spec(spec)}'.{_did_you_mean(near)} Registered: "
            f"{', '.join(names('embeddings'))}; published: see `zeroshot embeddings "
            f"list`."
        )
    name = spec.partition(":")[0]
    if os.path.dirname(name) or os.path.splitext(name)[1]:
        raise ArtifactError(
            f"Expected a vector file or the name of text embeddings. Got "
            f"'{shown_spec(spec)}', which is neither. Check the path; registered "
            f"names: {', '.join(names('embeddings'))}."
        )
    return None


def resolve_projection(spec: str | type | Projection) -> Projection:
    """Return the projection that a spec names; an instance is returned as it is.

    Parameters
    ----------
    spec : str, class or Projection
        ``"devise"``, a class that is made without arguments, or an object that keeps
        the contract.

    Returns
    -------
    projection : Projection
        Not cloned, so perhaps fitted.

    Raises
    ------
    PluginError
        As `resolve_backbone`.
    """
    return cast(Projection, _resolve("projections", spec))


def suited_projection(
    spec: str | type | Projection,
    backbone: Backbone | None,
    embeddings: TextEmbeddings,
) -> Projection:
    """Return the projection that a spec names, as it is for a backbone and embeddings.

    Parameters
    ----------
    spec : str, class or Projection
        As for `resolve_projection`; ``"auto"`` is ``"joint"`` for a joint model, and
        ``"devise"`` for all else.
    backbone : Backbone or None
    embeddings : TextEmbeddings

    Returns
    -------
    projection : Projection
        Not cloned, unless it takes a ``logit_scale`` and has none: then it has that of
        the joint model, and its bias.

    Raises
    ------
    PluginError
        As `resolve_projection`.
    """
    joint = joint_model(backbone, embeddings)
    if isinstance(spec, str) and spec == "auto":
        spec = "devise" if joint is None else "joint"
    projection: Any = resolve_projection(spec)
    if joint is not None and getattr(projection, "logit_scale", 0) is None:
        from sklearn.base import clone  # not loaded by a listing

        scale, bias = joint.logit_scale, joint.logit_bias
        projection = clone(projection).set_params(logit_scale=scale, logit_bias=bias)
    return cast(Projection, projection)


def spec_of(plugin: object) -> str | None:
    """Return the spec string of a plugin, or None where it has none.

    Parameters
    ----------
    plugin : Backbone, TextEmbeddings or Projection

    Returns
    -------
    spec : str or None
        From which an equal plugin can be made.
    """
    return plugin.spec if isinstance(plugin, SupportsSpec) else None


def why_untrusted(kind: Literal["backbone", "embeddings"], spec: str) -> str:
    """Return why a spec that somebody else wrote must not be followed unasked.

    Parameters
    ----------
    kind : {"backbone", "embeddings"}
    spec : str
        Found in a file, such as a bundle.

    Returns
    -------
    reason : str
        Empty for an installed plugin, and for files of mere numbers and words that are
        here; else with what to do about it.

    Raises
    ------
    PluginError
        If it names no backbone that can be made.

    Examples
    --------
    >>> why_untrusted("backbone", "color-hog+tfhub:/some/folder")
    "which is a program ('tfhub:')"
    >>> why_untrusted("backbone", "color-hog:32")
    ''
    """
    group: Kind = "backbones" if kind == "backbone" else "embeddings"
    for part in _parts(spec) if kind == "backbone" else [spec]:
        name, argument = _name(part), part.removeprefix("int8:").partition(":")[2]
        place = argument if name in _entries(group) else part
        # Of Windows, a path that begins so is on another machine.
        if "://" in part or place.startswith(("//", "\\\\")):
            return "which is fetched from an address"
        if name not in _entries(group):
            if kind == "embeddings":
                if reason := _why_no_vectors(spec):
                    return reason
                continue
            return "which is no installed plugin"
        if name in PROGRAMS:
            return f"which is a program ('{name}:')"
        if argument and distribution_of(group, name) != "zeroshot":
            return f"which the plugin '{name}' may run ('{shown_spec(argument)}')"
        if kind == "backbone" and missing_weights(part, classifier=False):
            return f"whose weights are not on this machine ('{name}')"
        # Of a joint model, whichever side a bundle names it for.
        if name in _entries("embeddings") and _would_fetch(part):
            return f"which is no folder here, and would be fetched ('{name}:')"
    return ""


def missing_files(
    backbone: str | type | Backbone | None,
    embeddings: str | Path | type | TextEmbeddings | None,
) -> list[PublishedFile]:
    """Return what a pair would fetch on its first use; fetches nothing.

    Parameters
    ----------
    backbone, embeddings : as for `resolve_pair`

    Returns
    -------
    files : list of PublishedFile
        Not on this machine; with those of the backbone's classifier.
    """
    network = None if backbone is None else resolve_backbone(backbone)
    files = [] if network is None else missing_weights(network)
    if embeddings is None and not isinstance(network, SupportsPhrases):
        embeddings = EMBEDDINGS
    if (file := _published_vectors(embeddings)) is not None and not file.is_here:
        files.append(file)
    return files


def missing_weights(
    backbone: str | type | Backbone, *, classifier: bool = True
) -> list[PublishedFile]:
    """Return what a backbone would fetch on its first use; fetches nothing.

    Parameters
    ----------
    backbone : as for `resolve_backbone`
    classifier : bool, default=True
        Also the files that only the classifier of its pretraining needs.

    Returns
    -------
    files : list of PublishedFile
        Not on this machine.
    """
    network = resolve_backbone(backbone)
    if not isinstance(network, SupportsDownload):
        return []
    return list(network.missing_files(classifier=classifier))


def _published_vectors(embeddings: object) -> PublishedFile | None:
    """Return the file of published vectors that a spec names, or None."""
    if not isinstance(embeddings, str | Path) or os.path.isfile(
        os.path.expanduser(embeddings)
    ):
        return None
    from zeroshot.embeddings.catalogue import catalogue_entry, catalogue_names

    name = str(embeddings)
    return catalogue_entry(name).file if name in catalogue_names() else None


def _would_fetch(spec: str) -> bool:
    """Tell whether embeddings of a spec are no folder here, but a name of a hub."""
    name = spec.partition(":")[0]
    may_be_joint = name in _entries("backbones")
    if not may_be_joint and not hasattr(load("embeddings", name), "would_download"):
        return False
    plugin = _resolve("embeddings", spec)
    return isinstance(plugin, SupportsFetching) and plugin.would_download()


def _why_no_vectors(spec: str) -> str:
    """Return why a vector file, or published vectors, would have to be fetched."""
    from zeroshot.embeddings.catalogue import catalogue_entry, catalogue_names

    if os.path.isfile(os.path.expanduser(spec)):
        return ""
    if spec not in catalogue_names():
        return "which is no installed plugin and no file here"
    if os.path.isfile(catalogue_entry(spec).path):  # packed, it would be unpacked
        return ""
    return f"which is not on this machine (run: zeroshot embeddings download {spec})"


def _parts(spec: str) -> list[str]:
    """Split ``"vgg16+resnet50"`` at each ``+`` that a registered name follows."""
    parts: list[str] = []
    for piece in spec.split("+"):
        if parts and _name(piece) not in _entries("backbones"):
            parts[-1] += f"+{piece}"
        else:
            parts.append(piece)
    return parts


def _name(part: str) -> str:
    return part.removeprefix("int8:").partition(":")[0]


def _resolve(kind: Kind, spec: Any) -> object:
    if isinstance(spec, str):
        name = spec.partition(":")[0]
        origin = f"'{shown_spec(spec)}' of '{distribution_of(kind, name)}'"
        plugin = _make(load(kind, name), spec, origin)
    elif isinstance(spec, type):
        origin = f"class '{spec.__qualname__}'"
        plugin = _make(spec, None, origin)
    else:
        origin = f"an object of class '{type(spec).__qualname__}'"
        plugin = spec
    contract = CONTRACTS[kind]
    members = [name for name in vars(contract) if not name.startswith("_")]
    # Static: asking for `dim` or `fingerprint` could load a network.
    none = object()
    missing = [m for m in members if inspect.getattr_static(plugin, m, none) is none]
    if missing:
        raise PluginContractError(
            f"Expected something that keeps the contract of {kind} "
            f"('{contract.__name__}'). Got {origin}, which lacks "
            f"{', '.join(sorted(missing))}. See docs/plugins.md."
        )
    return plugin


def _make(factory: Any, spec: str | None, origin: str) -> object:
    name, colon, argument = (spec or "").partition(":")
    try:
        if spec is not None and isinstance(factory, _FromSpec):
            return factory.from_spec(name, argument if colon else None)
        return factory(argument) if colon else factory()
    except ZeroShotError:
        raise
    except Exception as error:  # a stranger's plugin may raise anything
        given = f"the argument '{shown_spec(argument)}'" if colon else "no argument"
        hint = f" An argument follows a colon: '{name}:argument'." if spec else ""
        raise PluginContractError(
            f"Expected to make a plugin from {origin} with {given}. Got "
            f"{type(error).__name__}: {error}.{hint}"
        ) from error


@cache
def _entries(kind: Kind) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=f"zeroshot.{kind}"):
        found.setdefault(entry.name, []).append(entry)
    return found


def _entry(kind: Kind, name: str) -> EntryPoint:
    entries = _entries(kind)
    if name not in entries:
        near = difflib.get_close_matches(name.lower(), entries, n=3)
        raise UnknownPluginError(
            f"Expected a registered name of {kind}. Got '{shown_spec(name)}'."
            f"{_did_you_mean(near)} Registered: {', '.join(sorted(entries))}."
        )
    if len(entries[name]) > 1:
        owners = ", ".join(sorted(f"'{_distribution(e)}'" for e in entries[name]))
        raise PluginError(
            f"The name '{name}' of {kind} is registered by {owners}. Uninstall all "
            f"but one."
        )
    return entries[name][0]


def _did_you_mean(near: list[str]) -> str:
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown distribution"
