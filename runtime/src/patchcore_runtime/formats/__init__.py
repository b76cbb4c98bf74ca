"""Formats: image files to pixels; each format is a file of this folder, which patchcore-runtime has byte for byte too.

Decoders are given nothing of a file but what its pixels are made of. So metadata cannot make an intact file an error,
and nothing that changes what pixels mean can go unseen: what is not known to be read rightly is refused.
"""

from __future__ import annotations

import io
import os
import re
import threading
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

Pixels: TypeAlias = "NDArray[Any]"  # (H, W, 1 or 3), uint8, uint16 or float32

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
CUT_OFF = "damaged or truncated: it is cut off."
SEVERAL = "{}; expected one image. Save the one that is to be looked at in a file of its own."

# How files begin, whatever they are called. Other formats nobody asked for, and their decoders may start programs.
_BEGINNINGS = {
    rb"\x89PNG\r\n\x1a\n": "png",
    rb"\xff\xd8\xff": "jpeg",
    rb"II\*\0|MM\0\*|II\+\0\x08\0\0\0|MM\0\+\0\x08\0\0": "tiff",
    rb"BM": "bmp",
    rb"RIFF....WEBP": "webp",
    rb"P[56][\s#]": "pnm",
}
_pillow_limit = threading.Lock()


class UnreadableError(Exception):
    """Why a file cannot be read, as a sentence."""


@dataclass(frozen=True)
class Asked:
    """What is asked of a file."""

    max_pixels: int
    alpha: bool = False  # transparency as one channel more, where there is any

    def check(self, width: int, height: int) -> None:
        """Errors: UnreadableError above the limit."""
        if width * height > self.max_pixels:
            raise UnreadableError(
                f"{width} x {height} pixels are more than the limit of {self.max_pixels}. If the file is what it "
                "should be, raise the limit (--max-pixels, or max_pixels=)."
            )

    def open(self, data: bytes, kind: str) -> ImageFile.ImageFile:
        """An image's header, without Pillow's own limit: ours is checked, before anything is decoded."""
        with _pillow_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(io.BytesIO(data), formats=[kind])
            except UnidentifiedImageError:
                raise UnreadableError(f"damaged or truncated, or a kind of {kind} that is not read.") from None
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        self.check(*image.size)
        return image


class _Format(Protocol):
    """What the file of a format has. `warnings`: what is wrong with a part of the pixels."""

    def read(self, data: bytes, asked: Asked) -> tuple[Pixels, tuple[str, ...]]: ...


def decode(path: Path, max_pixels: int, alpha: bool = False) -> tuple[Pixels, tuple[str, ...]]:
    """A file's pixels, upright, and warnings: what is wrong with a part of them.

    Errors: UnreadableError; OSError; of a damaged file whatever a decoder raises.
    """
    with path.open("rb") as file:
        head, size = file.read(16), os.fstat(file.fileno()).st_size
        for beginning, name in _BEGINNINGS.items():
            if re.match(beginning, head, re.DOTALL):
                most = 16 * max_pixels + 2**26  # a pixel of the most channels and bits has 16 bytes, metadata few
                if size > most:
                    raise UnreadableError(f"a file of {size} bytes; an image of at most {max_pixels} pixels has less.")
                file.seek(0)
                module = cast(_Format, import_module(f"{__name__}.{name}"))
                return module.read(file.read(), Asked(max_pixels, alpha))
    raise UnreadableError(f"not an image that can be read. Known: {', '.join(sorted(EXTENSIONS))}.")


def as_array(image: Image.Image, alpha: bool = False) -> Pixels:
    """A Pillow image as an array (H, W, C); with `alpha`, its transparency as one channel more, if it has any."""
    if image.mode == "F":
        return np.asarray(image)[..., None]
    if image.mode.startswith("I"):  # I;16 in its byte orders, or 32-bit whole numbers
        array = np.asarray(image)
        low, high = int(array.min(initial=0)), int(array.max(initial=0))
        if low < 0 or high > 65535:
            raise UnreadableError(f"32-bit or signed whole numbers from {low} to {high}; expected 16 bits, 0 to 65535.")
        return array.astype(np.uint16)[..., None]
    clear = image.has_transparency_data
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    elif image.mode.startswith("P"):
        colours = np.asarray(image.getpalette("RGB")).reshape(-1, 3)
        grey = not clear and bool((colours == colours[:, :1]).all())
        image = image.convert("RGBA" if clear else "L" if grey else "RGB")
    elif image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    elif alpha and clear:
        image = image.convert("LA" if image.mode.startswith("L") else "RGBA")
    array = np.asarray(image)
    if array.ndim == 2:
        return array[..., None]
    return array if alpha and clear else array[..., : 1 if array.shape[2] == 2 else 3]


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the metadata say none, or nothing that can be understood."""
    try:
        orientation = image.getexif().get(274, 1)
    except Exception:  # Pillow raises many kinds of error for damaged metadata; the pixels are as good without
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def upright(array: Pixels, orientation: int) -> Pixels:
    """Apply an orientation, 1 to 8."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)  # what follows is then the same as for 1 to 4
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return array[::rows, ::columns]


def deep(data: bytes, channels: int) -> Pixels | None:
    """Colours of 16 bits as OpenCV decodes them: R, G, B, and alpha of four channels. None if it cannot, or is not there.

    Pillow needs up to twice as long (`halves`); patchcore-runtime need not have OpenCV.
    """
    try:
        import cv2
    except ImportError:
        return None
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.ndim != 3 or array.shape[2] != channels:
        return None
    return array[..., 2::-1] if channels == 3 else array[..., [2, 1, 0, 3]]


def halves(image: ImageFile.ImageFile, mode: str, raw: str) -> Pixels:
    """What Pillow decodes if it takes the rows of a file for `raw`: so it gives either byte of 16 bits."""
    image.im = Image.new(mode, image.size).im
    image._mode = mode
    image.tile = [one._replace(args=(raw, *one.args[1:]) if isinstance(one.args, tuple) else raw) for one in image.tile]
    image.load()
    return np.asarray(image)


def joined(high: Pixels, low: Pixels) -> Pixels:
    """Values of 16 bits from their bytes."""
    array = high.astype(np.uint16)
    array <<= 8
    array |= low
    return array
