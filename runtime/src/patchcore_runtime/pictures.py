"""Pictures in: files, PIL images and arrays to (H, W, 1 or 3), as `patchcore.data.images` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from patchcore_runtime.errors import PictureError

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")


def read(picture: Any, name: str) -> NDArray[Any]:
    """A picture as an array (H, W, C), C = 1 (grey) or 3 (R, G, B), uint8, uint16 or float32. Errors: PictureError."""
    if isinstance(picture, str | Path):
        try:
            with Image.open(picture, formats=_FORMATS) as image:
                return _from_pillow(image, name)
        except PictureError:
            raise
        except FileNotFoundError:
            raise PictureError(name, "no such file.") from None
        except Exception as error:  # decoders raise many kinds
            raise PictureError(name, f"cannot be read: {error}") from error
    if isinstance(picture, Image.Image):
        return _from_pillow(picture, name)
    return _check(np.asarray(picture), name)


def checked(pixels: NDArray[Any], name: str, check_float: bool) -> NDArray[Any]:
    """The same pixels; PictureError for float values that are not in [0, 1], where they have to be."""
    if check_float and pixels.dtype == np.float32 and (pixels.min() < 0 or pixels.max() > 1):
        low, high = float(pixels.min()), float(pixels.max())
        raise PictureError(name, f"a float picture with values from {low:g} to {high:g}; expected 0 to 1.")
    return pixels


def _from_pillow(image: Image.Image, name: str) -> NDArray[Any]:
    image.load()
    bits = image.tag_v2.get(258, (8,)) if image.format == "TIFF" else (8,)  # type: ignore[attr-defined]
    deep = getattr(getattr(image, "png", None), "im_rawmode", None) or ""
    if (len(bits) > 1 and max(bits) > 8) or (image.mode.startswith("RGB") and "16" in str(deep)):
        raise PictureError(name, "16-bit colour, which Pillow cuts to 8 bits; give it as a uint16 array.")
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        return _check(np.asarray(image), name)
    if image.mode.startswith("I"):
        array = np.asarray(image)
        if array.min() < 0 or array.max() > 65535:
            raise PictureError(name, f"whole numbers from {array.min()} to {array.max()}; expected 0 to 65535.")
        return array.astype(np.uint16)[..., None]
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    grey = image.mode in ("1", "L", "LA") or (image.mode == "P" and _grey_palette(image))
    array = np.asarray(image.convert("L" if grey else "RGB"))
    return array[..., None] if grey else array


def _grey_palette(image: Image.Image) -> bool:
    colours = np.asarray(image.getpalette("RGB")).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _check(array: NDArray[Any], name: str) -> NDArray[Any]:
    given = array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.size == 0 or array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise PictureError(name, f"an array of shape {given}; expected (H, W), or (H, W, C) with C = 1, 3 or 4.")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype not in (np.uint8, np.uint16):
        if not np.issubdtype(array.dtype, np.floating):
            raise PictureError(name, f"an array of {array.dtype}; expected uint8, uint16 or float.")
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise PictureError(name, "a float picture with NaN or infinite values.")
    return array[..., :3] if array.shape[2] == 4 else array
