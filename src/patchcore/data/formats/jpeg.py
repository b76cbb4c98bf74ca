"""JPEG, and whether its compressed data are as many as its pixels need.

libjpeg goes on where they are too few or too many, with a warning that Pillow hides; such an image is wrong from some
place on. But it can be seen in what the decoder takes: one that needs more holds back what it was fed, byte by byte,
until it is enough to go on, and one that has all it needs passes over everything up to the next marker at once. So
for each run of data, all of it but the last byte must not do, and all of it must.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFile

from . import CUT_OFF, Asked, Pixels, UnreadableError, as_array, orientation_of, upright

_EOI, _SOS, _APP1 = 0xD9, 0xDA, 0xE1
_ARITHMETIC = (0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)  # frames whose decoder cannot wait for more data
_METADATA = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # but not what JFIF and Adobe say of the colours
_ONE = b"\xff\0"  # eight ones, which end no code; as many as the decoder reads ahead are fed behind each run
_AHEAD, _LOOKS = 8, 3
DAMAGED = "damaged: its compressed data do not end where its pixels do, so a part of the image is wrong."


def read(data: bytes, asked: Asked) -> tuple[Pixels, tuple[str, ...]]:
    array, orientation, sound = _read(data, asked)
    return upright(array, orientation), () if sound else (DAMAGED,)


def is_sound(data: bytes, tables: bytes, asked: Asked) -> bool:
    """The same of a strip or tile in a TIFF, whose tables may be in another place. Errors: UnreadableError."""
    return _read(tables[:-2] + data[2:] if len(tables) > 4 else data, asked)[2]


def _read(data: bytes, asked: Asked) -> tuple[Pixels, int, bool]:
    """Pixels as they are stored, their orientation, and whether they are all there."""
    kept, at, orientation, kind, patient, sequential = [data[:2]], 2, 1, 0, True, False
    while kind != _SOS:
        at = _at_marker(data, at)
        kind, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at : at + 2 + size]
        if kind == _APP1 and orientation == 1:
            orientation = _orientation(segment)
        patient &= kind not in _ARITHMETIC
        sequential |= kind in (0xC0, 0xC1)
        if kind not in _METADATA:
            kept.append(segment)
        at += 2 + size
    begin = sum(map(len, kept))
    data = b"".join((*kept, data[at:]))
    image = asked.open(data, "JPEG")
    if not patient:
        return as_array(image), orientation, True
    decoder = _Decoder(image)
    sound = _decode(decoder, data, begin, sequential)
    return as_array(decoder.image), orientation, sound


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


def _runs(data: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Where each run of compressed data ends, and which marker is there; those of a scan begin at `at`."""
    codes = np.frombuffer(data, np.uint8)
    markers = at + np.flatnonzero((codes[at:-1] == 0xFF) & (codes[at + 1 :] != 0) & (codes[at + 1 :] != 0xFF))
    number = 0
    while number < len(markers):
        end, kind = int(markers[number]), int(codes[markers[number] + 1])
        while data[end - 1] == 0xFF:  # it fills
            end -= 1
        yield end, kind
        if kind == _EOI:
            return
        number += 1
        if kind & 0xF8 != 0xD0:  # no restart, but segments before the next scan
            at = int(markers[number - 1])
            while kind not in (_SOS, _EOI):
                at = _at_marker(data, at + 2 + int.from_bytes(data[at + 2 : at + 4], "big"))
                kind = data[at + 1]
            if kind == _EOI:
                return
            number = int(np.searchsorted(markers, at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")))


def _decode(decoder: _Decoder, data: bytes, begin: int, sequential: bool) -> bool:
    """Whether every run of the data ends where its pixels do; a `sequential` image of one scan is done then."""
    at, sound, count = 0, True, 0
    for end, kind in _runs(data, begin):
        short = end - max(at, begin) <= _LOOKS
        single = 0 if short else _LOOKS
        decoder.feed(data[at : end - 1 - single])
        enough = [decoder.feed(data[one : one + 1]) for one in range(end - 1 - single, end - 1)]
        sound &= short or not all(enough)
        decoder.feed(data[end - 1 : end] + _ONE * _AHEAD)
        sound &= all([decoder.feed(_ONE) for _ in range(_LOOKS)])
        restart = kind & 0xF8 == 0xD0
        sound &= not restart or kind & 7 == count % 8  # within a scan they are numbered
        sound &= not sequential or kind != _EOI or decoder.done
        sequential, count, at = sequential and restart, count + 1 if restart else 0, end
    decoder.feed(data[at:])
    decoder.close()
    return sound


class _Decoder:
    """Pillow's decoder, which is fed piece by piece."""

    def __init__(self, image: ImageFile.ImageFile) -> None:
        self.image = Image.new(image.mode, image.size)
        self._decoder = Image._getdecoder(image.mode, "jpeg", image.tile[0].args, image.decoderconfig)
        self._decoder.setimage(self.image.im, (0, 0, *image.size))
        self._held, self.done = b"", False

    def feed(self, data: bytes) -> bool:
        """Whether the decoder has taken all that it was fed. Errors: OSError."""
        if not self.done:
            self._held += data
            taken, error = self._decoder.decode(self._held)
            if error < 0:
                raise OSError("broken data stream when reading image file")
            self.done = taken < 0
            self._held = b"" if self.done else self._held[taken:]
        return not self._held

    def close(self) -> None:
        """Errors: UnreadableError if the image is not complete."""
        self._decoder.cleanup()
        if not self.done:
            raise UnreadableError(CUT_OFF)
