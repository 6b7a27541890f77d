"""What ``bundle.json`` may hold: the form of every field, in one place.

Digests tell damage. This is for a record that somebody wrote on purpose, and signed
anew: what fits the form, and whose arrays fit it (`zeroshot.saving.fitted`), can be
worked with.
"""

import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, get_args

from zeroshot.backbones.fine_tuning_settings import FineTuning
from zeroshot.errors import LabelError
from zeroshot.labels.report import How
from zeroshot.labels.templates import checked_templates
from zeroshot.scoring.calibration import TEMPERATURES

__all__ = ["ATTRIBUTE", "RECORD_FORM", "check_form", "is_file_name"]

LARGEST = 1e15  # of a number: its square is finite in float32
DEEPEST = 12  # lists within lists, in what a projection keeps


class Form(NamedTuple):
    """What a value must be: in words for an error, and as a function."""

    wanted: str
    fits: Callable[[Any], bool]


class Listed(NamedTuple):
    """A list of values of one form."""

    form: Any
    least: int = 0


class Named(NamedTuple):
    """An object of any keys, whose values have one form."""

    form: Any


def check_form(value: Any, form: Any, where: str = "") -> None:
    """Raise ValueError, with the place, for a value that has not the form.

    ``form``: a `Form`, `Listed` or `Named`; a dict of the forms of all keys; or a tuple
    of forms of which one must fit. ``where``: names the value.
    """
    match form:
        case Form(wanted, fits):
            if not fits(value):
                raise _Unfit(where, wanted, value)
        case Listed(each, least):
            if not isinstance(value, list) or len(value) < least:
                raise _Unfit(where, f"a list of at least {least}", value)
            for number, item in enumerate(value):
                check_form(item, each, f"{where}[{number}]")
        case Named(each):
            if not isinstance(value, dict):
                raise _Unfit(where, "an object", value)
            for key, item in value.items():
                check_form(item, each, f"{where}.{key[:80]}")
        case dict():
            if not isinstance(value, dict) or value.keys() != form.keys():
                raise _Unfit(where, f"an object of {', '.join(form)}", value)
            for key, each in form.items():
                check_form(value[key], each, f"{where}.{key}" if where else key)
        case tuple():
            _check_one_of(value, form, where)


def _check_one_of(value: Any, forms: tuple[Any, ...], where: str) -> None:
    for form in forms:
        try:
            check_form(value, form, where)
        except _Unfit as unfit:
            last = unfit
        else:
            return
    raise last


class _Unfit(ValueError):
    def __init__(self, where: str, wanted: str, value: Any) -> None:
        got = repr(value)[:60]
        if isinstance(value, list | dict):
            got = f"a {type(value).__name__} of {len(value)}"
        super().__init__(f"'{where[:160]}' must be {wanted}, not {got}")


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and abs(value) <= LARGEST


def _is_int64(value: Any) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63  # also true and false


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value) and value >= 0


def _is_plain(value: Any, depth: int = DEEPEST) -> bool:
    """Tell whether a value has numbers in range, and lists not too deep in others."""
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_is_plain(each, depth - 1) for each in inner)
    return value is None or isinstance(value, str | bool) or _is_number(value)


def _are_templates(value: Any) -> bool:
    try:
        return checked_templates(value) is not None
    except LabelError:
        return False


def is_file_name(value: Any) -> bool:
    """Tell whether it names a file beside the others of a bundle, and no path."""
    kinds = (PurePosixPath, PureWindowsPath)
    return (
        isinstance(value, str)
        and value.startswith("backbone.")
        and value.isprintable()
        and all(kind(value).name == value for kind in kinds)
    )


def _in(least: float, most: float) -> Form:
    return Form(
        f"a number from {least:g} to {most:g}",
        lambda value: _is_number(value) and least <= value <= most,
    )


def _one_of(*values: Any) -> Form:
    named = f"one of {', '.join(map(repr, values))}"
    return Form(named, lambda value: isinstance(value, str) and value in values)


NONE = Form("null", lambda value: value is None)
TEXT = Form("text", lambda value: isinstance(value, str))
NAME = Form("a name", lambda value: isinstance(value, str) and bool(value.strip()))
SWITCH = Form("true or false", lambda value: isinstance(value, bool))
NUMBER = Form("a number", _is_number)
COUNT = Form("a whole number >= 0", _is_count)
POSITIVE = Form("a whole number >= 1", lambda value: _is_count(value) and value >= 1)
LABEL = Form(
    "a label: text, a number or a truth value",
    lambda value: isinstance(value, str | float) or _is_int64(value),
)
SEED = Form(
    "a seed from 0 to 2**32 - 1", lambda value: _is_count(value) and value < 2**32
)
AUTO = _one_of("auto")
SCALE = _in(1 / LARGEST, LARGEST)
WEIGHT = _in(1e-6, 1e6)  # further away, equations cannot be solved
EPOCHS = Form(  # which `partial_fit` would go through again
    "a number of epochs up to 100,000", lambda value: _is_count(value) and value <= 1e5
)
PLAIN = Form(f"text, numbers, or at most {DEEPEST} deep lists of them", _is_plain)
TEMPLATES = Form("templates, or the name of a set", _are_templates)
DIGEST = Form(
    "a SHA-256",
    lambda value: (
        isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
    ),
)
FILE_NAME = Form("the name of a file of the backbone's", is_file_name)
SIDE = Form("a number of pixels", lambda value: _is_count(value) and value >= 1)
SIDE_OF_MATRIX = Form(
    "a whole number from 1 to 2**24",
    lambda value: _is_count(value) and 0 < value <= 2**24,
)
# Fitted attributes end in "_"; others are the class's own, such as its methods.
ATTRIBUTE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*_")

ENTRY = {
    "label": TEXT,
    "how": _one_of(*get_args(How)),
    "words": Listed(TEXT),
    "missing": Listed(TEXT),
}
FINE_TUNING = {
    one.name: (POSITIVE, NAME) if one.name == "layers" else NUMBER
    for one in fields(FineTuning)
    if one.default is not MISSING
}
PARAMETERS = {
    "pretrained_classes": (NONE, AUTO, Named((TEXT, Listed(TEXT)))),
    "candidate_labels": (
        NONE,
        Form(
            "'vocabulary:' and a number",
            lambda value: (
                isinstance(value, str)
                and re.fullmatch(r"vocabulary(:[1-9][0-9]{0,8})?", value) is not None
            ),
        ),
        {"labels": Listed(LABEL, 1), "aliases": (NONE, Listed(Listed(TEXT)))},
    ),
    "templates": (NONE, TEMPLATES),
    "hub_correction": (NONE, _in(0, LARGEST)),
    "seen_penalty": (AUTO, NUMBER),
    "temperature": (NONE, AUTO, NUMBER),  # and as `ScoreSettings` says
    "reject": (NONE, NUMBER, TEXT),
    "unknown_label": (NONE, LABEL),
    "batch_size": POSITIVE,
    "cache": SWITCH,
    "on_error": _one_of("raise", "skip", "nan"),
    "fine_tune": (NONE, POSITIVE, NAME, FINE_TUNING),
    "random_state": (NONE, SEED),
}
BACKBONE = {
    "name": NAME,
    "spec": (NONE, NAME),
    "weights": (NONE, {"file": FILE_NAME, "spec": (NONE, NAME)}),
    "input_size": Listed(SIDE, 2),
    "resize": TEXT,
    "pretraining": TEXT,
    "pixels": TEXT,
}
CALIBRATION = {
    "seen_penalty": NUMBER,
    "temperature": _in(TEMPERATURES[0] / 2, TEMPERATURES[1] * 2),
    "false_accept_rate": _in(0, 1),
    "slope": NUMBER,
    "intercept": NUMBER,
    "n_folds": COUNT,
    "h": NUMBER,
    "h_without": NUMBER,
    "auroc": NUMBER,
}
TUNED = {
    "used": SWITCH,
    "layers": Listed(TEXT),
    "n_epochs": COUNT,
    "frozen_score": (NONE, NUMBER),
    "tuned_score": (NONE, NUMBER),
    "standard_error": (NONE, NUMBER),
    "held_out": Listed(COUNT),
    "loss": Listed(NUMBER),
}
RECORD_FORM = {
    "format_version": COUNT,
    "arrays_sha256": DIGEST,
    "files_sha256": Named(DIGEST),
    "parameters": PARAMETERS,
    "classes": {"labels": Listed(LABEL, 1), "dtype": NAME},
    "label_report": {
        "coverage": NUMBER,
        "entries": Listed(ENTRY, 1),
        "identical": Listed(Listed(TEXT)),
        "near_synonyms": Listed(PLAIN),
        "hubs": Listed(PLAIN),
    },
    "candidates": (
        NONE,
        {
            "labels": Listed(LABEL, 1),
            "aliases": Listed(Listed(TEXT)),
            "entries": Listed(ENTRY),
        },
    ),
    "backbone": (NONE, BACKBONE),
    "backbone_fingerprint": (NONE, TEXT),
    "embeddings": {
        "name": NAME,
        "spec": (NONE, NAME),
        "fingerprint": TEXT,
        "vocabulary": (NONE, Listed(TEXT, 1)),
    },
    "projection": {
        "name": NAME,
        "parameters": Named(PLAIN),
        "fitted": Named(PLAIN),
    },
    "pretrained": (
        NONE,
        {"names": Listed(Listed(NAME, 1), 1), "n_left_out": COUNT},
    ),
    "calibration": (NONE, CALIBRATION),
    "fine_tuning": (NONE, TUNED),
    "hub_correction": _in(0, LARGEST),
    "n_features": SIDE_OF_MATRIX,
    "n_images": COUNT,
    "saved": TEXT,
    "versions": Named(TEXT),
}
