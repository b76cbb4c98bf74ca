"""Reading images, and turning them into tensors without losing depth."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from patchcore.data import formats
from patchcore.data.formats import Pixels as Pixels
from patchcore.data.reading import MAX_PIXELS, Colour
from patchcore.errors import ImageError

ImageLike: TypeAlias = "str | bytes | os.PathLike[str] | BinaryIO | Image.Image | NDArray[np.generic] | Tensor"


def read(
    image: ImageLike,
    name: str,
    max_pixels: int = MAX_PIXELS,
    colour: Colour = "rgb",
    *,
    warnings: list[str] | None = None,
    alpha: bool = False,
) -> Pixels:
    """An image as an array (H, W, C), C = 1 (grey) or 3 (R, G, B), at its own depth.

    Files, by path, as bytes or opened: PNG, JPEG, BMP, TIFF, WebP, PGM, PPM (docs/images.md); 8 bits become uint8,
    16 bits uint16, 32-bit float float32. EXIF orientation is applied; palettes and CMYK become RGB; transparency is
    dropped, or with `alpha` is one channel more, where a file has any. Arrays are HWC or HW; tensors CHW or HW;
    `colour` is the order of their channels.

    What is wrong with a part of a file's pixels is appended to `warnings`, or an error without it. Errors:
    ImageError, which names the image.
    """
    image = plain(image, name)
    if isinstance(image, str | Path):
        return _read_file(Path(image), name, max_pixels, warnings, alpha)
    if isinstance(image, bytes):
        return _read_file(image, name, max_pixels, warnings, alpha)
    if isinstance(image, Image.Image):
        with _damage(name):
            image.load()
            return _check_array(formats.upright(formats.as_array(image), formats.orientation_of(image)), name)
    if isinstance(image, Tensor):
        try:
            image = image.detach().cpu()
            array = (image.float() if image.is_floating_point() else image).numpy()
        except (NotImplementedError, RuntimeError, TypeError) as error:  # meta, sparse, quantised
            reason = str(error).split("!")[0].splitlines()[0].rstrip(".")
            raise ImageError(name, f"a tensor without plain pixels ({reason}). Give a dense one.") from error
        pixels = _check_array(array, name, "a tensor")
    else:
        pixels = _check_array(_as_array(image, name), name)
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
            name,
            "a masked array, in which some pixels do not count. What counts is the same in all images: a region of "
            "interest (Recipe.roi). Give array.data.",
        )
    array = np.asarray(image)
    if array.ndim == 0 or array.dtype.kind not in "buifc":
        raise ImageError(
            name,
            f"{type(image).__name__}, where an image was expected. Give a path, an array, a tensor, a PIL image, or "
            "the bytes of an image file.",
        )
    return array


def to_tensor(pixels: Pixels, name: str, value_range: tuple[float, float] | None = None) -> Tensor:
    """(H, W, C) pixels -> (C, H, W) float32 in [0, 1].

    Without a `value_range`, uint8 and uint16 use their full range and floats must be in [0, 1].
    """
    tensor = torch.from_numpy(np.array(pixels.transpose(2, 0, 1), dtype=np.float32, order="C"))
    if value_range is None:
        if pixels.dtype == np.float32:
            low, high = float(tensor.min()), float(tensor.max())
            if low < 0 or high > 1:
                bottom = math.floor(min(low, 0))
                top = next((top for top in (255, 1023, 4095, 65535) if low >= 0 and high <= top), math.ceil(high))
                raise ImageError(
                    name,
                    f"a float image with values from {low:g} to {high:g}; expected 0 to 1. Leave out any "
                    f"normalisation, or state the range in the recipe, for example value_range=[{bottom},{top}].",
                )
            return tensor
        value_range = (0.0, 255.0 if pixels.dtype == np.uint8 else 65535.0)
    low, high = value_range
    return tensor.sub_(low).div_(high - low).clamp_(0, 1)  # in place: it is the largest thing while reading


def mark(pixels: Pixels) -> int:
    """A number that is another one for other pixels, but for chance (a checksum: nobody is kept from forging one)."""
    return zlib.crc32(np.ascontiguousarray(pixels).data, zlib.crc32(f"{pixels.shape}{pixels.dtype}".encode()))


def _read_file(source: Path | bytes, name: str, max_pixels: int, warnings: list[str] | None, alpha: bool) -> Pixels:
    with _damage(name):
        if isinstance(source, Path) and source.is_dir():
            os.scandir(source).close()  # one that a folder of images holds, and that is closed
            raise ImageError(name, "a folder, where an image was expected.")
        if (source.stat().st_size if isinstance(source, Path) else len(source)) == 0:
            raise ImageError(name, "an empty file (0 bytes).")
        pixels, wrong = formats.decode(source, max_pixels, alpha)
        if wrong and warnings is None:
            raise ImageError(name, wrong[0])
        if warnings is not None:
            warnings += wrong
        return pixels if pixels.shape[2] in (2, 4) else _check_array(pixels, name)


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Decoders raise many kinds of error for files that are not what they should be."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(name, formats.absent(os.fsdecode(error.filename or name))) from None
    except PermissionError:
        raise ImageError(name, "permission to read it is denied.") from None
    except formats.UnreadableError as error:
        raise ImageError(name, str(error)) from error.__cause__
    except Exception as error:
        system = isinstance(error, OSError) and error.errno is not None  # else it is a decoder's
        raise ImageError(name, formats.refused(error) if system else f"damaged or truncated: {error}") from error


def _check_array(array: NDArray[Any], name: str, kind: Literal["an array", "a tensor"] = "an array") -> Pixels:
    array, given = array.astype(array.dtype.newbyteorder("="), copy=False), array.shape
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and kind == "a tensor":
        array = array.transpose(1, 2, 0)
    if array.size == 0:
        raise ImageError(name, f"{kind} of shape {given}, which has no pixels.")
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        order, hint = ("(H, W, C)", formats.layout(given)) if kind == "an array" else ("channels first, (C, H, W),", "")
        raise ImageError(name, f"{kind} of shape {given}; expected (H, W), or {order} with C = 1, 3 or 4.{hint}")
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
