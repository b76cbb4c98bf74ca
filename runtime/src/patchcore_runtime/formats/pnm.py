"""PGM and PPM (P5, P6; 8 or 16 bits), as the C++ program reads them too. Pillow would cut colours of 16 bits to 8."""

from __future__ import annotations

import re

import numpy as np

from . import CUT_OFF, SEVERAL, Asked, Pixels, UnreadableError

_GAP = rb"(?:\s|#[^\n]*\n)+"
_HEADER = re.compile(_GAP.join((rb"P([56])", rb"([1-9]\d{0,5})", rb"([1-9]\d{0,5})", rb"(\d{1,5})\s")))


def read(data: bytes, asked: Asked) -> tuple[Pixels, tuple[str, ...]]:
    found = _HEADER.match(data[:1024])
    if not found or found[4] not in (b"255", b"65535"):
        raise UnreadableError("a PGM or PPM file whose values do not go up to 255 or 65535. Save it as PNG.")
    width, height, channels = int(found[2]), int(found[3]), 1 if found[1] == b"5" else 3
    asked.check(width, height)
    depth = np.dtype(np.uint8 if found[4] == b"255" else ">u2")
    end = found.end() + width * height * channels * depth.itemsize
    if len(data) < end:
        raise UnreadableError(CUT_OFF)
    if data[end : end + 64].strip():
        raise UnreadableError(SEVERAL.format("a PGM or PPM file with more than an image in it"))
    array = np.frombuffer(data[:end], depth, offset=found.end()).reshape(height, width, channels)
    return array.astype(depth.newbyteorder("=")), ()
