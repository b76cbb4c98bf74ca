"""TIFF: the page of full resolution, with the tags that decide its pixels and no others.

Pillow does not interpret all of them. What it does not is done here, or refused.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import numpy as np
from PIL import Image

from . import CUT_OFF, SEVERAL, Asked, Pixels, UnreadableError, as_array, upright
from .deep import deep, halves, joined
from .jpeg import DAMAGED, is_sound

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION = 254, 255, 256, 257, 258, 259
_COLOURS, _BIT_ORDER = 262, 266
_DESCRIPTION, _ORIENTATION, _SAMPLES, _PLANES, _PREDICTOR, _COLOUR_MAP = 270, 274, 277, 284, 317, 320
_SUB_PAGES, _INKS, _DOT_RANGE, _EXTRA, _NUMBERS, _TABLES, _DEPTH = 330, 332, 336, 338, 339, 347, 32997
_ROWS = 278
_PLACES = ((273, 279), (324, 325))  # of strips, of tiles: where each is, and how long
# What is handed on: of those above, and of strips, tiles, fax options, JPEG tables and the subsampling of colours.
_KEPT = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _BIT_ORDER, _SAMPLES, _PLANES, _PREDICTOR, _COLOUR_MAP),
    *(_EXTRA, _NUMBERS, _TABLES, _ROWS, 273, 279, 292, 293, 322, 323, 324, 325, 530),
}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = {1: "B", 3: "H", 4: "I", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}  # types of whole numbers
_MOST_PAGES = 10_000
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
# Compressions: LZW, Deflate, LZMA and Zstandard, which may follow a predictor; none, fax, JPEG, PackBits, WebP.
_JPEG, _BY_DIFFERENCES = 7, {5, 8, 32946, 34925, 50000}
_COMPRESSIONS = {1, 2, 3, 4, _JPEG, 32773, 50001, *_BY_DIFFERENCES}
_KINDS = {1: "", 2: "signed ", 3: "floating "}


@dataclass(frozen=True)
class _Tag:
    kind: int
    count: int
    at: int  # where its values are


class _File:
    """The pages of a file, each as its tags by number."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = "<" if data[:1] == b"I" else ">"
        self.big = 43 in data[2:4]
        self.pages = list[dict[int, _Tag]]()
        seen = set[int]()
        waiting = [self._number("Q", 8) if self.big else self._number("I", 4)]
        while waiting:
            at = waiting.pop(0)
            if at in seen or not at:
                continue
            if len(seen) == _MOST_PAGES:
                raise UnreadableError(SEVERAL.format(f"a TIFF of more than {_MOST_PAGES} pages"))
            seen.add(at)
            page, following = self._page(at)
            self.pages.append(page)
            waiting += [following, *(self.values(page, _SUB_PAGES) if _SUB_PAGES in page else ())]

    def _number(self, kind: str, at: int) -> int:
        try:
            return struct.unpack_from(self.order + kind, self.data, at)[0]
        except struct.error:
            raise UnreadableError(CUT_OFF) from None

    def _page(self, at: int) -> tuple[dict[int, _Tag], int]:
        """The tags of a page, and where the next one is."""
        count, size, first = (self._number("Q", at), 20, at + 8) if self.big else (self._number("H", at), 12, at + 2)
        if len(self.data) < first + count * size:
            raise UnreadableError(CUT_OFF)
        tags: dict[int, _Tag] = {}
        for entry in range(first, first + count * size, size):
            number, kind, values = struct.unpack_from(self.order + ("HHQ" if self.big else "HHI"), self.data, entry)
            if number not in _KEPT and number not in _ASKED:
                continue
            room = 8 if self.big else 4
            place, length = entry + size - room, values * _SIZES.get(kind, 1)
            if length > room:
                place = self._number("Q" if self.big else "I", place)
            if place + length > len(self.data):
                raise UnreadableError(CUT_OFF)
            if number in tags:
                raise UnreadableError(f"a damaged TIFF: tag {number} is there twice.")
            tags[number] = _Tag(kind, values, place)
        end = first + count * size
        return tags, self._number("Q" if self.big else "I", end) if end + (8 if self.big else 4) <= len(
            self.data
        ) else 0

    def values(self, page: dict[int, _Tag], number: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The whole numbers of a tag."""
        tag = page.get(number)
        if tag is None or not tag.count:
            return default
        if tag.kind not in _WHOLE:
            raise UnreadableError(f"a damaged TIFF: tag {number} holds no whole numbers.")
        return struct.unpack_from(f"{self.order}{tag.count}{_WHOLE[tag.kind]}", self.data, tag.at)

    def one(self, page: dict[int, _Tag], number: int, default: int = 0) -> int:
        return self.values(page, number, (default,))[0]

    def orientation(self, page: dict[int, _Tag]) -> int:
        """1 to 8; 1 where the tag says nothing that there is."""
        try:
            orientation = self.one(page, _ORIENTATION, 1)
        except UnreadableError:
            return 1
        return orientation if 1 <= orientation <= 8 else 1

    def jpegs(self, page: dict[int, _Tag]) -> Iterator[tuple[bytes, bytes]]:
        """The strips or tiles of a page, and the tables that they share."""
        tables = page.get(_TABLES, _Tag(7, 0, 0))
        shared = self.data[tables.at : tables.at + tables.count]
        for places, sizes in _PLACES:
            for at, size in zip(self.values(page, places), self.values(page, sizes), strict=True):
                yield self.data[at : at + size], shared

    def full(self) -> dict[int, _Tag]:
        """The only page of full resolution: neither a smaller version of another, nor where another is transparent."""
        full = [
            page
            for page in self.pages
            if not self.one(page, _SUBFILE) & 5 and self.one(page, _OLD_SUBFILE, 1) != 2
        ]  # fmt: skip
        found = full or self.pages
        if len(found) != 1:
            raise UnreadableError(SEVERAL.format(f"a TIFF with {len(found)} pages of full resolution"))
        if _DESCRIPTION in found[0]:  # ImageJ writes large stacks as one page, and says so here
            tag = found[0][_DESCRIPTION]
            text = self.data[tag.at : tag.at + min(tag.count, 1000)]
            images = re.search(rb"^ImageJ=.*?^images=(\d+)", text, re.DOTALL | re.MULTILINE)
            if images and int(images[1]) > 1:
                raise UnreadableError(SEVERAL.format(f"a stack of {int(images[1])} images"))
        return found[0]

    def handed_over(self, page: dict[int, _Tag], instead: dict[int, int]) -> bytes:
        """The file as a classic TIFF of this page alone, with what is handed on and no other tags; it goes from here.

        `instead`: other values of some tags, for what Pillow does not know.
        """
        parts: list[bytes | memoryview] = [self.data, b"\0" * (len(self.data) % 2)]
        end = len(self.data) + len(self.data) % 2
        entries = []
        for number in sorted(_KEPT & page.keys() | instead.keys()):
            kind, count, value = 3, 1, struct.pack(self.order + "H", instead.get(number, 0))
            if number not in instead:
                tag = page[number]
                kind, count = tag.kind, tag.count
                value = self.data[tag.at : tag.at + count * _SIZES.get(kind, 1)]
                if number == _COLOUR_MAP and max(shades := self.values(page, number), default=0) < 256:
                    # Many writers fill 8 of the 16 bits, and other readers take it so.
                    value = struct.pack(f"{self.order}{count}H", *(257 * shade for shade in shades))
                elif kind in (16, 18):
                    kind, value = 4, struct.pack(f"{self.order}{count}I", *self.values(page, number))
            if len(value) > 4:
                parts.append(value + b"\0" * (len(value) % 2))
                value, end = struct.pack(self.order + "I", end), end + len(parts[-1])
            entries.append(struct.pack(self.order + "HHI", number, kind, count) + value.ljust(4, b"\0"))
        head = struct.pack(self.order + "2sHI", self.data[:2], 42, end)
        parts[0], self.data = memoryview(self.data)[len(head) :], b""
        return b"".join((head, *parts, struct.pack(self.order + "H", len(entries)), *entries, bytes(4)))


_ASKED = {_SUBFILE, _OLD_SUBFILE, _DESCRIPTION, _ORIENTATION, _SUB_PAGES, _INKS, _DOT_RANGE, _DEPTH}


def read(data: bytes, asked: Asked) -> tuple[Pixels, tuple[str, ...]]:
    file = _File(data)
    del data
    page = file.full()
    asked.check(file.one(page, _WIDTH), file.one(page, _HEIGHT))
    _check(file, page)
    sound = file.one(page, _COMPRESSION, 1) != _JPEG or all(is_sound(*one, asked) for one in file.jpegs(page))
    orientation = file.orientation(page)
    several = file.one(page, _SAMPLES, 1) > 1 and file.one(page, _BITS, 1) == 16
    array = _deep(file, page, asked) if several else _shallow(file, page, asked)
    return upright(array, orientation), () if sound else (DAMAGED,)


def _deep(file: _File, page: dict[int, _Tag], asked: Asked) -> Pixels:
    """Several channels of 16 bits, of which Pillow would keep 8."""
    samples, plain = file.one(page, _SAMPLES), file.one(page, _COMPRESSION, 1) == 1
    mode = "RGB" if samples == 3 or file.values(page, _EXTRA) == (0,) else "RGBA"
    alpha = asked.alpha and mode == "RGBA"
    if plain and _PLACES[0][0] in page:
        return _as_it_lies(file, page, 4 if alpha else 3)
    data = file.handed_over(page, {})
    if samples == 3 and (array := deep(data)) is not None:
        return array
    little = file.order == "<" if plain else sys.byteorder == "little"  # as it comes from libtiff
    raw = f"{'RGBX' if mode == 'RGB' and samples == 4 else mode};16"
    ends = "LB" if little else "BL"
    high, low = (partial(_half, data, asked, mode, raw + end) for end in ends)
    return joined(high, low, alpha)


def _half(data: bytes, asked: Asked, mode: str, raw: str) -> Image.Image:
    return halves(asked.open(data, "TIFF"), mode, raw)


def _as_it_lies(file: _File, page: dict[int, _Tag], channels: int) -> Pixels:
    """The first channels of 16 bits, from strips that are not compressed."""
    samples, width, height = (file.one(page, tag) for tag in (_SAMPLES, _WIDTH, _HEIGHT))
    array = np.empty((height, width, channels), np.uint16)
    rows, kind = min(height, file.one(page, _ROWS, height) or height), np.dtype(f"{file.order}u2")
    places = file.values(page, _PLACES[0][0])
    if len(places) < -(-height // rows):
        raise UnreadableError(CUT_OFF)
    for top, at in zip(range(0, height, rows), places, strict=False):
        count = min(rows, height - top) * width * samples
        if at + 2 * count > len(file.data):
            raise UnreadableError(CUT_OFF)
        strip = np.frombuffer(file.data, kind, count, at).reshape(-1, width, samples)
        array[top : top + rows] = strip[..., :channels]
    return array


def _shallow(file: _File, page: dict[int, _Tag], asked: Asked) -> Pixels:
    """What Pillow reads without loss, once it is told what it does not ask for."""
    bits, number = file.one(page, _BITS, 1), file.one(page, _NUMBERS, 1)
    inverted = file.one(page, _COLOURS) == _WHITE_IS_ZERO and bits == 16
    instead = {_COLOURS: _BLACK_IS_ZERO} if inverted else {}
    if file.one(page, _SAMPLES, 1) == 1:
        instead[_PLANES] = 1  # one channel is a plane, whatever the tag says
        if bits > 8:
            instead[_NUMBERS] = {16: 1, 32: max(number, 2)}.get(bits, number)
    # Pillow takes what comes from libtiff to be in the file's order.
    order = "N" if file.one(page, _COMPRESSION, 1) != 1 else "" if file.order == "<" else "B"
    image = asked.open(file.handed_over(page, instead), "TIFF")
    if bits == 32:
        image = halves(image, *(("F", f"F;32{order}F") if number == 3 else ("I", f"I;32{order}S")))
    else:
        image.im = Image.new(image.mode, image.size).im  # else it looks at its own limit
    array = as_array(image, asked.alpha)
    if number == 2 and bits == 16 and array.max(initial=0) > 32767:
        raise UnreadableError("signed whole numbers below 0; expected 0 to 65535.")
    return 65535 - array if inverted else array


def _check(file: _File, page: dict[int, _Tag]) -> None:
    """Errors: UnreadableError for what is not known to be read rightly."""

    def refuse(what: str) -> NoReturn:
        raise UnreadableError(f"a TIFF {what}: not read. Save it with grey or RGB pixels, or give it as an array.")

    colours, compression = file.one(page, _COLOURS, -1), file.one(page, _COMPRESSION, 1)
    samples, extra = file.one(page, _SAMPLES, 1), file.values(page, _EXTRA)
    bits = file.values(page, _BITS, (1,)) * (samples if len(file.values(page, _BITS, (1,))) == 1 else 1)
    numbers = set(file.values(page, _NUMBERS, (1,)))
    number = numbers.pop() if len(numbers) == 1 else 0
    kind = (number, bits[0])
    own = {_RGB: 3, _CMYK: 4, _YCBCR: 3}.get(colours, 1)
    plain = samples == 1
    if file.one(page, _DEPTH, 1) > 1:
        refuse("of a volume")
    if colours not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR):
        refuse("without a colour space" if colours < 0 else f"in colour space {colours}")
    if (
        len(bits) != samples
        or len(set(bits)) > 1
        or samples - own != len(extra) + (colours == _RGB and samples == 4 and not extra)
    ):
        refuse(f"of {samples} channels with {', '.join(map(str, bits[:8]))} bits in colour space {colours}")
    if number not in _KINDS or kind not in (_FORMS if plain else {(1, 8), (1, 16)}):
        refuse(f"of {bits[0]}-bit {_KINDS.get(number, 'undefined ')}numbers{'' if plain else ' in several channels'}")
    if (
        colours != _BLACK_IS_ZERO
        and plain
        and kind not in {(1, 1), (1, 2), (1, 4), (1, 8)} | ({(1, 16)} if colours == _WHITE_IS_ZERO else set())
    ):
        refuse(f"of {bits[0]}-bit {_KINDS[number]}numbers in colour space {colours}")
    if bits[0] == 16 and not plain and (colours != _RGB or samples > 4 or extra[:1] == (1,)):
        refuse("of several channels of 16 bits that are not RGB, or are multiplied by their transparency")
    if colours == _YCBCR and compression != _JPEG:
        refuse("in YCbCr without JPEG")
    if colours == _CMYK and (file.one(page, _INKS, 1) != 1 or set(file.values(page, _DOT_RANGE, (0, 255))) != {0, 255}):
        refuse("of other inks than CMYK from 0 to 255")
    if file.one(page, _PLANES, 1) != 1 and not plain and (bits[0] != 8 or colours != _RGB or extra):
        refuse("with its channels in separate planes")
    if file.one(page, _BIT_ORDER, 1) != 1 and not (
        compression <= 4
        and plain
        and ((bits[0] < 8 and colours != _PALETTE) or (kind == (1, 8) and colours == _BLACK_IS_ZERO))
    ):
        refuse("whose bits are in reverse order")
    if bits[0] == 12 and (compression != 1 or file.order == ">"):
        refuse("of 12-bit numbers, compressed or big-endian")
    if compression not in _COMPRESSIONS:
        refuse(f"of compression {compression}")
    if file.one(page, _PREDICTOR, 1) != 1 and compression not in _BY_DIFFERENCES:
        refuse("that has a predictor without a compression which takes one")


# Numbers (1: whole, 2: signed, 3: floating) and their bits, in one channel.
_FORMS = {(1, 1), (1, 2), (1, 4), (1, 8), (1, 12), (1, 16), (1, 32), (2, 16), (2, 32), (3, 32)}
