"""PGM and PPM, binary and ASCII, of 8 or 16 bits. Pillow would cut colours of 16 bits to 8."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from . import CUT_OFF, SEVERAL, Asked, Pixels, UnreadableError

_COMMENT = rb"#[^\n]*\n"
_GAP = rb"(?:\s|" + _COMMENT + rb")+"
_HEADER = re.compile(_GAP.join((rb"P([2356])", rb"([1-9]\d{0,8})", rb"([1-9]\d{0,8})", rb"(\d{1,5})\s")))
_AT_ONCE = 2**20  # bytes of text
_MORE = SEVERAL.format("a PGM or PPM file with more than an image in it")


def read(data: bytes, asked: Asked) -> tuple[Pixels, tuple[str, ...]]:
    found = _HEADER.match(data[:4096])
    if not found or found[4] not in (b"255", b"65535"):
        raise UnreadableError("a PGM or PPM file whose values do not go up to 255 or 65535. Save it as PNG.")
    width, height, channels = int(found[2]), int(found[3]), 1 if found[1] in b"25" else 3
    asked.check(width, height)
    shape, dtype = (height, width, channels), np.dtype(np.uint8 if found[4] == b"255" else np.uint16)
    if found[1] in b"23":
        return _plain(data, found.end(), np.empty(shape, dtype)), ()
    end = found.end() + width * height * channels * dtype.itemsize
    if len(data) < end:
        raise UnreadableError(CUT_OFF)
    if data[end : end + 64].strip():
        raise UnreadableError(_MORE)
    array = np.frombuffer(data[:end], dtype.newbyteorder(">"), offset=found.end()).reshape(shape)
    return array.astype(dtype), ()


def _plain(data: bytes, at: int, array: Pixels) -> Pixels:
    """Fill an array with the numbers of a text."""
    flat, number = array.reshape(-1), 0
    for block in _blocks(data, at):
        if not re.fullmatch(rb"[\d\s]*", block):
            raise UnreadableError("damaged or truncated: its values are not all whole numbers.")
        values = np.fromstring(block, np.int64, sep=" ") if block.strip() else np.empty(0, np.int64)
        if values.max(initial=0) > np.iinfo(array.dtype).max:
            raise UnreadableError(f"damaged: a value of {values.max()}, where {np.iinfo(array.dtype).max} is the most.")
        if number + len(values) > len(flat):
            raise UnreadableError(_MORE)
        flat[number : number + len(values)] = values
        number += len(values)
    if number < len(flat):
        raise UnreadableError(CUT_OFF)
    return array


def _blocks(data: bytes, at: int) -> Iterator[bytes]:
    """The text without its comments, in pieces that end between numbers."""
    if b"#" in data[at:]:
        data, at = re.sub(_COMMENT, b"\n", data[at:] + b"\n"), 0
    space = re.compile(rb"\s")
    while at < len(data):
        gap = space.search(data, at + _AT_ONCE)
        end = gap.end() if gap else len(data)
        yield data[at:end]
        at = end
