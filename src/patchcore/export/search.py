"""The search in a graph: from patches to patch scores and nearest bank rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from patchcore.errors import UsageError
from patchcore.export.axes import ShortForms
from patchcore.maths.groups import rounding
from patchcore.memory.bank import Bank
from patchcore.recipe.recipe import Recipe

_GROUP = 32  # rows in a group; the lowest of their bounds stands for the group
_GROUPS, _ROWS = 64, 128  # if the bounds leave more for a patch, all rows are compared; this also limits the memory
_HALF = 1.02 * 2.0**-11  # relative error of a product with one factor rounded to half precision
_NOWHERE = 1e30  # bound of the rows that fill up the last group


class Search(nn.Module):
    """Exact patch scores and nearest rows of patches, by bounds (`export.axes`) where that is faster.

    Either way, a matrix product finds the rows that may be nearest. The distance is then computed from the row itself,
    because |t|² - 2t·b + |b|² in float32 is off by several 1e-2 where the distance is 0.
    """

    known: Tensor  # (M, D): bank rows, in half precision where that loses nothing
    centre: Tensor  # (D,)
    lengths: Tensor  # (M,): half their squared lengths, from the centre
    flat_axes: Tensor  # (D * a,), one-dimensional: `fp16` rounds tensors of two dimensions to half precision
    short: Tensor  # (1 + a, M'): negated short forms of the rows, in half precision if the rows are
    short_lengths: Tensor  # (M',): half the squared lengths of the short forms, less slack

    def __init__(self, bank: Bank, recipe: Recipe, half: bool) -> None:
        super().__init__()
        if bank.search != "exact":
            raise UsageError(
                f"search={bank.search!r} cannot be exported; expected search='exact'. Fit with that, or run the "
                "detector with the library."
            )
        self.k = min(recipe.neighbours, len(bank.rows))
        self.squared = recipe.distance == "squared_l2"
        short_forms = ShortForms(bank.rows)
        self.axes = short_forms.vectors.shape[1] if self.k == 1 else 0
        rounded = bank.rows.half()
        half = half and torch.equal(rounded.float(), bank.rows)
        self.register_buffer("known", rounded if half else bank.rows)
        self.register_buffer("centre", short_forms.centre)
        self.register_buffer("lengths", (bank.rows - short_forms.centre).square().sum(1) / 2)
        if self.axes:
            self.share = short_forms.share + (_HALF if half else 0)
            filling = -len(bank.rows) % _GROUP
            forms = short_forms(bank.rows)
            lengths = forms.square().sum(1) * (1 - self.share) / 2
            short = torch.cat([-forms, forms.new_zeros(filling, forms.shape[1])]).T.contiguous()
            self.register_buffer("flat_axes", short_forms.vectors.flatten())
            self.register_buffer("short", short.half() if half else short)
            self.register_buffer("short_lengths", torch.cat([lengths, lengths.new_full((filling,), _NOWHERE)]))

    def rows(self, index: Tensor) -> Tensor:
        """Bank rows by their indices: (..., D)."""
        # With one more row, OpenVINO converts to single precision once, not at each gather: several times as fast.
        rows = torch.cat([self.known.float(), self.centre[None]])
        return rows.index_select(0, index.flatten()).unflatten(0, index.shape)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(B, h, w, D) -> patch scores (B, h, w), rows (B, h, w, k)."""
        flat = patches.flatten(0, 2)
        squares, rows = self._by_bounds(flat) if self.axes else self._plain(flat)
        scores = squares if self.squared else squares.sqrt()
        sizes = patches.shape[:3]
        return scores.mean(1).unflatten(0, sizes), rows.unflatten(0, sizes)

    def _squares(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Squared distances (n,) of queries (n, D) to the rows with these indices (n,)."""
        return (queries - self.rows(rows)).square().sum(1)

    def _plain(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (Q, D) -> squared distances and rows (Q, k), by one product with all rows."""
        # Nearness is t·b - |b|² / 2, relative to the rows' centre: -|t - b|² / 2 without |t|², the same for all rows.
        # |b|² is one more column of the product, because subtracting it would be another pass over all pairs.
        keys = torch.cat([self.known.float(), -self.lengths[:, None]], 1).T
        nearness = torch.cat([queries - self.centre, torch.ones_like(queries[:, :1])], 1) @ keys
        found = nearness.topk(self.k, 1).indices  # in OpenVINO several times as fast as argmax
        squares = torch.stack([self._squares(queries, found[:, i]) for i in range(self.k)], 1)
        if self.k > 1:
            squares, order = squares.sort(1)
            found = found.gather(1, order)
        return squares, found

    def _by_bounds(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """As `_plain` for k = 1, measuring only the pairs that the bounds of the short forms do not rule out.

        The number of these pairs, and so every size after `nonzero`, is known only when the graph runs.
        """
        bounds = self._bounds(queries).unflatten(1, (-1, _GROUP))
        lowest = bounds.amin(2)
        likely = lowest.topk(1, 1, largest=False).indices
        group = bounds.gather(1, likely[:, :, None].expand(-1, 1, _GROUP))[:, 0]
        first = likely[:, 0] * _GROUP + group.topk(1, 1, largest=False).indices[:, 0]
        square = self._squares(queries, first)
        limit = square * (1 + rounding(queries.shape[1])) / 2

        inside = lowest <= limit[:, None]
        few = inside.sum(1) <= _GROUPS
        i, g = _pairs(inside & few[:, None])
        inside = bounds.flatten(0, 1).index_select(0, i * lowest.shape[1] + g) <= limit.index_select(0, i)[:, None]
        few = few & (torch.zeros_like(first).scatter_add(0, i, inside.sum(1)) <= _ROWS)
        pair, within = _pairs(inside & few.index_select(0, i)[:, None])
        i, row = i.index_select(0, pair), g.index_select(0, pair) * _GROUP + within

        squares = self._squares(queries.index_select(0, i), row)
        nearest = square.scatter_reduce(0, i, squares, "amin")
        last = len(self.known) - 1
        own = torch.where(squares <= nearest.index_select(0, i), row, last)
        rows = torch.where(nearest < square, last, first).scatter_reduce(0, i, own, "amin")

        (many,) = _pairs(~few)
        squares, own = self._plain(queries.index_select(0, many))
        return nearest.index_copy(0, many, squares[:, 0])[:, None], rows.index_copy(0, many, own[:, 0])[:, None]

    def _bounds(self, queries: Tensor) -> Tensor:
        """Lower bounds (Q, M') of half the squared distances from queries (Q, D) to all rows."""
        axes = self.flat_axes.unflatten(0, (-1, self.axes))
        centred = queries - self.centre
        along = centred @ axes
        rest = (centred - along @ axes.T).square().sum(1, keepdim=True).sqrt()
        forms = torch.cat([rest, along], 1)
        half = forms.square().sum(1, keepdim=True) * (1 - self.share) / 2
        rows = torch.cat([self.short.float(), torch.ones_like(self.short_lengths)[None], self.short_lengths[None]])
        return torch.cat([forms, half, torch.ones_like(half)], 1) @ rows


def _pairs(mask: Tensor) -> tuple[Tensor, ...]:
    """The indices where a mask is true, one vector for each dimension, after the indices of its first element.

    One pair more changes no result, and without any pair, ONNX Runtime in a browser divides by zero.
    """
    found = mask.nonzero()
    found = torch.cat([found.new_zeros(1, mask.ndim), found])
    torch._check(found.shape[0] < 2**40)  # a bound, so that ONNX can express the sizes that depend on it
    return found.unbind(1)
