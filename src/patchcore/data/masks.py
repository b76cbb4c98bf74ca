"""Ground-truth masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore.data.images import Pixels, read
from patchcore.data.reading import MAX_PIXELS
from patchcore.errors import ImageError

_SMOOTH = 32  # a mask of more values has been resized or compressed; one of fewer numbers kinds of defect


def read_mask(
    path: Path, size: tuple[int, int], max_pixels: int = MAX_PIXELS, *, notes: list[str] | None = None
) -> NDArray[np.bool_]:
    """A ground-truth mask (H, W): true wherever a pixel is not black, whatever its value or colour.

    Only in a mask of more than 32 values, and in a JPEG file, where edges are blurred, must it be above half of the
    largest value. Where transparency varies, a pixel must also be opaque; of a file of one colour, transparency
    alone decides. What is doubtful about a mask is appended to `notes`.
    Errors: ImageError, also where colours and transparency contradict each other.
    """
    pixels = read(path, str(path), max_pixels, alpha=True)
    if pixels.shape[:2] != size:
        raise ImageError(
            str(path),
            f"a mask of {pixels.shape[1]} x {pixels.shape[0]} pixels for an image of {size[1]} x {size[0]}; "
            "they must be the same size.",
        )
    with path.open("rb") as file:
        blurred = file.read(2) == b"\xff\xd8"
    doubts = list[str]()
    if pixels.shape[2] in (1, 3):
        mask = _marked(pixels.max(2), blurred, doubts)
    else:
        mask = _opaque(path, pixels[..., :-1], pixels[..., -1], doubts)
    if not mask.any():
        doubts.append("no pixel is marked")
    elif mask.mean() > 0.5 and all(edge.all() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])):
        doubts.append(f"{mask.mean():.0%} of it, and its whole border, is marked. What is not black is the defect")
    if notes is not None:
        notes += [f"{path}: {doubt}." for doubt in doubts]
    return mask


def _marked(values: Pixels, blurred: bool, doubts: list[str]) -> NDArray[np.bool_]:
    """Where values (H, W) mark something."""
    levels = np.unique(values)
    levels, top = levels[levels > 0], values.max(initial=0)
    if blurred or len(levels) > _SMOOTH:
        if len(levels) > 1:
            doubts.append(f"{len(levels)} values, so only what is above half of the largest one, {top}, is marked")
        return values > top / 2
    full = {"uint8": 255, "uint16": 65535}.get(str(values.dtype), 1)
    if len(levels) > 1 and levels[0] <= full / 2 < levels[-1]:
        doubts.append(f"the values {', '.join(map(str, levels.tolist()))} are all taken as marks")
    return values > 0


def _opaque(path: Path, colours: Pixels, alpha: Pixels, doubts: list[str]) -> NDArray[np.bool_]:
    """Where colours (H, W, C) of a varying transparency mark something."""
    if alpha.min() == alpha.max():
        return _marked(colours.max(2), False, doubts)
    opaque = _marked(alpha, False, doubts)
    if (colours == colours[:1, :1]).all():
        return opaque
    hidden = colours[~opaque]
    mask = opaque & _marked(colours.max(2), False, doubts)
    if not mask.any() or not (hidden == hidden[:1]).all():
        raise ImageError(
            str(path),
            "a mask whose colours and transparency mark different pixels; expected one of them to say where the "
            "defect is. Save it as grey, 255 where the defect is and 0 elsewhere.",
        )
    return mask
