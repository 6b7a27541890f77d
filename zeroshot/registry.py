"""Names to plugins, over the entry points of installed distributions.

Listing names imports no plugin. A spec string is a registered name, optionally with an
argument after a colon (``"glove:/path/file.txt"``), or, for text embeddings, the bare
path of a vector file.
"""

import difflib
import inspect
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, Protocol, cast, runtime_checkable

from zeroshot.backbones.base import Backbone
from zeroshot.embeddings.base import TextEmbeddings
from zeroshot.errors import (
    ArtifactError,
    PluginContractError,
    PluginError,
    UnknownPluginError,
)
from zeroshot.projections.base import Projection

__all__ = [
    "Kind",
    "SupportsSpec",
    "distribution_of",
    "load",
    "names",
    "refresh",
    "resolve_backbone",
    "resolve_embeddings",
    "resolve_projection",
    "spec_of",
]

Kind = Literal["backbones", "embeddings", "projections"]
CONTRACTS: dict[Kind, type] = {
    "backbones": Backbone,
    "embeddings": TextEmbeddings,
    "projections": Projection,
}


@runtime_checkable
class SupportsSpec(Protocol):
    """A plugin that knows the spec string from which an equal one can be made."""

    @property
    def spec(self) -> str:
        """Spec string, such as ``"glove:/path/file.txt"``."""


@runtime_checkable
class _FromSpec(Protocol):
    """A plugin class that serves several names or reads its argument itself."""

    def from_spec(self, name: str, argument: str | None) -> Any: ...


def names(kind: Kind) -> list[str]:
    """Return the registered names of a kind of plugin, sorted; imports none of them.

    Parameters
    ----------
    kind : {"backbones", "embeddings", "projections"}
        Which entry-point group (``zeroshot.<kind>``) to list.

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> names("projections")
    ['devise', 'ridge']
    """
    return sorted(_entries(kind))


def distribution_of(kind: Kind, name: str) -> str:
    """Return the name of the distribution that registers a plugin."""
    return _distribution(_entry(kind, name))


def refresh() -> None:
    """Forget the entry points read so far, after a plugin was installed."""
    _entries.cache_clear()


def load(kind: Kind, name: str) -> Any:
    """Import and return the registered class or factory.

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
        raise PluginError(
            f"Plugin '{name}' of '{_distribution(entry)}' ({entry.value}) cannot be "
            f"imported: {type(error).__name__}: {error}. Update or uninstall "
            f"'{_distribution(entry)}'."
        ) from error


def resolve_backbone(spec: str | Backbone) -> Backbone:
    """Return the backbone that a spec names; an instance is returned as it is.

    Parameters
    ----------
    spec : str or Backbone
        ``"mobilenet-v2"``, ``"keras:/model.keras"``, or an object that keeps the
        contract (a class is called without arguments).

    Raises
    ------
    UnknownPluginError, PluginContractError
    """
    return cast(Backbone, _resolve("backbones", spec))


def resolve_embeddings(spec: str | TextEmbeddings) -> TextEmbeddings:
    """Return the text embeddings that a spec names; an instance is returned as it is.

    Parameters
    ----------
    spec : str or TextEmbeddings
        ``"random"``, ``"glove:/path/file.txt"``, the path of a vector file (recognised
        by its content), or an object that keeps the contract.

    Raises
    ------
    UnknownPluginError, PluginContractError, ArtifactError
    """
    if isinstance(spec, Path):
        spec = str(spec)
    if isinstance(spec, str) and spec.partition(":")[0] not in _entries("embeddings"):
        from zeroshot.embeddings import open_vectors

        path = Path(spec).expanduser()
        if path.is_file():
            return open_vectors(path)
        if path.suffix or len(path.parts) > 1:
            close = difflib.get_close_matches(
                spec.partition(":")[0], names("embeddings"), n=1, cutoff=0.75
            )
            if not close:
                raise ArtifactError(
                    f"Expected a vector file or the name of text embeddings. Got "
                    f"'{spec}', which is neither a file nor a registered name. Check "
                    f"the path; registered names: {', '.join(names('embeddings'))}."
                )
    return cast(TextEmbeddings, _resolve("embeddings", spec))


def resolve_projection(spec: str | Projection) -> Projection:
    """Return the projection that a spec names; an instance is returned as it is.

    Raises
    ------
    UnknownPluginError, PluginContractError
    """
    return cast(Projection, _resolve("projections", spec))


def spec_of(plugin: object) -> str | None:
    """Return the spec string of a plugin, or None where it has none."""
    return plugin.spec if isinstance(plugin, SupportsSpec) else None


def _resolve(kind: Kind, spec: Any) -> object:
    if isinstance(spec, str):
        name, colon, argument = spec.partition(":")
        factory = load(kind, name)
        made_by = f"'{spec}' of '{distribution_of(kind, name)}'"
        plugin = _create(factory, name, argument if colon else None)
    elif isinstance(spec, type):
        made_by = f"class '{spec.__qualname__}'"
        plugin = _create(spec, made_by, None)
    else:
        made_by = f"object of class '{type(spec).__qualname__}'"
        plugin = spec
    missing = [m for m in _members(CONTRACTS[kind]) if not _has(plugin, m)]
    if missing:
        raise PluginContractError(
            f"Expected something that keeps the contract of {kind} "
            f"('{CONTRACTS[kind].__name__}'). Got {made_by}, which lacks "
            f"{', '.join(missing)}. See docs/plugins.md."
        )
    return plugin


def _create(factory: Any, name: str, argument: str | None) -> object:
    if isinstance(factory, _FromSpec):
        return factory.from_spec(name, argument)
    try:
        return factory() if argument is None else factory(argument)
    except TypeError as error:
        got = "no argument" if argument is None else f"the argument '{argument}'"
        raise PluginContractError(
            f"Plugin '{name}' cannot be made from {got}: {error}. An argument follows "
            f"a colon, as in '{name}:argument'."
        ) from error


def _members(contract: type) -> list[str]:
    return sorted(
        name
        for name, value in vars(contract).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property))
    )


def _has(plugin: object, member: str) -> bool:
    # Static: asking for `dim` or `fingerprint` could load a network.
    try:
        inspect.getattr_static(plugin, member)
    except AttributeError:
        return False
    return True


@cache
def _entries(kind: Kind) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=f"zeroshot.{kind}"):
        found.setdefault(entry.name, []).append(entry)
    return found


def _entry(kind: Kind, name: str) -> EntryPoint:
    entries = _entries(kind)
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise UnknownPluginError(
            f"Expected a registered name of {kind}. Got '{name}'.{hint} "
            f"Registered: {', '.join(sorted(entries))}."
        )
    if len(entries[name]) > 1:
        owners = ", ".join(sorted(f"'{_distribution(e)}'" for e in entries[name]))
        raise PluginError(
            f"The name '{name}' of {kind} is registered by {owners}. Uninstall all "
            f"but one."
        )
    return entries[name][0]


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown distribution"
