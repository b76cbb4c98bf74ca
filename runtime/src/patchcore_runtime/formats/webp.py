"""WebP."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from . import SEVERAL, Asked, Pixels, UnreadableError, orientation_of, upright

_ANIMATED = 2  # the bit of an extended header


def read(data: bytes, asked: Asked) -> tuple[Pixels, tuple[str, ...]]:
    if data[12:16] == b"VP8X" and len(data) >= 30:
        wide, high = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        asked.check(wide, high)
        if data[20] & _ANIMATED:  # before Pillow's decoder, which holds the whole canvas several times
            raise UnreadableError(SEVERAL.format("an animated WebP"))
    image = asked.open(data, "WEBP")
    (width, height), orientation = image.size, orientation_of(image)
    frame = cast(Any, image)._get_next()[0]  # Pillow's `load` would make an image of it, and keep both
    array: Pixels = np.frombuffer(frame, np.uint8).reshape(height, width, -1)
    return upright(array if asked.alpha and image.mode == "RGBA" else array[..., :3], orientation), ()
