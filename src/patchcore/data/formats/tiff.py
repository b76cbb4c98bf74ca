"""TIFF: the page of full resolution, with the tags that decide its pixels and no others.

Pillow does not interpret all of them. What it does not is done here, or refused.
"""

from __future__ import annotations

import re
import struct
import sys
from dataclasses import dataclass
from typing import NoReturn

from PIL import Image

from . import CUT_OFF, SEVERAL, Asked, Pixels, UnreadableError, as_array, upright
from .deep import deep, halves, joined

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _BIT_ORDER = (
    254,
    255,
    256,
    257,
    258,
    259,
    262,
    266,
)
_DESCRIPTION, _ORIENTATION, _SAMPLES, _PLANES, _PREDICTOR, _COLOUR_MAP = 270, 274, 277, 284, 317, 320
_SUB_PAGES, _INKS, _DOT_RANGE, _EXTRA, _NUMBERS, _DEPTH = 330, 332, 336, 338, 339, 32997
# What is handed on: of those above, and of strips, tiles, fax options, JPEG tables and the subsampling of colours.
_KEPT = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _BIT_ORDER, _SAMPLES, _PLANES, _PREDICTOR, _COLOUR_MAP),
    *(_EXTRA, _NUMBERS, 273, 278, 279, 292, 293, 322, 323, 324, 325, 347, 530),
}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = {1: "B", 3: "H", 4: "I", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}  # types of whole numbers
_MOST_PAGES = 10_000
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_JPEG, _BY_DIFFERENCES = 7, {5, 8, 32946, 34925, 50000}  # compressions: LZW, Deflate, LZMA, Zstandard
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

    def of_page(self, page: dict[int, _Tag], instead: dict[int, int]) -> bytes:
        """The file as a classic TIFF of this page alone, with what is handed on and no other tags.

        `instead`: other values of some tags, for what Pillow does not know.
        """
        parts, end = [self.data, b"\0" * (len(self.data) % 2)], len(self.data) + len(self.data) % 2
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
        parts[0] = self.data[len(head) :]
        return b"".join((head, *parts, struct.pack(self.order + "H", len(entries)), *entries, bytes(4)))


_ASKED = {_SUBFILE, _OLD_SUBFILE, _DESCRIPTION, _ORIENTATION, _SUB_PAGES, _INKS, _DOT_RANGE, _DEPTH}


def read(data: bytes, asked: Asked) -> tuple[Pixels, tuple[str, ...]]:
    file = _File(data)
    page = file.full()
    asked.check(file.one(page, _WIDTH), file.one(page, _HEIGHT))
    _check(file, page)
    bits, samples, number = file.one(page, _BITS, 1), file.one(page, _SAMPLES, 1), file.one(page, _NUMBERS, 1)
    orientation, white_is_zero = file.one(page, _ORIENTATION, 1), file.one(page, _COLOURS) == _WHITE_IS_ZERO
    mode = "RGB" if samples == 3 or file.values(page, _EXTRA) == (0,) else "RGBA"
    first = "RGBX" if mode == "RGB" and samples == 4 else mode
    little, plain = file.order == "<", file.one(page, _COMPRESSION, 1) == 1
    instead = {_COLOURS: _BLACK_IS_ZERO} if white_is_zero and bits == 16 else {}
    if samples == 1 and bits > 8:
        instead[_NUMBERS] = {16: 1, 32: max(number, 2)}.get(bits, number)
    data = file.of_page(page, instead)
    del file
    if samples > 1 and bits == 16:  # of which Pillow would keep 8
        array = deep(data, samples)
        if array is None:
            little = little if plain else sys.byteorder == "little"  # as it comes from libtiff
            ends = "LB" if little else "BL"
            array = joined(*(halves(asked.open(data, "TIFF"), mode, f"{first};16{end}") for end in ends))
        if not asked.alpha or mode == "RGB":
            array = array[..., :3]
    else:
        image = asked.open(data, "TIFF")
        if bits == 32:  # Pillow takes what comes from libtiff to be in the file's order
            order = "N" if not plain else "" if little else "B"
            halves(image, *(("F", f"F;32{order}F") if number == 3 else ("I", f"I;32{order}S")))
        image.im = image.im if bits == 32 else Image.new(image.mode, image.size).im  # else it looks at its own limit
        array = as_array(image, asked.alpha)
        if number == 2 and bits == 16 and array.max(initial=0) > 32767:
            raise UnreadableError("signed whole numbers below 0; expected 0 to 65535.")
        if _COLOURS in instead:
            array = 65535 - array
    return upright(array, orientation), ()


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
    if file.one(page, _BIT_ORDER, 1) != 1 and (compression > 4 or bits[0] > 8 or not plain):
        refuse("whose bits are in reverse order")
    if bits[0] == 12 and (compression != 1 or file.order == ">"):
        refuse("of 12-bit numbers, compressed or big-endian")
    if file.one(page, _PREDICTOR, 1) != 1 and compression not in _BY_DIFFERENCES:
        refuse("that has a predictor without a compression which takes one")


# Numbers (1: whole, 2: signed, 3: floating) and their bits, in one channel.
_FORMS = {(1, 1), (1, 2), (1, 4), (1, 8), (1, 12), (1, 16), (1, 32), (2, 16), (2, 32), (3, 32)}
