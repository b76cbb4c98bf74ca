"""Present: the last result, as outputs show it that hold only the present state; and what has been counted so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

NOTHING, CODES = 0, {"pass": 1, "unsure": 2, "fail": 3}
SOURCES = {"off": 0, "running": 1, "waiting": 2, "lost": 3, "ended": 4}
_WORD = 65_535


@dataclass(frozen=True)
class Present:
    """All that is shown; it changes as a whole.

    Attributes:
        sequence: 0 before the first result since the start, then 1 to 65,535, and from there to 1 again.
        verdict: `NOTHING`, or a value of `CODES`.
        score, threshold: NaN where there is none.
        part, line, model: As in the result.
        result: Its number in the station.
        time: When its image arrived; None before the first.
        counts: Results since the start: all, passes, unsures, fails.
        missed: Results that another replaced before they were acknowledged.
        sources: Condition of the source of each line.
    """

    sequence: int = 0
    verdict: int = NOTHING
    score: float = math.nan
    threshold: float = math.nan
    part: str = ""
    line: str = ""
    model: str = ""
    result: int = 0
    time: datetime | None = None
    counts: tuple[int, int, int, int] = (0, 0, 0, 0)
    missed: int = 0
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> int:
        """The worst condition of a source, as a value of `SOURCES`."""
        return max((SOURCES.get(one, 0) for one in self.sources.values() if one != "ended"), default=0)

    def after(self, result: dict[str, Any], acknowledged: int | None = None) -> Present:
        """With the next result; `acknowledged`: the sequence number that the other side has written, if it does."""
        code = CODES[result["verdict"]]
        seen = acknowledged is None or self.sequence in (0, acknowledged)
        threshold, (total, passed, unsure, failed) = result["threshold"], self.counts
        return replace(
            self,
            sequence=self.sequence % _WORD + 1,
            verdict=code,
            score=float(result["score"]),
            threshold=math.nan if threshold is None else float(threshold),
            part=result["part"] or "",
            line=result["line"],
            model=result["model"],
            result=result["id"],
            time=datetime.fromisoformat(result["time"]),
            counts=(total + 1, passed + (code == 1), unsure + (code == 2), failed + (code == 3)),
            missed=self.missed + (not seen),
        )

    def with_source(self, line: str, condition: str) -> Present:
        return replace(self, sources={**self.sources, line: condition})
