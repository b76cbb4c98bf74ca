"""Groups: points sorted into small groups that lie close together, with forms that bound their distances.

Why bounds are exact: the coordinates on some principal axes, and the length of what they leave, are a point's short
form; and two short forms are never farther apart than their points: along the axes nothing changes, and two lengths
differ by no more than the vectors do. So a point whose short form is farther away than some point that was measured
cannot be nearer than that one, if the bound allows for rounding; and if all forms of a group are too far, so are its
points. Forms have stages, each with more axes than the one before, so that most pairs cost a fraction of a distance.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Empty = Callable[[int, int, torch.dtype], Tensor]
_STAGES = 4  # with 64 axes a few of a thousand pairs remain
_BLOCK = 1 << 14  # rows at a time where all of them are visited
_SAMPLE = 4096  # rows from which axes are found
_NOWHERE = 1e18  # coordinate of what fills the last group up


def rounding(terms: int) -> float:
    """The relative error of a squared distance that comes from a float32 product of so many terms.

    A dot product of n terms is off by at most n units in the last place of |a||b|, in any order of
    summation; a squared distance needs three of them, and some steps before. The unit is larger
    where the caller has allowed float32 products in fewer bits.
    """
    return 2.0 * (terms + 8) * 2.0 ** -_bits()


def _bits() -> int:
    """How many bits of a float32 the products keep."""
    try:
        return {"highest": 24, "high": 11, "medium": 8}[torch.get_float32_matmul_precision()]
    except RuntimeError:  # set for some kind of device on its own, which torch does not put into one word
        cpu = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
        return min({"tf32": 11, "bf16": 8}.get(p, 24) for p in (cpu, torch.backends.cuda.matmul.fp32_precision))


def principal_axes(centred: Tensor, n: int) -> Tensor:
    """About the first n principal axes of centred points (M, D), as orthonormal columns (D, n or D).

    Subspace iteration on a few thousand of the points: any axes give true bounds, so there is no
    need for more.
    """
    some = centred[:: -(-len(centred) // 4096)]
    covariance = some.T @ some
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(len(covariance), min(n + 8, len(covariance)), generator=generator).to(some)
    for _ in range(4):
        axes = torch.linalg.qr(covariance @ axes).Q
    return (axes @ torch.linalg.eigh(axes.T @ covariance @ axes).eigenvectors.flip(1))[:, :n]


def in_memory(n: int, d: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(n, d, dtype=dtype)


class Groups:
    """Rows of x (N, D), of any float type, on the processor; `empty` makes the tensor that holds their forms.

    Attributes:
        order: (N,), the rows as they lie in the groups.
        forms: (stages, groups, AXES + 1, GROUP), see `patchcore.maths.vectors`.
        lows, highs: (groups, AXES + 1), the least and largest values of each group's first forms: a box around them.
        boxes: (2, groups / GROUP, AXES + 1, GROUP), both, in groups of their own.
        lengths: (N,), squared lengths of the rows about their centre, in the groups' order.
        longest: The largest of these.
    """

    def __init__(self, x: Tensor, empty: Empty = in_memory) -> None:
        from patchcore.maths.vectors import AXES, GROUP  # compiled, and so imported, where they are used

        n, self.width = x.shape
        self._axes, wide = AXES, torch.float64 if x.dtype == torch.float64 else torch.float32
        # Distances do not change when the centre is moved to 0, and their products become small.
        self.centre = torch.stack([b.to(wide).sum(0) for b in x.split(_BLOCK)]).sum(0) / n
        stages = max(1, min(_STAGES, self.width // AXES))
        vectors = principal_axes(self._centred(x[:: -(-n // _SAMPLE)]), stages * AXES)
        self.vectors = torch.nn.functional.pad(vectors, (0, stages * AXES - vectors.shape[1]))
        own, lengths = empty(n, stages * (AXES + 1), torch.float32).numpy(), np.empty(n, np.float32)  # as they come
        for begin in range(0, n, _BLOCK):
            block = self._centred(x[begin : begin + _BLOCK])
            own[begin : begin + _BLOCK] = self._forms(block).flatten(1).numpy()
            lengths[begin : begin + _BLOCK] = block.square().sum(1).numpy()
        self.order = _close_together(own[:, :AXES].copy(), GROUP)
        self.lengths, self.longest = lengths[self.order], float(lengths.max())
        count = -(-n // GROUP)
        held = empty(stages * count, (AXES + 1) * GROUP, torch.float32).numpy()
        self.forms: NDArray[np.float32] = held.reshape(stages, count, AXES + 1, GROUP)
        self.forms[:, -1] = _NOWHERE
        for g in range(count):
            rows = own[self.order[g * GROUP : (g + 1) * GROUP]].reshape(-1, stages, AXES + 1)
            self.forms[:, g, :, : len(rows)] = rows.transpose(1, 2, 0)
        # The last row stands for what fills its group up.
        firsts = self.forms[0].transpose(0, 2, 1).copy()
        firsts[-1, (n - 1) % GROUP :] = firsts[-1, (n - 1) % GROUP]
        self.lows, self.highs = firsts.min(1), firsts.max(1)
        boxes = np.stack([self.lows, self.highs])
        boxes = np.pad(boxes, ((0, 0), (0, -count % GROUP), (0, 0)), "edge").reshape(2, -1, GROUP, AXES + 1)
        self.boxes = boxes.transpose(0, 1, 3, 2).copy()

    def of(self, rows: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The forms (n, stages, AXES + 1) of points (n, D), and their squared lengths (n,) about the centre."""
        centred = self._centred(rows)
        return self._forms(centred).numpy(), centred.square().sum(1).numpy()

    def _centred(self, rows: Tensor) -> Tensor:
        return (rows.to(self.centre.dtype) - self.centre).float()

    def _forms(self, centred: Tensor) -> Tensor:
        along = centred @ self.vectors
        left = torch.addmm(centred, along, self.vectors.T, alpha=-1).square().sum(1, keepdim=True)  # by all axes
        along = along.unflatten(1, (-1, self._axes))
        later = along[:, 1:].square().sum(2).flip(1).cumsum(1).flip(1)  # along the axes of later stages
        rests = torch.cat([left + later, left], 1).sqrt()
        return torch.cat([along, rests[:, :, None]], 2)

    def slack(self, lengths: NDArray[np.float32], longest: float | None = None) -> NDArray[np.float32]:
        """What rounding can add to squared distances of forms, for points of such squared lengths from the rows, or
        from points of which the longest has that squared length."""
        longest = self.longest if longest is None else longest
        share = np.float32(2 * rounding(2 * self.width))
        return share * (lengths + np.float32(longest)) + self._blur(longest)

    def _blur(self, longest: float) -> np.float32:
        """What the rounding of centred coordinates can change in a squared distance."""
        return np.float32(rounding(0) * 4 * longest)


def _close_together(coordinates: NDArray[np.float32], size: int) -> NDArray[np.int64]:
    """An order of points (N, a) in which each `size` of them lie close together: halved where they vary most."""
    parts = [np.arange(len(coordinates))]
    while len(parts[0]) > size:
        halves = list[NDArray[np.int64]]()
        for part in parts:
            half = -(-len(part) // (2 * size)) * size
            if half >= len(part):
                halves.append(part)
                continue
            own = coordinates[part]
            axis = own[:, int(own.var(0).argmax())]
            part = part[np.argpartition(axis, half)]
            halves += [part[:half], part[half:]]
        parts = halves
    return np.concatenate(parts)
