"""Every error that patchcore raises on purpose.

PatchcoreError
├── UsageError (ValueError)         an argument is wrong
│   └── RecipeError                 a field of a recipe is unknown or out of range
├── DataError (ValueError)          a folder, table or mask is not what was expected
│   └── ImageError                one image cannot be used; `.name` says which
├── BackboneError                   a backbone, a tap or an output grid does not fit
│   └── WeightsError                weights are missing, altered or for another network
├── StoreError                      a model file is truncated, altered, foreign or newer
│   └── SignatureError              it is not signed, not with the key asked for, or changed since
├── ExportError                     a graph cannot be made, or computes something else than the library
├── NotFittedError                  the detector has no memory bank yet
└── MissingExtraError (ImportError) an optional dependency is not installed

Each message says what was got, what was expected, and what to do next.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

M = TypeVar("M", bound="BaseModel")
_SHORT = reprlib.Repr()  # lists of lists of lists in a file could be written out without end
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 200, 200
_WORDS = {"integer": "whole number", "tuple": "list", "list": "list", "string": "text", "number": "number"}
_OWN = {"int_parsing_size": "Input is far too large or small", "missing": "Input should be a list with more values"}
_PYTHONS = re.compile(f"valid ({'|'.join(_WORDS)})")  # what pydantic calls them


class PatchcoreError(Exception):
    """Base of all errors below; catching it never hides a bug of another kind."""

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy, which would call a constructor with the message alone: pools send errors that way."""
        state: tuple[Any, ...] = super().__reduce__()[2:]  # type: ignore[assignment]
        return _again, (type(self), self.args), *state


class UsageError(PatchcoreError, ValueError):
    """An argument is wrong."""


class RecipeError(UsageError):
    """A recipe names an unknown field, or a value that the field does not take."""


class DataError(PatchcoreError, ValueError):
    """A folder, table or mask is not what was expected."""


class ImageError(DataError):
    """One image cannot be used. `name` is the image as the caller gave it, or its path within a given folder."""

    def __init__(self, name: str, reason: str) -> None:
        shown = name if len(name) <= 4096 else f"{name[:40]}..."  # no path: an image that somebody has given as text
        super().__init__(f"{shown}: {reason}")
        self.name = name
        self.reason = reason

    def at(self, image: object) -> ImageError:
        """The same error; if the image is a file, its message says where that lies. `name` stays as it is."""
        if isinstance(image, str | PurePath):
            self.args = (f"{image}: {self.reason}",)
        return self


class BackboneError(PatchcoreError):
    """A backbone is unknown, or does not produce the grids that were asked of it."""


class WeightsError(BackboneError):
    """Weights are missing, altered, or belong to another network."""


class StoreError(PatchcoreError):
    """A model file is truncated, altered, foreign, or newer than this package."""


class SignatureError(StoreError):
    """A file or folder is not what the owner of a key has signed."""


class ExportError(PatchcoreError):
    """No graph can be made of a detector, or the graph computes something else than the library."""


class NotFittedError(PatchcoreError):
    """The detector has no memory bank yet: call `fit`, or `Detector.load`."""


class MissingExtraError(PatchcoreError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'patchcore[{extra}]'",
            name=package,
        )


def _again(kind: type[PatchcoreError], args: tuple[object, ...]) -> PatchcoreError:
    """An error with these `args`, made past its own constructor, which may take others."""
    error = kind.__new__(kind, *args)
    builtin = next(one for one in kind.__mro__ if one.__module__ == "builtins")
    builtin.__init__(error, *args)  # type: ignore[misc]  # ImportError keeps its message beside `args`
    return error


def is_wrong_usage(error: PatchcoreError) -> bool:
    """Whether a program ends with 2 for it, and not with 1.

    A backbone or tap that does not exist is a wrong choice, like any field; weights that cannot be had are not.
    """
    return isinstance(error, UsageError | BackboneError) and not isinstance(error, WeightsError)


def nearest_name(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def counted(n: int, noun: str, plural: str = "") -> str:
    """`1 image`, `3 images`."""
    return f"{n} {noun if n == 1 else plural or f'{noun}s'}"


def explain_fields(wrong: Iterable[Mapping[str, Any]], about: Mapping[str, str], where: str = "") -> str:
    """One line per wrong field of a recipe, or key of the file or section `where`: got what, takes what, is what.

    `wrong`: what pydantic found, as `ValidationError.errors()` gives it; `about`: all fields.
    """
    noun, start = ("key", f"{where}: there") if where else ("recipe field", "There")
    fields: dict[str, list[Mapping[str, Any]]] = {}
    for item in wrong:
        fields.setdefault(".".join(str(part) for part in item["loc"][:1]), []).append(item)
    lines = []
    for name, items in fields.items():
        if not name:
            lines += [f"Recipe: {item['msg'].removeprefix('Value error, ')}." for item in items]
        elif items[0]["type"] == "extra_forbidden":
            known = f" Known: {', '.join(about)}." if where else ""
            lines.append(f"{start} is no {noun} {name!r}.{nearest_name(name, about)}{known}")
        elif items[0]["type"] == "missing" and len(items[0]["loc"]) == 1:
            lines.append(f"{start} is no {name!r}. {about[name]}".rstrip())
        else:
            subject = f"{where}: {name}" if where else f"Recipe field {name}"
            lines.append(f"{subject} got {_got_and_expected(items)}. {about.get(name, '')}".rstrip())
    return "\n".join(lines)


def validated(model: type[M], given: object, where: object, error: type[PatchcoreError] = UsageError) -> M:
    """What was read, JSON as bytes or plain values, as a pydantic model.

    `where`: the file or the section. What is wrong raises `error`, with a line for each key; what was expected of the
    whole is the model's title.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate_json(given) if isinstance(given, bytes) else model.model_validate(given)
    except ValidationError as failed:
        about = {field.alias or name: field.description or "" for name, field in model.model_fields.items()}
        wrong = failed.errors(include_url=False)
    if wrong[0]["loc"]:
        text = explain_fields(wrong, about, str(where))
    else:
        said = wrong[0]["type"] in ("json_invalid", "value_error")
        got = wrong[0]["msg"].removeprefix("Value error, ") if said else f"got {_SHORT.repr(wrong[0]['input'])}"
        text = f"{where}: {got}."
    raise error(f"{text} Expected {model.model_config.get('title')}.")


def _got_and_expected(items: Sequence[Mapping[str, Any]]) -> str:
    """One text for all that pydantic says of a field: where it takes several types, it complains of each in turn.

    A value of a right type, but out of range, says most; else the types are listed.
    """
    of_type = ("_type", "_parsing", "_from_float", "too_short", "literal_error")
    of_value = [item for item in items if not item["type"].endswith(of_type)]
    told = of_value[:1] or [item for item in items if item["input"] is items[0]["input"]]  # NaN is not equal to itself
    reasons = [_OWN.get(t["type"], t["msg"]).removeprefix("Input should be " * (t is not told[0])) for t in told]
    text = "; or ".join(dict.fromkeys(reason.partition(", unable to parse")[0] for reason in reasons))
    return f"{_SHORT.repr(told[0]['input'])}: {_PYTHONS.sub(lambda found: _WORDS[found[1]], text)}"
