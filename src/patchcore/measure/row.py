"""Row: what is written about an image that was looked at, in JSON or in a table."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime

from pydantic import JsonValue

from patchcore.result import Result

COLUMNS = (
    "path", "score", "normalised", "threshold", "lower_threshold", "decision", "reason", "foreign", "p_value",
    "seconds", "nearest_image", "time", "model", "warnings",
)  # fmt: skip


def row_of(result: Result, model: str, *, regions: bool = False) -> dict[str, JsonValue]:
    """What `patchcore predict --json` prints of an image; its command describes the keys. `model`: what to call it."""
    row: dict[str, JsonValue] = {
        "path": result.name,
        "score": result.score,
        "normalised": result.normalised,
        "p_value": None if math.isnan(result.p_value) else result.p_value,
        "threshold": result.threshold,
        "lower_threshold": result.lower_threshold,
        "decision": result.decision,
        "seconds": round(result.seconds, 6),
        "nearest_image": result.nearest_image and result.nearest_image.name,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "model": model,
        "warnings": list(result.warnings),
        "reason": result.reason,
        "foreign": result.foreign,
        **where_of(result),
    }
    if regions:
        row["regions"] = [asdict(one) for one in result.regions]
    return row


def where_of(result: Result) -> dict[str, JsonValue]:
    """Areas and registration, if the model has any."""
    found: dict[str, JsonValue] = {}
    if result.areas:
        found["areas"] = [{**vars(one), "score": None if math.isnan(one.score) else one.score} for one in result.areas]
    if (moved := result.registration) is not None:
        found["registration"] = {name: getattr(moved, name) for name in ("shift", "angle", "residual", "found")}
    return found
