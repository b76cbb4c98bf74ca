"""Record: a result as the database keeps it, and made again from there exactly as it was."""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from patchcore.data.sample import Sample
from patchcore.maths.resize import Frame
from patchcore.model.fitted import Fitted
from patchcore.result import Result
from patchcore.station.store.tables import Inspection, Review

_FRAME = TypeAdapter(Frame)


def inspected(
    result: Result, sha256: str, place: str, *, name: str = "", part: str | None = None, key: str | None = None
) -> Inspection:
    """A row of the database. `sha256`: of the image file's bytes; `place`: where they are stored."""
    height, width = result.frame.source
    review = Review.none if result.decision == "pass" else Review.open
    return Inspection(
        name=name, part=part, key=key, verdict=result.decision, reason=result.reason, score=result.score,
        threshold=_finite(result.threshold), lower_threshold=_finite(result.lower_threshold),
        pixel_threshold=_finite(result.pixel_threshold), p_value=_finite(result.p_value),
        foreign=_finite(result.foreign), seconds=result.seconds, image=place,
        sha256=sha256, height=height, width=width, frame=asdict(result.frame),
        scores=_packed(result.patch_scores.numpy(force=True)),
        rows=_packed(result.nearest_rows.numpy(force=True).astype(np.int32)),
        areas={"scores": [_finite(score) for score in result.area_scores], "units": list(result.units)},
        warnings=list(result.warnings), review=review,
    )  # fmt: skip


def restored(row: Inspection, content: bytes, fitted: Fitted) -> Result:
    """The result, as it was made; its map and regions are computed again from the same numbers.

    Args:
        row: Of the database.
        content: The image file's bytes.
        fitted: The version of the model that judged it.
    """
    rows = torch.from_numpy(_unpacked(row.rows).astype(np.int64))
    scores = torch.from_numpy(_unpacked(row.scores))
    worst = int(scores.flatten().argmax())
    return Result(
        sample=Sample(row.name or f"#{row.id}", io.BytesIO(content)),
        score=row.score,
        threshold=_number(row.threshold),
        lower_threshold=row.lower_threshold,
        pixel_threshold=_number(row.pixel_threshold),
        patch_scores=scores,
        nearest_rows=rows,
        nearest_image=fitted.origin(int(rows[..., 0].flatten()[worst])),
        frame=_FRAME.validate_python(row.frame),
        recipe=fitted.members[0].recipe,
        seconds=row.seconds,
        warnings=tuple(row.warnings),
        p_value=_number(row.p_value),
        area_scores=tuple(_number(score) for score in row.areas["scores"]),
        units=tuple(row.areas["units"]),
        foreign=row.foreign,
    )


def to_dict(row: Inspection) -> dict[str, Any]:
    """What is said of a result, in JSON: to machines, to pages, and in exports."""
    return {
        "id": row.id,
        "time": row.time.isoformat(timespec="milliseconds"),
        "line": row.line.name,
        "name": row.name,
        "part": row.part,
        "verdict": row.verdict,
        "reason": row.reason,
        "score": row.score,
        "threshold": row.threshold,
        "lower_threshold": row.lower_threshold,
        "p_value": row.p_value,
        "seconds": round(row.seconds, 4),
        "waited": round(row.waited, 4),
        "width": row.width,
        "height": row.height,
        "model": f"{row.model.name} {row.model.version}",
        "model_id": row.model_id,
        "model_sha256": row.model.sha256,
        "image_sha256": row.sha256,
        "kept": bool(row.image),
        "warnings": row.warnings,
        "shadow": row.shadow,
        "review": row.review.value,
        "reviewed_by": row.reviewed_by,
        "reviewed": row.reviewed and row.reviewed.isoformat(timespec="milliseconds"),
        "note": row.note,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _packed(array: NDArray[Any]) -> bytes:
    np.save(file := io.BytesIO(), np.ascontiguousarray(array), allow_pickle=False)
    return zlib.compress(file.getvalue(), 1)


def _unpacked(data: bytes) -> NDArray[Any]:
    return np.load(io.BytesIO(zlib.decompress(data)), allow_pickle=False)
