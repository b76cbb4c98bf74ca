"""Errors of outputs."""

from __future__ import annotations

from patchcore.errors import PatchcoreError


class UnsentError(PatchcoreError):
    """A message has not arrived; it is tried again."""


class RefusedError(UnsentError):
    """The receiver does not take this message, though it answers; after a few tries the next one has its turn."""
