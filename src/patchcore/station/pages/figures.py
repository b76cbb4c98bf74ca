"""Figures: the charts of pages, as coordinates in units of their view boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from patchcore.report.charts import Area, Tick, nice
from patchcore.station.store.tables import Inspection, Model, Review

VERDICTS = ("pass", "unsure", "fail")
WIDE, NARROW = 900, 420  # units of a chart: on a desk, on a phone


@dataclass(frozen=True)
class Yield:
    """The share of parts that passed, and how many there were, over equal spans of time.

    Attributes:
        line: Of the shares: pieces of a polyline, where spans without parts are left out.
        bars: x, y, width, height and verdict of each bar; those of a span stand on each other.
        rows: The same in figures: when the span began, pass, unsure, fail.
    """

    share: Area
    count: Area
    line: list[str]
    dots: list[tuple[float, float]]
    bars: list[tuple[float, float, float, float, str]]
    x_ticks: list[Tick]
    share_ticks: list[Tick]
    count_ticks: list[Tick]
    rows: list[tuple[str, int, int, int]]
    totals: dict[str, int]

    @property
    def passed(self) -> float | None:
        """The share of all."""
        return self.totals["pass"] / total if (total := sum(self.totals.values())) else None


def counted(session: Session, line: int, begin: datetime, end: datetime, spans: int) -> list[dict[str, int]]:
    """How many parts of each verdict there were in each of so many equal spans."""
    step = (end - begin) / spans
    span = case(*((Inspection.time < begin + step * (n + 1), n) for n in range(spans)), else_=spans - 1).label("span")
    query = (
        select(span, Inspection.verdict, func.count())
        .where(Inspection.line_id == line, Inspection.time >= begin, Inspection.time <= end)
        .group_by("span", Inspection.verdict)
    )
    found = [dict.fromkeys(VERDICTS, 0) for _ in range(spans)]
    for number, verdict, count in session.execute(query):
        found[number][verdict] = count
    return found


def yield_of(
    counts: Sequence[dict[str, int]], begin: datetime, end: datetime, offset: timedelta, width: float = WIDE
) -> Yield:
    """Of what was counted. `offset`: of the person's clock from UTC; `width`: of the charts, in their units."""
    step, hours = (end - begin) / len(counts), (end - begin) / timedelta(hours=1)
    sums = [sum(one.values()) for one in counts]
    shares = [one["pass"] / total if total else None for one, total in zip(counts, sums, strict=True)]
    lowest = min((one for one in shares if one is not None), default=0.9)
    low = max(0.0, min(0.9, int(lowest * 10) / 10))
    most = max(max(sums), 4)
    share = Area(width, 250, (0.0, len(counts)), (low, 1.0))
    count = Area(width, 190, (0.0, len(counts)), (0.0, 1.08 * most))
    pieces, piece, dots = list[str](), list[str](), list[tuple[float, float]]()
    for number, value in enumerate(shares):
        if value is None:
            pieces, piece = ([*pieces, " ".join(piece)] if piece else pieces), []
            continue
        x, y = float(share.x(number + 0.5)), float(share.y(value))
        piece.append(f"{x:.1f},{y:.1f}")
        dots.append((round(x, 1), round(y, 1)))
    pieces += [" ".join(piece)] if piece else []
    form = "%H:%M" if hours <= 48 else "%m-%d"
    marks = range(0, len(counts) + 1, len(counts) // (6 if width == WIDE else 3))
    return Yield(
        share,
        count,
        pieces,
        dots,
        _bars(count, counts),
        [(float(share.x(at)), f"{begin + offset + step * at:{form}}") for at in marks],
        [(float(share.y(at)), f"{100 * at:g} %") for at in nice(low, 1.0, 5)],
        [(float(count.y(at)), f"{at:g}") for at in nice(0, most, 4) if at == int(at)],
        [
            (f"{begin + offset + step * number:%m-%d %H:%M}", one["pass"], one["unsure"], one["fail"])
            for number, one in enumerate(counts)
            if sum(one.values())
        ],
        {verdict: sum(one[verdict] for one in counts) for verdict in VERDICTS},
    )


def _bars(area: Area, counts: Sequence[dict[str, int]]) -> list[tuple[float, float, float, float, str]]:
    found = list[tuple[float, float, float, float, str]]()
    width = float(area.x(1) - area.x(0))
    for number, one in enumerate(counts):
        below = 0
        for verdict in VERDICTS:
            if one[verdict]:
                y, base = float(area.y(below + one[verdict])), float(area.y(below))
                left = float(area.x(number)) + 0.12 * width
                found.append((round(left, 1), round(y, 1), round(0.76 * width, 1), round(base - y, 1), verdict))
                below += one[verdict]
    return found


def same_bank(session: Session, model: Model) -> list[int]:
    """The versions whose scores can be compared with those of this one: only the threshold is another."""
    found, one = [model.id], model
    while one.how == "set" and one.parent_id is not None:
        one = session.get_one(Model, one.parent_id)
        found.append(one.id)
    while more := session.scalars(
        select(Model.id).where(Model.parent_id.in_(found), Model.how == "set", Model.id.not_in(found))
    ).all():
        found += more
    return found


def confirmed(session: Session, model: Model, most: int = 2000) -> list[float]:
    """Scores of defects that people have confirmed, by this bank: the newest."""
    query = select(Inspection.score).where(
        Inspection.model_id.in_(same_bank(session, model)), Inspection.review == Review.confirmed
    )
    return list(session.scalars(query.order_by(Inspection.id.desc()).limit(most)))
