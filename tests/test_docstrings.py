"""Public docstrings have the sections that numpydoc wants, for what is really there.

Public is what a user imports from ``zeroshot.<module>``: deeper modules count as far as
their package exports them.
"""

import dataclasses
import inspect
import pkgutil
from importlib import import_module

import pytest
from numpydoc.validate import validate

import zeroshot

MODULES = [module.name for module in pkgutil.iter_modules(zeroshot.__path__)]

# Codes of numpydoc that count. First lines and their style are ruff's (rules D).
COUNTED = {
    "GL06",  # unknown section
    "GL07",  # sections in an order of its own
    "GL08",  # no docstring at all
    "PR01",  # a parameter is not documented
    "PR02",  # a documented parameter does not exist
    "PR03",  # parameters in another order
    "PR04",  # a parameter without type
    "PR10",  # no space before the colon of a parameter
    "RT01",  # returns something, and has no Returns section
    "YD01",  # yields something, and has no Yields section
}
PARAMETERS = {"PR01", "PR02"}


def faults(item: object, path: str) -> list[str]:
    """Return what numpydoc finds in an object, and in the methods of a class."""
    counted = COUNTED - PARAMETERS if documents_attributes(item) else COUNTED
    found = [
        f"{path}: {code} {text}"
        for code, text in validate(path)["errors"]
        if code in counted
    ]
    if inspect.isclass(item):
        for name, member in vars(item).items():
            if not name.startswith("_") and is_documented(member):
                found += faults(member, f"{path}.{name}")
    return found


def documents_attributes(item: object) -> bool:
    """Is it a class whose fields are its parameters, or one that is never called?"""
    fields = dataclasses.is_dataclass(item) or hasattr(item, "_fields")
    return inspect.isclass(item) and (fields or getattr(item, "_is_protocol", False))


def is_documented(member: object) -> bool:
    return inspect.isfunction(member) or isinstance(
        member, property | classmethod | staticmethod
    )


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_of_a_module_are_complete(name):
    module = import_module(f"zeroshot.{name}")
    found = []
    for public in getattr(module, "__all__", []):
        item = getattr(module, public)
        if inspect.isfunction(item) or inspect.isclass(item):
            found += faults(item, f"{module.__name__}.{public}")
    assert found == []


def incomplete(words, *, count):
    """Return words.

    Parameters
    ----------
    words : list of str
        Words.
    """
    return words * count


def test_docstrings_that_are_incomplete_are_found():
    found = faults(incomplete, f"{__name__}.incomplete")
    assert [fault.split()[1] for fault in found] == ["PR01", "RT01"]
