"""JPEG, and whether its compressed data are as many as its pixels need.

libjpeg goes on where they are too few or too many, with a warning that Pillow hides; such an image is wrong from some
place on. So the data are fed in pieces: all but their last byte must not do, and all of them must. What follows them
is fed in between, as ones, which end no Huffman code, because the decoder reads ahead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageChops, ImageFile

from . import CUT_OFF, Asked, Pixels, UnreadableError, as_array, orientation_of, upright

_EOI, _SOS, _DRI, _APP1 = 0xD9, 0xDA, 0xDD, 0xE1
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_METADATA = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # but not what JFIF and Adobe say of the colours
_ONES = b"\xff\0" * 8
_MARKER = re.compile(rb"\xff+[^\0\xff]")
DAMAGED = "damaged: its compressed data do not end where its pixels do, so a part of the image is wrong."


def read(data: bytes, asked: Asked) -> tuple[Pixels, tuple[str, ...]]:
    kept, at, orientation, kind, interval, mcu = [data[:2]], 2, 1, 0, 0, (8, 8)
    while kind != _SOS:
        at = _at_marker(data, at)
        kind, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at : at + 2 + size]
        if kind == _APP1 and orientation == 1:
            orientation = _orientation(segment)
        elif kind == _DRI:
            interval = int.from_bytes(segment[4:6], "big")
        elif kind in _FRAMES:
            mcu = _mcu(segment)
        if kind not in _METADATA:
            kept.append(segment)
        at += 2 + size
    begin = sum(map(len, kept))
    data = b"".join((*kept, data[at:]))
    image = asked.open(data, "JPEG")
    sound = _load(image, data, begin, interval, mcu, asked)
    return upright(as_array(image), orientation), () if sound else (DAMAGED,)


def _at_marker(data: bytes, at: int) -> int:
    """Where the marker of a segment is, behind bytes that fill."""
    while data[at : at + 2] == b"\xff\xff":
        at += 1
    if len(data) < at + 4:
        raise UnreadableError(CUT_OFF)
    if data[at] != 0xFF:
        raise UnreadableError("damaged or truncated: its header cannot be understood.")
    return at


def _orientation(segment: bytes) -> int:
    """What EXIF or XMP say."""
    if segment[4:8] == b"Exif":
        image = Image.new("L", (1, 1))
        image.info["exif"] = segment[4:]
        return orientation_of(image)
    found = re.search(rb"tiff:Orientation(?:=\"|>)([1-8])", segment)
    return int(found[1]) if found and segment[4:8] == b"http" else 1


def _mcu(frame: bytes) -> tuple[int, int]:
    """Height and width of what the data of one scan come in: an 8 x 8 block of each component, or several."""
    factors = [divmod(factor, 16) for factor in frame[11 : 10 + 3 * frame[9] : 3]]
    return (8, 8) if len(factors) < 2 else (8 * max(v for _, v in factors), 8 * max(h for h, _ in factors))


def _load(
    image: ImageFile.ImageFile, data: bytes, begin: int, interval: int, mcu: tuple[int, int], asked: Asked
) -> bool:
    """Decode; whether nothing was wrong with the data, which begin at `begin`."""
    codes = np.frombuffer(data, np.uint8, offset=begin)
    markers = np.flatnonzero((codes[:-1] == 0xFF) & (codes[1:] != 0) & (codes[1:] != 0xFF))
    kinds = codes[markers + 1]
    ends = np.flatnonzero((kinds & 0xF8) != 0xD0)
    markers += begin
    if not len(ends) or kinds[ends[0]] != _EOI:
        image.load()
        return not len(ends) or _same_if_padded(image, data, begin, asked)
    restarts, end = markers[: ends[0]], int(markers[ends[0]])
    rows, columns = -(-image.height // mcu[0]), -(-image.width // mcu[1])
    if interval and (
        len(restarts) != -(-rows * columns // interval) - 1
        or (kinds[: ends[0]] != 0xD0 + np.arange(len(restarts)) % 8).any()
    ):
        image.load()
        return False
    done = [divmod(number * interval, columns) for number in range(1, len(restarts) + 1)]
    stops = [(int(at), row * mcu[0] - mcu[0] // 2) for at, (row, rest) in zip(restarts, done, strict=True) if rest == 0]
    fed = _Fed(image, data, stops, end)
    image.load()
    return fed.sound and (len(stops) == len(restarts) or _same_if_padded(image, data, begin, asked))


class _Fed:
    """A file that gives its data in pieces, and sees when rows of pixels have been written.

    `stops`: where an interval ends with a row of blocks, and a row of pixels in those; `end`: where the data end.
    """

    def __init__(self, image: ImageFile.ImageFile, data: bytes, stops: list[tuple[int, int]], end: int) -> None:
        self.sound, self._pieces = True, self._feed(data, stops, end)
        self._width, self._unwritten = image.width, os.urandom(image.width * len(image.getbands()))
        self._image = Image.new(image.mode, image.size)
        row = Image.frombytes(image.mode, (image.width, 1), self._unwritten)
        for _, top in stops:
            self._image.paste(row, (0, top))
        image.im, image.fp = self._image.im, self  # type: ignore[assignment]

    def _feed(self, data: bytes, stops: list[tuple[int, int]], end: int) -> Iterator[bytes]:
        at, sound = 0, True
        for stop, row in stops:
            yield data[at : stop - 1]
            sound &= not self._is_written(row)
            yield data[stop - 1 : stop] + _ONES
            sound &= self._is_written(row)
            at = stop
        self.sound = False  # if this is the last piece that is asked for
        yield data[at : end - 1]
        self.sound = sound
        yield data[end - 1 : end] + _ONES
        self.sound = False
        yield data[end:]

    def _is_written(self, row: int) -> bool:
        return self._image.crop((0, row, self._width, row + 1)).tobytes() != self._unwritten

    def read(self, _size: int = -1) -> bytes:
        return next(self._pieces, b"")

    def seek(self, _offset: int, _whence: int = 0) -> int:
        return 0

    def close(self) -> None:
        pass


def _same_if_padded(image: ImageFile.ImageFile, data: bytes, at: int, asked: Asked) -> bool:
    """Whether the pixels stay the same if more data follow those of each scan and interval: whether none had too few.

    For a progressive image, all of whose scans are read before any pixel is written.
    """
    padded = [data[:at]]
    while found := _MARKER.search(data, at):
        padded.append(data[at : found.start()] + _ONES)
        at, kind = found.start(), found[0][-1]
        if kind & 0xF8 == 0xD0:
            end = found.end()
        else:
            end = at
            while kind != _EOI:  # the segments before the next scan
                end = _at_marker(data, end)
                kind = data[end + 1]
                if kind == _EOI:
                    break
                end += 2 + int.from_bytes(data[end + 2 : end + 4], "big")
                if kind == _SOS:
                    break
        padded.append(data[at:end])
        at = end
        if kind == _EOI:
            break
    again = asked.open(b"".join((*padded, data[at:])), "JPEG")
    return ImageChops.difference(image, again).getbbox() is None
