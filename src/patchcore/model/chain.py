"""The chain: entries of a model's history, each with a hash that covers the one before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

Entry = Mapping[str, JsonValue]
BACK = "back"  # what brings the version before back; it goes when a file is compacted, so no hash covers it


def said(entry: Entry) -> dict[str, JsonValue]:
    """An entry as it is shown."""
    return {name: value for name, value in entry.items() if name != BACK}


def link(before: Entry | None, entry: Entry) -> str:
    """The hash of an entry, SHA-256, with that of the one before it."""
    own = {name: value for name, value in said(entry).items() if name != "chain"}
    text = json.dumps([before and before.get("chain"), own], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def broken(history: Sequence[Entry]) -> int | None:
    """The number, from 0, of the first entry that is not what it was when it was written; None if there is none.

    Entries without a hash, of earlier versions of patchcore, come first and say only what they say.
    """
    chained = False
    for number, entry in enumerate(history):
        chained = chained or "chain" in entry
        if chained and entry.get("chain") != link(history[number - 1] if number else None, entry):
            return number
    return None
