"""Reading images without losing depth: what `patchcore.data.images.read` does, and the same pixels."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_runtime import formats
from patchcore_runtime.errors import ImageError

ImageLike: TypeAlias = "str | bytes | os.PathLike[str] | BinaryIO | Image.Image | NDArray[Any]"
Colour: TypeAlias = Literal["rgb", "bgr"]

MAX_PIXELS = 100_000_000  # the largest image that is decoded, unless a caller says otherwise


def read(
    image: ImageLike,
    name: str,
    max_pixels: int = MAX_PIXELS,
    colour: Colour = "rgb",
    *,
    warnings: list[str] | None = None,
) -> NDArray[Any]:
    """An image as an array (H, W, C), C = 1 (grey) or 3 (R, G, B): uint8, uint16 or float32.

    A file is given by path, as bytes or opened. EXIF orientation is applied; palettes and CMYK become RGB;
    transparency is dropped. Arrays are HWC or HW; `colour` is the order of their channels. What is wrong with a part
    of a file's pixels is appended to `warnings`, or an error without it. Errors: ImageError, which names the image.
    """
    image = plain(image, name)
    if isinstance(image, str | Path):
        return _read_file(Path(image), name, max_pixels, warnings)
    if isinstance(image, bytes):
        return _read_file(image, name, max_pixels, warnings)
    if isinstance(image, Image.Image):
        with _damage(name):
            image.load()
            return _from_array(formats.upright(formats.as_array(image), formats.orientation_of(image)), name)
    pixels = _from_array(_as_array(image, name), name)
    return pixels[..., ::-1] if colour == "bgr" else pixels


def plain(image: Any, name: str) -> Any:
    """What a caller has for one image, without its wrapping (`formats.plain`). Errors: ImageError."""
    with _damage(name):
        return formats.plain(image)


def _as_array(image: object, name: str) -> NDArray[Any]:
    if image is None:
        raise ImageError(
            name,
            "None, where an image was expected. cv2.imread gives None where it cannot read a file: check its path.",
        )
    if np.ma.is_masked(image):
        raise ImageError(
            name, "a masked array, in which some pixels do not count, which no graph knows. Give array.data."
        )
    array = np.asarray(image)
    if array.ndim == 0 or array.dtype.kind not in "buifc":
        raise ImageError(
            name,
            f"{type(image).__name__}, where an image was expected. Give a path, an array, a PIL image, or "
            "the bytes of an image file.",
        )
    return array


def check_shape(pixels: NDArray[Any], name: str, recipe: dict[str, Any], max_pixels: int) -> None:
    """Errors: ImageError for an image so long and narrow that it would take more memory than the limit allows."""
    if "resize" not in recipe or "size" not in recipe:
        return
    size, small = recipe["size"], recipe.get("tile") is not None or recipe.get("crop") is not None
    sides = (size, size) if isinstance(size, int) else (size[0], size[1])
    try:
        formats.check_shape(pixels.shape, recipe["resize"], sides, small, max_pixels)
    except formats.UnreadableError as error:
        raise ImageError(name, str(error)) from None


def checked(pixels: NDArray[Any], name: str, check_float: bool) -> NDArray[Any]:
    """The same pixels; with `check_float`, ImageError for floats outside 0 to 1."""
    if not check_float or pixels.dtype != np.float32:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        raise ImageError(
            name,
            f"a float image with values from {low:g} to {high:g}; expected 0 to 1. Leave out any normalisation, or "
            f"fit with the range in the recipe, for example value_range=[{math.floor(min(low, 0))},{math.ceil(high)}].",
        )
    return pixels


def _read_file(source: Path | bytes, name: str, max_pixels: int, warnings: list[str] | None) -> NDArray[Any]:
    with _damage(name):
        if isinstance(source, Path) and source.is_dir():
            raise ImageError(name, "a folder, where an image was expected.")
        if (source.stat().st_size if isinstance(source, Path) else len(source)) == 0:
            raise ImageError(name, "an empty file (0 bytes).")
        pixels, wrong = formats.decode(source, max_pixels)
        if wrong and warnings is None:
            raise ImageError(name, wrong[0])
        if warnings is not None:
            warnings += wrong
        return _from_array(pixels, name)


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Decoders raise many kinds of error for files that are not what they should be."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(name, formats.absent(os.fsdecode(error.filename or name))) from None
    except formats.UnreadableError as error:
        raise ImageError(name, str(error)) from error.__cause__
    except Exception as error:
        system = isinstance(error, OSError) and error.errno is not None  # else it is a decoder's
        raise ImageError(name, formats.refused(error) if system else f"damaged or truncated: {error}") from error


def _from_array(array: NDArray[Any], name: str) -> NDArray[Any]:
    array, given = array.astype(array.dtype.newbyteorder("="), copy=False), array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.size == 0:
        raise ImageError(name, f"an array of shape {given}, which has no pixels.")
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(
            name, f"an array of shape {given}; expected (H, W), or (H, W, C) with C = 1, 3 or 4.{formats.layout(given)}"
        )
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype not in (np.uint8, np.uint16):
        if not np.issubdtype(array.dtype, np.floating):
            raise ImageError(
                name,
                f"an array of {array.dtype}; expected uint8, uint16 or float. Convert it: array.astype('uint8') keeps "
                "values of 0 to 255, and uint16 those up to 65535.",
            )
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ImageError(name, "a float image with NaN or infinite values.")
    return array[..., :3] if array.shape[2] == 4 else array
