"""Errors of a station."""

from __future__ import annotations

from patchcore.errors import PatchcoreError


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
