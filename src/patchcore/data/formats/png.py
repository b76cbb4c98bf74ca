"""PNG: of its metadata, decoders see only what may hold an orientation, and that within Pillow's limits."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import ImageFile

from . import CUT_OFF, SEVERAL, Asked, Pixels, UnreadableError, as_array, orientation_of, upright
from .deep import deep, halves, joined

_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_TEXTS = {b"tEXt": b"Raw profile type exif\0", b"zTXt": b"Raw profile type exif\0", b"iTXt": b"XML:com.adobe.xmp\0"}
_LONGEST = 2**20 - 1  # of such a text, which may be compressed


def read(data: bytes, asked: Asked) -> tuple[Pixels, tuple[str, ...]]:
    kept, at, kind, seen = [data[:8]], 8, b"", set[bytes]()
    while kind != b"IEND":
        if len(data) < at + 12:
            raise UnreadableError(CUT_OFF)
        size, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        if kind == b"acTL" and data[at + 8 : at + 12] > b"\0\0\0\1":
            raise UnreadableError(SEVERAL.format("an animated PNG"))
        if kind in _PIXELS:
            kept.append(data[at:end])
        elif kind not in seen and (kind == b"eXIf" or kind in _TEXTS) and _is_short(kind, data[at + 8 : end - 4]):
            seen.add(kind)
            body = data[at + 4 : end - 4]
            kept.append(data[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big"))
        at = end
    data = b"".join(kept)
    image = asked.open(data, "PNG")
    depth, colours = data[24], data[25]
    array = _deep(data, image, colours, asked) if depth == 16 and colours else as_array(image, asked.alpha)
    return upright(array, orientation_of(image)), ()


def _is_short(kind: bytes, body: bytes) -> bool:
    """Whether metadata are of a kind that may hold an orientation, and short enough, also once decompressed."""
    if kind == b"eXIf":
        return len(body) <= _LONGEST
    if not body.startswith(_TEXTS[kind]):
        return False
    text = body[len(_TEXTS[kind]) :]
    if kind == b"tEXt" or (kind == b"iTXt" and text[:1] != b"\1"):
        return len(body) <= _LONGEST
    inflate = zlib.decompressobj()
    try:
        inflate.decompress(text[1:] if kind == b"zTXt" else text[2:].split(b"\0", 2)[-1], _LONGEST)
    except zlib.error:
        return False
    return inflate.eof


def _deep(data: bytes, image: ImageFile.ImageFile, colours: int, asked: Asked) -> Pixels:
    """Several channels of 16 bits, of which Pillow would keep 8."""
    if colours == 4:  # grey and alpha, two bytes each
        pairs = as_array(halves(image, "RGBA", "RGBA"), alpha=True).view(">u2")
        return pairs[..., : 2 if asked.alpha else 1].astype(np.uint16)
    if colours & 4 == 0 and (array := deep(data)) is not None:
        return array
    mode = "RGBA" if colours & 4 else "RGB"
    return joined(
        lambda: halves(asked.open(data, "PNG"), mode, f"{mode};16B"),
        lambda: halves(image, mode, f"{mode};16L"),
        asked.alpha,
    )
