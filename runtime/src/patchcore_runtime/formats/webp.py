"""WebP."""

from __future__ import annotations

from . import SEVERAL, Asked, Pixels, UnreadableError, as_array, orientation_of, upright

_ANIMATED = 2  # the bit of an extended header


def read(data: bytes, asked: Asked) -> tuple[Pixels, tuple[str, ...]]:
    if data[12:16] == b"VP8X" and len(data) >= 30:
        wide, high = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        asked.check(wide, high)
        if data[20] & _ANIMATED:  # before Pillow's decoder, which holds the whole canvas several times
            raise UnreadableError(SEVERAL.format("an animated WebP"))
    image = asked.open(data, "WEBP")
    return upright(as_array(image, asked.alpha), orientation_of(image)), ()
