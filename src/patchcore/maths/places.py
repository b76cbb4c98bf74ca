"""Where a cell of the network's grid lies in the image."""

from __future__ import annotations

from patchcore.maths.resize import Frame

Box = tuple[float, float, float, float]  # top, left, bottom, right


def cell_box(cell: tuple[int, int], grid: tuple[int, int], frame: Frame, side: int = 1) -> Box:
    """Top, left, bottom, right of `side` x `side` cells around a cell (row, column), in pixels of the source image.

    The cells of the grid (h, w) cover what the frame's window shows of the image, as in `maps.side_matrix`. Near
    the border the box may reach beyond the image.
    """
    low, high = [], []
    for axis in (0, 1):
        pitch = frame.inside[axis] / grid[axis]
        back = frame.source[axis] / frame.resized[axis]
        centre = (cell[axis] + 0.5) * pitch - frame.offset[axis]
        low.append((centre - side * pitch / 2) * back)
        high.append((centre + side * pitch / 2) * back)
    return low[0], low[1], high[0], high[1]
