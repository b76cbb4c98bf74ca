"""Every error that is raised on purpose. Each says what was got, what was expected, and what to do next."""

from __future__ import annotations


class PatchcoreError(Exception):
    """Base of all errors below."""


class UsageError(PatchcoreError, ValueError):
    """An argument is wrong."""


class PictureError(PatchcoreError, ValueError):
    """One picture cannot be used. `name` is the picture as the caller gave it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class StoreError(PatchcoreError):
    """A folder is incomplete, altered, foreign or newer, or scores otherwise than where it was made."""


class SignatureError(StoreError):
    """A folder is not what the owner of a key has signed."""


class MissingExtraError(PatchcoreError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'patchcore-runtime[{extra}]'"
        )
