"""BMP."""

from __future__ import annotations

from . import Asked, Pixels, as_array


def read(data: bytes, asked: Asked) -> tuple[Pixels, tuple[str, ...]]:
    return as_array(asked.open(data, "BMP"), asked.alpha), ()
