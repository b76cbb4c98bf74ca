"""Formats: image files to pixels; each format is a file of this folder, which patchcore-runtime has byte for byte too.

Decoders are given nothing of a file but what its pixels are made of. So metadata cannot make an intact file an error,
and nothing that changes what pixels mean can go unseen: what is not known to be read rightly is refused.
"""

from __future__ import annotations

import errno
import io
import math
import os
import re
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

Pixels: TypeAlias = "NDArray[Any]"  # (H, W, 1 or 3), uint8, uint16 or float32

CUT_OFF = "damaged or truncated: it is cut off."
_AT_ONCE = 2**18  # pixels
SEVERAL = "{}; expected one image. Save the one that is to be looked at in a file of its own."

# How files begin, whatever they are called. Other formats nobody asked for, and their decoders may start programs.
_BEGINNINGS = {
    rb"\x89PNG\r\n\x1a\n": "png",
    rb"\xff\xd8\xff": "jpeg",
    rb"II\*\0|MM\0\*|II\+\0\x08\0\0\0|MM\0\+\0\x08\0\0": "tiff",
    rb"BM": "bmp",
    rb"RIFF....WEBP": "webp",
    rb"P[2356][\s#]": "pnm",
}
_pillow_limit = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child that was forked while another thread held it would wait forever
    os.register_at_fork(
        before=_pillow_limit.acquire, after_in_parent=_pillow_limit.release, after_in_child=_pillow_limit.release
    )


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


def decode(source: Path | bytes, max_pixels: int, alpha: bool = False) -> tuple[Pixels, tuple[str, ...]]:
    """The pixels of a file, or of its contents, upright, and warnings: what is wrong with a part of them.

    Errors: UnreadableError; OSError; of a damaged file whatever a decoder raises.
    """
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        head = file.read(16)
        if name := _kind_of(head):
            size, most = file.seek(0, os.SEEK_END), 16 * max_pixels + 2**26  # 16 bytes a pixel, and metadata
            if size > most:
                raise UnreadableError(f"a file of {size} bytes; an image of at most {max_pixels} pixels has less.")
            file.seek(0)
            module = cast(_Format, import_module(f"{__name__}.{name}"))
            return module.read(file.read(), Asked(max_pixels, alpha))
    if head.startswith(b"version https://"):
        raise UnreadableError("a pointer of Git LFS, not the image itself. Get the files with `git lfs pull`.")
    raise UnreadableError("not an image that can be read. Known: PNG, JPEG, BMP, TIFF, WebP, PGM and PPM.")


def _kind_of(head: bytes) -> str | None:
    """The format of a file that begins so."""
    return next((name for beginning, name in _BEGINNINGS.items() if re.match(beginning, head, re.DOTALL)), None)


def plain(image: Any) -> Any:
    """An image without its wrapping: a path as str or Path, a file's contents, in a row of uint8 too, as bytes.
    Errors: UnreadableError."""
    if isinstance(image, os.PathLike) and not isinstance(image, Path):
        image = os.fspath(image)
    if is_open_file(image):
        if getattr(image, "closed", False):
            raise UnreadableError("a file that is closed; open it again, with open(path, 'rb').")
        if (binary := not isinstance(image, io.TextIOBase)) and getattr(image, "seekable", lambda: True)():
            image.seek(0)
        if not binary or not isinstance(image := image.read(), bytes):
            raise UnreadableError("a file that was opened as text; open it as binary, with open(path, 'rb').")
    elif isinstance(image, bytearray | memoryview):
        image = bytes(image)
    elif isinstance(image, np.ndarray) and image.ndim == 1 and image.dtype == np.uint8 and _kind_of(bytes(image[:16])):
        image = image.tobytes()
    elif isinstance(image, bytes) and 0 < len(image) <= 4096 and _may_be_path(image):
        if not os.path.lexists(image):
            raise UnreadableError("bytes that are neither the contents of an image that can be read nor a file's path.")
        return os.fsdecode(image)
    if isinstance(image, str) and not image:
        raise UnreadableError("an empty path, where an image was expected.")
    if isinstance(image, str | Path) and "\0" in str(image):
        raise UnreadableError("a text with a zero in it, which is no path of a file.")
    return image


def is_open_file(image: object) -> bool:
    return callable(getattr(image, "read", None)) and (hasattr(image, "seek") or hasattr(image, "readable"))


def _may_be_path(data: bytes) -> bool:
    """Whether bytes can be a path: none has a zero in it, and every image file has some, but for PGM and PPM."""
    return b"\0" not in data and not re.match(rb"P[2356]\s+(#|\d+\s)", data)


def as_array(image: Image.Image, alpha: bool = False) -> Pixels:
    """A Pillow image as an array (H, W, C); with `alpha`, its transparency as one channel more, if it has any."""
    array = np.empty((0, 0, 0))
    for top, part in blocks(image, alpha):
        if len(part) == image.height:
            return part
        array = array if top else np.empty((image.height, *part.shape[1:]), part.dtype)
        array[top : top + len(part)] = part
    return array


def blocks(image: Image.Image, alpha: bool) -> Iterator[tuple[int, Pixels]]:
    """The same in blocks of rows, each with its first row: each step would take as much memory as the whole image."""
    image.load()
    (width, height), rows = image.size, max(1, _AT_ONCE // max(1, image.width))
    for top in range(0, height, rows):
        whole = rows >= height
        yield top, _as_array(image if whole else image.crop((0, top, width, min(height, top + rows))), alpha)


def _as_array(image: Image.Image, alpha: bool) -> Pixels:
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


class Depth:
    """What the images in uint16 of a run have in common: how many bits they use. `value_range` is the recipe's."""

    def __init__(self) -> None:
        self.tops = list[int]()  # only added to: threads share it

    def see(self, pixels: Pixels, value_range: tuple[float, float] | None) -> None:
        if pixels.dtype == np.uint16 and value_range is None:
            self.tops.append(int(pixels.max()))

    def hint(self) -> str:
        """What to do if none uses more than 14 bits; empty otherwise."""
        top = max(self.tops, default=0)
        bits = next((bits for bits in (8, 10, 12, 14) if 0 < top < 2**bits), 0)
        if not bits:
            return ""
        return (
            f"The images are in uint16, but no value is over {top}: that looks like {bits} bits. Without a stated "
            "range 65535 is white, so such images are nearly black and defects are missed. Fit with the range in the "
            f"recipe: value_range=[0,{2**bits - 1}] (--set value_range=[0,{2**bits - 1}])."
        )


def unfolded(source: tuple[int, ...], resize: str, size: tuple[int, int], tiled: bool) -> int:
    """Pixels of a file that take as much memory as an image (height, width) takes in the network and for its map.

    A pixel takes several times as much in the network as while it is read, unless it is seen tile by tile; and a
    matrix resizes each side. `resize` and `size` are those of the recipe.
    """
    height, width = source[:2]
    across, down = size[1] / width, size[0] / height
    if resize == "area":
        across = down = math.sqrt(across * down)
    elif resize == "letterbox":
        across = down = min(across, down)
    elif resize != "stretch":
        across = down = size[0] / min(height, width)
    h, w = math.ceil(height * down), math.ceil(width * across)
    return max((1 if tiled else 8) * h * w, 2 * h * max(h, height), 2 * w * max(w, width))


def check_shape(source: tuple[int, ...], resize: str, size: tuple[int, int], tiled: bool, max_pixels: int) -> None:
    """Errors: UnreadableError for an image so long and narrow that it would take more memory than the limit allows."""
    height, width = source[:2]
    side = math.isqrt(height * width - 1) + 1
    if unfolded(source, resize, size, tiled) > max(max_pixels, unfolded((side, side), resize, size, tiled)):
        raise UnreadableError(
            f"{width} x {height} pixels, which resized for the network (resize={resize!r}) would take more memory than "
            f"an image of the limit of {max_pixels} pixels. Cut it into pieces that are less long and narrow, or raise "
            "the limit (--max-pixels, or max_pixels=)."
        )


def refused(error: Exception) -> str:
    """A sentence on what the system answers when a file is to be read."""
    if getattr(error, "errno", None) != errno.ENAMETOOLONG:
        return f"it cannot be read ({getattr(error, 'strerror', None) or error})."
    return "a text too long for a path. An image in base64 is given as bytes: base64.b64decode(text)."


def absent(path: str) -> str:
    """A sentence on a path where nothing is."""
    if os.path.islink(path):
        return f"a link to {os.readlink(path)}, where nothing is."
    if (bare := path.strip(" \t\r\n'\"")) != path and os.path.exists(bare):
        return "no such file, but there is one without the spaces, line breaks or quotes around the name."
    if os.path.exists(slashes := path.replace("\\", "/")):
        return f"no such file, but there is {slashes}."
    (stem, end), forms = os.path.splitext(path), [unicodedata.normalize(form, path) for form in ("NFC", "NFD")]
    if other := next(filter(os.path.exists, (*forms, stem + end.lower(), stem + end.upper())), None):
        why = "accents are stored in another way" if other in forms else "capitals count"
        return f"no such file, but there is {os.path.basename(other)}: {why}."
    if path.startswith("~") or "/~/" in path:
        return "no such file. `~` is for shells: give Path(...).expanduser()."
    if re.search(r"(^|/)[a-zA-Z][\w+.-]+:/", path):  # a Path has one slash of the two
        return "no such file. It is a URL: download it, and give the path of the file."
    if re.search(r"[*?\[]", path):
        return "no such file. It looks like a pattern: give the paths that match it, as glob.glob(...) has them."
    return "no such file."


def layout(shape: tuple[int, ...]) -> str:
    """What to add for an array of a shape that is not (H, W, C)."""
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return " Channels come last: array.transpose(1, 2, 0)."
    if len(shape) == 3:
        return " Several grey images have the shape (N, H, W, 1): array[..., None]."
    return ""
