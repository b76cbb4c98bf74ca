"""Errors of a station, and how they are told: in English, and by a code that pages have a text for in each language."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

from patchcore.errors import ImageError, PatchcoreError

E = TypeVar("E", bound=Exception)


class BusyError(PatchcoreError):
    """The queue is full; `retry`: seconds after which it is worth trying again."""

    def __init__(self, text: str, retry: float = 1.0) -> None:
        super().__init__(text)
        self.retry = retry


class UnavailableError(PatchcoreError):
    """The station cannot do this now: no model, no room on the disk, or no database. The message says which."""


class NoModelError(UnavailableError):
    """A line has no model yet."""


class ConflictError(PatchcoreError):
    """Somebody else was first: a part is decided, a key is used for another image, a model has been replaced."""


class MissingError(PatchcoreError):
    """There is no such line, result, model or job."""


def coded(error: E, code: str, **values: str | float | None) -> E:
    """The error, with a code for what it says.

    Args:
        error: It says the same in English.
        code: `refused.CODE` is its text in `pages/texts`.
        values: What stands in the gaps of that text; `field` is that of a form which is at fault.
    """
    vars(error)["told"] = {"code": code, "values": values}
    return error


def told(error: BaseException) -> dict[str, Any]:
    """What an error says, in JSON: `text`, `code` (empty if it has none) and `values`."""
    text = str(getattr(error, "orig", None) or error) or type(error).__name__
    if (known := vars(error).get("told")) is not None:
        return {"text": text, **known}
    if isinstance(error, ImageError):
        return {"text": text, "code": "image", "values": {"name": error.name, "why": error.reason}}
    if isinstance(error, DBAPIError):
        return {"text": text, "code": "database", "values": {"why": text}}
    return {"text": text, "code": "", "values": {}}
