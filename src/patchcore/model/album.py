"""The album: what a model keeps of its training images beside the rows of its bank."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from patchcore.data.images import Pixels
from patchcore.errors import StoreError
from patchcore.maths.registration import Motion
from patchcore.verdict.draw import to_uint8

Pair = tuple[int, int]
MOST = 2_000_000  # bytes of all thumbnails, unless they are asked for
_FARTHEST = 2**16  # pixels, or degrees
_SIDE, _LARGEST = 192, 1024  # longest side in pixels of one that is made, and of one that a file may hold


@dataclass(frozen=True, eq=False)
class Album:
    """Of each training image, in order: the SHA-256 of its pixels (n, 32); height, width, rows and columns of the first
    member's grid (n, 4); thumbnails (n, bytes), JPEG files with zeros behind them. Earlier versions' files lack it.
    With a registration, the shift (x, y) and the angle of each (n, 3) (see `registration.Motion`). The mean of its
    patches (n, D), half precision, if there is a gate."""

    sha256: Tensor | None = None
    shapes: Tensor | None = None
    thumbnails: Tensor | None = None
    motions: Tensor | None = None
    means: Tensor | None = None

    @classmethod
    def of(
        cls,
        digests: Sequence[bytes],
        sizes: Sequence[Pair],
        grids: Sequence[Pair],
        small: Sequence[bytes],
        motions: Sequence[Motion | None] = (),
        means: Sequence[Tensor] = (),
    ) -> Album:
        # By NumPy: on the processor whatever the default device is, and in a forked process on one thread.
        shapes = np.array([(*size, *grid) for size, grid in zip(sizes, grids, strict=True)], np.int32)
        sha256 = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32).copy()
        thumbnails = moved = None
        if all(small):
            longest = max(map(len, small))
            files = b"".join(one.ljust(longest, b"\0") for one in small)
            thumbnails = torch.from_numpy(np.frombuffer(files, np.uint8).reshape(-1, longest).copy())
        if known := [(*one.shift, one.angle) for one in motions if one is not None]:
            moved = torch.from_numpy(np.array(known, np.float32))
        mean = (
            torch.from_numpy(np.stack([one.numpy() for one in means])) if means else None
        )  # autocast has no such stack
        return cls(torch.from_numpy(sha256), torch.from_numpy(shapes), thumbnails, moved, mean)

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps."""
        return {f"images.{name}": tensor for name, tensor in vars(self).items() if tensor is not None}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], images: int) -> Album:
        """What a file with so many images has, its types checked before. Errors: StoreError."""
        found = cls(*(tensors.get(f"images.{name}") for name in ("sha256", "shapes", "thumbnails", "motions", "means")))
        lacking = found.sha256 is None or found.shapes is None
        for name, one in found.tensors().items():
            wide = {"images.sha256": 32, "images.shapes": 4, "images.motions": 3}.get(name, one.shape[1])
            if one.shape != (images, wide) or lacking or (wide == 4 and int(one.min()) < 1):
                raise StoreError(f"{name} is of shape {list(one.shape)}, for {images} images, or others are missing")
        if found.motions is not None and not bool((found.motions.abs() <= _FARTHEST).all()):  # NaN is not
            raise StoreError(f"images.motions holds values beyond {_FARTHEST}, or that are no numbers")
        for number in range(0 if found.thumbnails is None else images):
            found.thumbnail(number)
        return found

    def thumbnail(self, number: int) -> Image.Image:
        """Of an image with this number, if there are any; not decoded yet. Errors: StoreError for other bytes."""
        assert self.thumbnails is not None
        with suppress(Exception):  # of foreign bytes a decoder may say nearly anything
            image = Image.open(io.BytesIO(self.thumbnails[number].numpy().tobytes()), formats=["JPEG"])
            if max(image.size) <= _LARGEST:
                return image
        raise StoreError(f"thumbnail {number} is no JPEG file of at most {_LARGEST} pixels a side")


def thumbnail(pixels: Pixels, value_range: tuple[float, float] | None) -> bytes:
    """An image (H, W, C) as a small JPEG file, the same for the same pixels."""
    step = max(1, max(pixels.shape[:2]) // (4 * _SIDE))  # first: large images would take long, and memory
    small, file = Image.fromarray(to_uint8(pixels[::step, ::step], value_range)), io.BytesIO()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    small.save(file, "JPEG", quality=80)
    return file.getvalue()
