"""Edit: how a table of a fitted detector becomes another one, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Table(NamedTuple):
    """What has rows in a fitted detector: a bank, or the training images."""

    prefix: str  # of its columns' names in a file
    rows: int
    columns: Mapping[str, Tensor]
    names: tuple[str, ...] = ()  # of images


@dataclass(frozen=True)
class Edit:
    """Which rows of a table another one has, in order, counted on into `more` new ones.

    Attributes:
        order: (n,), int64.
        more: The number of new rows.
        new: Their columns, each (more, ...).
        names: Of new images.
    """

    order: Tensor
    more: int = 0
    new: Mapping[str, Tensor] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @classmethod
    def keep(cls, rows: int, without: Tensor | None = None) -> Edit:
        """All of its rows, without those that a mask (rows,) names."""
        return cls(torch.arange(rows) if without is None else (~without).nonzero()[:, 0])

    @classmethod
    def append(cls, rows: int, more: int, new: Mapping[str, Tensor], names: Sequence[str] = ()) -> Edit:
        """All of its rows, and new ones behind them."""
        return cls(torch.arange(rows + more), more, new, tuple(names))

    def changes(self, rows: int) -> bool:
        """Whether a table of so many rows becomes another one."""
        return self.more > 0 or not torch.equal(self.order, torch.arange(rows))

    def __call__(self, table: Table) -> Table:
        """The table that it becomes."""
        columns = {name: _taken(own, self.new.get(name), self.order) for name, own in table.columns.items()}
        names = (*table.names, *self.names)
        return Table(table.prefix, len(self.order), columns, tuple(names[n] for n in self.order.tolist() if names))

    def inverse(self, table: Table) -> Edit:
        """What makes `table` again of what it becomes."""
        place, stays = torch.full((table.rows,), -1), self.order < table.rows
        place[self.order[stays]] = stays.nonzero()[:, 0]
        gone = (place < 0).nonzero()[:, 0]
        place[gone] = len(self.order) + torch.arange(len(gone))
        new = {name: column[gone.to(column.device)] for name, column in table.columns.items()} if len(gone) else {}
        return Edit(place, len(gone), new, tuple(table.names[n] for n in gone.tolist() if table.names))

    def then(self, other: Edit, rows: int) -> Edit:
        """This edit of a table of so many rows, and then another, as one."""
        stays = other.order < len(self.order)
        order = other.order - len(self.order) + rows + self.more
        order[stays] = self.order[other.order[stays]]
        new = {
            name: _joined(*(one.new[name] for one in (self, other) if name in one.new))
            for name in {**self.new, **other.new}
        }
        return Edit(order, self.more + other.more, new, (*self.names, *other.names))


def _joined(*columns: Tensor) -> Tensor:
    """Columns below each other; the files of one get as many zeros behind them as those of the other have bytes."""
    if columns[0].dtype == torch.uint8:
        widest = max(column.shape[1] for column in columns)
        columns = tuple(F.pad(column, (0, widest - column.shape[1])) for column in columns)
    return torch.cat([column.to(columns[0]) for column in columns])


def _taken(column: Tensor, new: Tensor | None, order: Tensor) -> Tensor:
    taken = (column if new is None else _joined(column, new))[order.to(column.device)]
    if taken.dtype == torch.uint8 and len(used := taken.any(0).nonzero()):  # a file ends with a byte that is not 0
        taken = taken[:, : max(32, int(used.max()) + 1)].contiguous()
    return taken
