"""Augmentation: mirrored and turned copies of an image. Pixels move and none is computed, so no border appears."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Together with the image itself, these are all that turning and mirroring a square can give.
Augmentation = Literal["flip_h", "flip_v", "rotate_90", "rotate_180", "rotate_270", "transpose", "transverse"]


def augmented(pixels: NDArray[Any], how: Augmentation) -> NDArray[Any]:
    """An augmented copy of an image (H, W) or (H, W, C) of any type.

    `flip_h` exchanges left and right, `flip_v` top and bottom; `rotate_N` turns it counter-clockwise by N degrees;
    `transpose` exchanges rows and columns, `transverse` does so and turns it by 180 degrees.
    """
    if how in ("rotate_90", "rotate_270", "transpose", "transverse"):
        pixels = pixels.swapaxes(0, 1)
    if how in ("flip_v", "rotate_90", "rotate_180", "transverse"):
        pixels = pixels[::-1]
    if how in ("flip_h", "rotate_180", "rotate_270", "transverse"):
        pixels = pixels[:, ::-1]
    return pixels.copy()


def augmented_points(
    points: tuple[tuple[float, float], ...], how: Augmentation | None
) -> tuple[tuple[float, float], ...]:
    """Where points (x, y), as shares of width and height, are on the augmented copy; None: the image itself."""
    if how in ("rotate_90", "rotate_270", "transpose", "transverse"):
        points = tuple((y, x) for x, y in points)
    if how in ("flip_v", "rotate_90", "rotate_180", "transverse"):
        points = tuple((x, 1 - y) for x, y in points)
    if how in ("flip_h", "rotate_180", "rotate_270", "transverse"):
        points = tuple((1 - x, y) for x, y in points)
    return points
