"""Numbers: as each language writes them, as `Intl.NumberFormat` of a browser does."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

_COMMA = str.maketrans({",": ".", ".": ","})  # of German
_SPACE = "\u00a0"  # that does not break
_NONE = "\u2013"


def number(value: float | None, language: str, digits: int = 4) -> str:
    """With at most so many significant digits, without zeros at the end; a dash where there is none.

    >>> number(1234.5678, "de", 6), number(0.00012345, "en")
    ('1.234,57', '0.0001235')
    """
    if value is None or not math.isfinite(value):
        return _NONE
    exact = Decimal(repr(value))
    last = exact.adjusted() - digits + 1 if exact else 0
    text = f"{exact.quantize(Decimal(1).scaleb(last), ROUND_HALF_UP):,f}"
    return localized(text.rstrip("0").rstrip(".") if "." in text else text, language)


def percent(share: float | None, language: str, digits: int = 3) -> str:
    """A share as percent.

    >>> percent(0.0123, "en"), percent(0.5, "de")
    ('1.23%', '50\\xa0%')
    """
    return _NONE if share is None else localized(f"{number(100 * share, 'en', digits)} %", language)


def localized(text: str, language: str) -> str:
    """A number that was written in English, such as a tick of a chart, in another language."""
    if language != "de":
        return text.replace(" %", "%")
    return text.translate(_COMMA).replace(" %", f"{_SPACE}%")
