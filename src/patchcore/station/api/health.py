"""Health: whether the station works, and its figures for Prometheus."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from patchcore.station.api.common import Here, Operator

router = APIRouter(tags=["health"])


@router.get("/health", summary="What works, and what does not")
def health(here: Here, response: Response) -> dict[str, Any]:
    """200 if all does, otherwise 503; for everybody, without names of files."""
    found = here.health()
    if not found["ok"]:
        response.status_code = 503
    return {name: found[name] for name in ("ok", "waiting", "queue", "start")} | {"trouble": sorted(found["trouble"])}


@router.get("/state", summary="The same, with reasons")
def state(here: Here, who: Operator) -> dict[str, Any]:
    """For the page of the station's health."""
    return here.health()


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
def metrics(here: Here, who: Operator) -> Response:
    """Inspections by verdict and line, their seconds, the queue, the disk."""
    return Response(generate_latest(here.metrics.registry), media_type=CONTENT_TYPE_LATEST)
