"""The manifest: what each of its values has to be, before anything relies on it."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from patchcore_runtime.errors import ExportError

FORMAT = 1
_LARGEST = 3.4e38  # of float32, which engines compute in
_short = reprlib.Repr().repr


def is_number(value: object) -> TypeGuard[int | float]:
    """One that float32 holds; a Boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def is_count(value: object, least: int = 0) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 1 << 31


def is_share(value: object) -> bool:
    return is_number(value) and 0 <= value <= 1


def _is_name(value: object) -> bool:
    return (
        isinstance(value, str) and value.isprintable() and not {"/", "\\"} & set(value) and value not in ("", ".", "..")
    )


def _is_size(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(is_count(side, 1) for side in value)


def _is_range(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value)) and value[0] < value[1]


def _has(check: Callable[[Any], bool], *names: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(name in value and check(value[name]) for name in names)


def _or_null(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


_LIMIT = (_or_null(is_number), "a number, or null")
_OBJECT = (lambda value: isinstance(value, dict), "an object")
_NEEDED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "engine": (_is_name, "the name of one"),
    "graph": (_is_name, "the name of a file in the folder"),
    "static": (_or_null(_is_size), "null, or [height, width]"),
    "value_ranges": (_has(_is_range, "uint8", "uint16", "float32"), "[black, white] of uint8, uint16 and float32"),
    "check_float": (lambda value: isinstance(value, bool), "true or false"),
    "threshold": _LIMIT,
    "pixel_threshold": _LIMIT,
    "tolerance": (_has(is_share, "score", "map"), "shares from 0 to 1 for score and map"),
    "floor": (lambda value: is_number(value) and value >= 0, "a number of at least 0"),
}
_KNOWN: Mapping[str, tuple[Callable[[Any], bool], str]] = {  # what else may be there; for people, and other programs
    "lower_threshold": _LIMIT,
    "kind": (lambda value: value == "patchcore-export", "'patchcore-export'"),
    "precision": (_is_name, "the name of one"),
    "opset": (_or_null(is_count), "a number, or null"),
    "reference": (lambda value: isinstance(value, str), "a text"),
    "search_axes": (lambda value: isinstance(value, list) and all(map(is_count, value)), "numbers of axes"),
    **dict.fromkeys(("bank", "data", "parity", "recipe", "versions"), _OBJECT),
}


def checked(manifest: Any, path: Path) -> dict[str, Any]:
    """What was read from a file, if each value is what it has to be. Errors: ExportError."""
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if not is_count(version, 1):
        what = f"its format is {_short(version)}" if isinstance(manifest, dict) else "it holds no object"
        raise ExportError(f"{path}: damaged: {what}. Copy the folder again, or export again.")
    if version > FORMAT:
        raise ExportError(f"{path}: format {version}; this version reads formats up to {FORMAT}. Upgrade it.")
    if missing := sorted(_NEEDED.keys() - manifest.keys()):
        raise ExportError(f"{path}: it lacks {', '.join(missing)}. Copy the folder again, or export again.")
    for name, (check, expected) in {**_NEEDED, **_KNOWN}.items():
        if name in manifest and not check(manifest[name]):
            raise ExportError(
                f"{path}: damaged: {name} is {_short(manifest[name])}; expected {expected}. Copy the folder again, or "
                "export again."
            )
    return dict(manifest)
