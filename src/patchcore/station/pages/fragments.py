"""Fragments: charts, drawn here and put into their page by its script."""

from __future__ import annotations

import base64
import io
import math
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from PIL import Image

from patchcore.report.charts import histogram
from patchcore.station.api import results
from patchcore.station.api.common import Here, Operator
from patchcore.station.api.models import found
from patchcore.station.pages.figures import NARROW, WIDE, confirmed, counted, yield_of
from patchcore.station.pages.rendering import fragment
from patchcore.station.store.tables import now

router = APIRouter(prefix="/fragments", include_in_schema=False)


@router.get("/models/{number}/histogram")
def scores(request: Request, here: Here, who: Operator, number: int) -> HTMLResponse:
    """Scores of good parts, and of defects that people have confirmed."""
    model = found(here, number)
    calibration = here.models.detector(model).fitted.calibration
    good = [score for score in calibration.scores if math.isfinite(score)]
    with here.database.read() as session:
        bad = confirmed(session, model)
    chart = None
    if good or bad:
        chart = histogram(good, bad, calibration.threshold, "")
    return fragment(request, who, "histogram", chart=chart, good=len(good), bad=len(bad),
                    threshold=calibration.threshold, lower=calibration.lower_threshold)  # fmt: skip


@router.get("/yield")
def over_time(
    request: Request,
    here: Here,
    who: Operator,
    line: Annotated[str, Query(max_length=64)] = "main",
    hours: Annotated[float, Query(ge=0.1, le=24 * 366)] = 8,
    narrow: bool = False,
    offset: Annotated[int, Query(ge=-1440, le=1440, description="Minutes of the person's clock from UTC.")] = 0,
) -> HTMLResponse:
    """The share of parts that passed, and how many of each verdict."""
    end = now()
    begin = end - timedelta(hours=hours)
    with here.database.read() as session:
        counts = counted(session, here.line(line).id, begin, end, 18 if narrow else 36)
    chart = yield_of(counts, begin, end, timedelta(minutes=offset), NARROW if narrow else WIDE)
    return fragment(request, who, "yield", chart=chart, per_hour=sum(chart.totals.values()) / hours)


@router.get("/results/{number}/evidence")
def evidence(here: Here, who: Operator, number: int, n: Annotated[int, Query(ge=1, le=9)] = 3) -> list[dict[str, Any]]:
    """The most unusual places, each beside the good one that is most like it, as PNG in base 64."""
    from patchcore.oversight.evidence import evidence as evidence_of

    row = results.found(here, number)
    seen = evidence_of(here.models.detector(row.model), results.again(here, row), n=n)
    found = list[dict[str, Any]]()
    for patch in seen.patches:
        part, good, _ = seen.close_ups(patch, 240)
        found.append(
            {
                "distance": patch.distance,
                "p_value": patch.p_value,
                "x": (patch.box[0] + patch.box[2]) // 2,
                "y": (patch.box[1] + patch.box[3]) // 2,
                "source": patch.nearest.name or None,
                "part": _png(part),
                "good": _png(good) if good is not None else None,
            }
        )
    return found


def _png(image: Image.Image) -> str:
    image.save(file := io.BytesIO(), "PNG")
    return base64.b64encode(file.getvalue()).decode()
