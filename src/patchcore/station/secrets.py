"""Secrets: settings as people may see them, and as they are meant when they come back."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from patchcore.errors import UsageError
from patchcore.station.errors import coded

HIDDEN = 16 * "*"  # stands for a secret; sent back, it means: as it was
_NAMES = ("secret", "password")
_ADDRESSES = ("address",)  # of cameras: they may hold a password


def hidden(values: dict[str, Any]) -> dict[str, Any]:
    """Settings of a source or an output, as plain values, without their secrets."""
    return {name: _hidden(name, value) for name, value in values.items()}


def _hidden(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return hidden(value)
    if name in _NAMES and value:
        return HIDDEN
    if name in _ADDRESSES and isinstance(value, str) and (word := urlsplit(value).password):
        return value.replace(f":{word}@", f":{HIDDEN}@", 1)
    return value


def restored(values: dict[str, Any], before: dict[str, Any], where: str) -> dict[str, Any]:
    """Settings with the secrets of `before` where they are `HIDDEN`; for another host, none is restored.

    Errors: UsageError, where there was none.
    """
    if any(values.get(name) != before.get(name) for name in ("host", "port")):
        before = {}
    return {name: _restored(name, value, before.get(name), where) for name, value in values.items()}


def _restored(name: str, value: Any, before: Any, where: str) -> Any:
    if isinstance(value, dict):
        return restored(value, before if isinstance(before, dict) else {}, where)
    if name in _NAMES and value == HIDDEN:
        if before:
            return before
    elif name in _ADDRESSES and isinstance(value, str) and f":{HIDDEN}@" in value:
        if isinstance(before, str) and urlsplit(_hidden(name, before)).netloc == urlsplit(value).netloc:
            return value.replace(HIDDEN, urlsplit(before).password or "", 1)
    else:
        return value
    text = f"{where}: {name} is hidden, and there is none of this host from before. Give it again."
    raise coded(UsageError(text), "secret_again", field=name)
