"""Texts: everything that the pages say, in each language."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from patchcore.station.pages.numbers import number

LANGUAGES = {"en": "English", "de": "Deutsch", "zh": "中文"}

Translate = Callable[..., str]


@cache
def texts(language: str) -> dict[str, str]:
    """All texts of a language, by key."""
    found: dict[str, str] = json.loads(Path(__file__).with_name(f"{language}.json").read_text("utf-8"))
    return found


def translator(language: str) -> Translate:
    """A template's `t(key, name=value)`: the text, with `{name}` replaced, numbers as the language has them."""
    known = texts(language)

    def translate(key: str, **values: object) -> str:
        text = known[key]
        for name, value in values.items():
            shown = number(value, language, 6) if isinstance(value, int | float) else str(value)
            text = text.replace(f"{{{name}}}", shown)
        return text

    return translate


def preferred(accepted: str) -> str:
    """The best of the languages for a browser that sends this as Accept-Language; English if it wants none of them."""
    wanted = list[tuple[float, str]]()
    for part in accepted.split(","):
        name, _, quality = part.partition(";q=")
        try:
            wanted.append((-float(quality or 1), name.strip().lower().partition("-")[0]))
        except ValueError:
            continue
    return next(
        (name for quality, name in sorted(wanted, key=lambda one: one[0]) if quality < 0 and name in LANGUAGES), "en"
    )
