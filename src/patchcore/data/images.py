"""Reading images, and turning them into tensors without losing depth."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from patchcore.data.reading import EXTENSIONS, MAX_PIXELS, Colour
from patchcore.errors import ImageError

ImageLike: TypeAlias = "str | bytes | os.PathLike[str] | BinaryIO | Image.Image | NDArray[np.generic] | Tensor"
Pixels: TypeAlias = "NDArray[Any]"  # (H, W, 1 or 3), uint8, uint16 or float32

# Other decoders start programs, or nobody asked for them.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_pillow_limit = threading.Lock()
_LONGEST_PATH = 4096  # bytes


def read(image: ImageLike, name: str, max_pixels: int = MAX_PIXELS, colour: Colour = "rgb") -> Pixels:
    """An image as an array (H, W, C), C = 1 (grey) or 3 (R, G, B), at its own depth.

    Files, by path, as bytes or opened: PNG, JPEG, BMP, TIFF, WebP; 8 bits become uint8, 16 bits uint16, 32-bit float
    float32. EXIF orientation is applied; palettes and CMYK become RGB; transparency is dropped. Arrays are HWC or HW;
    tensors CHW or HW; `colour` is the order of their channels. Errors: ImageError, which names the image.
    """
    image = plain(image, name)
    if isinstance(image, str | Path):
        return _read_file(Path(image), name, max_pixels)
    if isinstance(image, bytes):
        return _read_file(BytesIO(image), name, max_pixels)
    if isinstance(image, Image.Image):
        with _damage(name):
            return _from_pillow(image, name)
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        array = (image.float() if image.is_floating_point() else image).numpy()
        pixels = _check_array(array, name, "a tensor")
    else:
        pixels = _check_array(_as_array(image, name), name)
    return pixels[..., ::-1] if colour == "bgr" else pixels


def plain(image: Any, name: str) -> Any:
    """What a caller has for one image, without its wrapping: a path as str or Path, a file's contents as bytes.

    A file that is open is read from its beginning. Everything else stays as it is. Errors: ImageError.
    """
    if isinstance(image, os.PathLike) and not isinstance(image, Path):
        image = os.fspath(image)
    if is_open_file(image):
        with _damage(name):
            if getattr(image, "seekable", lambda: True)():
                image.seek(0)
            image = image.read()
        if not isinstance(image, bytes):
            raise ImageError(name, "a file that was opened as text; open it as binary, with open(path, 'rb').")
    elif isinstance(image, bytearray | memoryview):
        image = bytes(image)
    elif isinstance(image, bytes) and 0 < len(image) <= _LONGEST_PATH and b"\0" not in image:
        return os.fsdecode(image)  # every image file has zeros in it, and no path has any
    return image


def is_open_file(image: object) -> bool:
    return callable(getattr(image, "read", None)) and (hasattr(image, "seek") or hasattr(image, "readable"))


def _as_array(image: object, name: str) -> NDArray[Any]:
    if image is None:
        raise ImageError(
            name,
            "None, where an image was expected. cv2.imread gives None where it cannot read a file: check its path.",
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
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32))
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
    return ((tensor - low) / (high - low)).clamp_(0, 1)


def _read_file(path: Path | BytesIO, name: str, max_pixels: int) -> Pixels:
    with _damage(name):
        if isinstance(path, Path) and path.is_dir():
            os.scandir(path).close()  # one that a folder of images holds, and that is closed
            raise ImageError(name, "a folder, where an image was expected.")
        if (path.stat().st_size if isinstance(path, Path) else len(path.getbuffer())) == 0:
            raise ImageError(name, "an empty file (0 bytes).")
        with _open(path) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    name,
                    f"{width} x {height} pixels are more than the limit of {max_pixels}. If the file is "
                    "what it should be, raise the limit (--max-pixels, or max_pixels=).",
                )
            if _is_deep(image, path):
                return _check_array(_read_deep(path, name, image), name)
            return _from_pillow(image, name)


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Decoders raise many kinds of error for files that are not what they should be."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(name, "no such file.") from None
    except PermissionError:
        raise ImageError(name, "permission to read it is denied.") from None
    except UnidentifiedImageError:
        known = f"not an image that can be read. Known: {', '.join(sorted(EXTENSIONS))}"
        raise ImageError(name, f"{known}; not every TIFF of floats: give that as an array.") from None
    except Exception as error:
        raise ImageError(name, f"damaged or truncated: {error}") from error


def _open(path: Path | BytesIO) -> Image.Image:
    """Read an image's header, without Pillow's own limit: ours is checked before decoding."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _from_pillow(image: Image.Image, name: str) -> Pixels:
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        return _check_array(np.asarray(image), name)
    if image.mode.startswith("I"):  # I;16 in its byte orders, or 32-bit whole numbers
        array = np.asarray(image)
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 65535:
            raise ImageError(name, f"32-bit whole numbers from {low} to {high}; expected 16 bits, 0 to 65535.")
        return array.astype(np.uint16)[..., None]
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    grey = image.mode in ("1", "L", "LA") or (image.mode == "P" and _grey_palette(image))
    array = np.asarray(image.convert("L" if grey else "RGB"))
    return array[..., None] if grey else array


def _grey_palette(image: Image.Image) -> bool:
    colours = np.asarray(image.getpalette("RGB")).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _check_array(array: NDArray[Any], name: str, kind: Literal["an array", "a tensor"] = "an array") -> Pixels:
    array, given = array.astype(array.dtype.newbyteorder("="), copy=False), array.shape
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and kind == "a tensor":
        array = array.transpose(1, 2, 0)
    if array.size == 0:
        raise ImageError(name, f"{kind} of shape {given}, which has no pixels.")
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        layout = "(H, W, C)" if kind == "an array" else "channels first, (C, H, W),"
        raise ImageError(name, f"{kind} of shape {given}; expected (H, W), or {layout} with C = 1, 3 or 4.")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype not in (np.uint8, np.uint16):
        if not np.issubdtype(array.dtype, np.floating):
            raise ImageError(name, f"an array of {array.dtype}; expected uint8, uint16 or float.")
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ImageError(name, "a float image with NaN or infinite values.")
    return array[..., :3] if array.shape[2] == 4 else array


def _is_deep(image: Image.Image, path: Path | BytesIO) -> bool:
    """Several channels of more than 8 bits, which Pillow would cut to 8."""
    if image.format == "PNG":
        depth, kind = _png_kind(path)
        return depth == 16 and kind in (2, 4, 6)  # colour, grey + alpha, colour + alpha
    bits = image.tag_v2.get(258, (8,)) if image.format == "TIFF" else (8,)  # type: ignore[attr-defined]
    return len(bits) > 1 and max(bits) > 8


def _png_kind(path: Path | BytesIO) -> tuple[int, int]:
    """Bit depth and colour type, from the header chunk."""
    with path.open("rb") if isinstance(path, Path) else BytesIO(path.getbuffer()[:26]) as file:
        header = file.read(26)
    return header[24], header[25]


def _read_deep(path: Path | BytesIO, name: str, image: Image.Image) -> NDArray[Any]:
    """A colour image of more than 8 bits a channel, (H, W, 1 or 3), uint16, upright. Errors: ImageError."""
    import cv2

    if image.format == "TIFF" and image.tag_v2.get(284) == 2:  # type: ignore[attr-defined]
        raise ImageError(
            name, "a TIFF with its colours in separate planes; expected them side by side. Save it as contiguous."
        )
    array = cv2.imdecode(
        np.frombuffer(path.read_bytes() if isinstance(path, Path) else path.getbuffer(), np.uint8), cv2.IMREAD_UNCHANGED
    )
    if array is None:
        raise ImageError(name, "damaged or truncated: it cannot be decoded.")
    if array.ndim == 3:
        array = array[..., 2::-1]  # from B, G, R, alpha
    if image.format == "PNG":  # OpenCV orients TIFF itself
        array = _orient(array, image.getexif().get(274, 1))
        if _png_kind(path)[1] == 4:
            array = array[..., :1]
    return array


def _orient(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation, 1 to 8."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)  # what follows is then the same as for 1 to 4
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return array[::rows, ::columns]
