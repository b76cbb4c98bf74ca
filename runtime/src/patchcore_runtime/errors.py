"""Errors: each says what was got, what was expected, and what to do next."""

from __future__ import annotations


class ExportError(Exception):
    """An exported folder is incomplete, altered, newer than this package, or does not agree with its test vectors."""


class SignatureError(ExportError):
    """An exported folder is not what the owner of a key has signed."""


class ImageError(ExportError, ValueError):
    """One image cannot be used. `name` is the image as the caller gave it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.name, self.reason), self.__dict__  # pools send errors by pickle
