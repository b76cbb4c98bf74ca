"""Regions: where to look, per product, as the next training takes it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from patchcore.errors import validated
from patchcore.recipe.roi import Polygons, Roi
from patchcore.station.api.common import Engineer, Here, Operator
from patchcore.station.errors import MissingError
from patchcore.station.people.trail import record
from patchcore.station.station import Station
from patchcore.station.store.kept import kept
from patchcore.station.store.tables import Setting

router = APIRouter(prefix="/regions", tags=["models"])
_SETTING = "regions"
_PRODUCTS = 500


class Region(BaseModel):
    """Polygons of corners [x, y], from 0 to 1 of width and height; what is included but not excluded counts.

    Without `include` the whole image does; without both, there is no region.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    include: Polygons = Field((), max_length=50)
    exclude: Polygons = Field((), max_length=50)


@router.get("/{product}", summary="Where to look")
def region(here: Here, who: Operator, product: str) -> dict[str, Any]:
    """The region that is saved for a product, as `patchcore fit --roi` takes it; an empty one if there is none."""
    return _all(here).get(product, {"include": [], "exclude": []})


@router.put("/{product}", summary="Say where to look")
def save(here: Here, who: Engineer, product: str, given: Region) -> dict[str, Any]:
    """It counts from the next training of this product on. Polygons without any take it away."""
    if not 0 < len(product) <= 80:
        raise MissingError(f"There is no product {product[:80]!r}.")
    told = given.model_dump(mode="json")
    with here.database.begin() as session:
        row = kept(session, _SETTING, {})
        regions = {name: one for name, one in row.value.items() if name != product}
        if given.include or given.exclude:
            validated(Roi, told, "the region")
            regions = dict(list(regions.items())[-_PRODUCTS + 1 :]) | {product: told}
        row.value = regions
        record(session, who.name, "region.set", product, detail=told)
    return told


def region_file(here: Station, product: str) -> Path | None:
    """The file that a training of this product takes as `--roi`; None where all of an image counts."""
    if (saved := _all(here).get(product)) is None:
        return None
    content = json.dumps(saved).encode()
    place = here.work / f"region-{hashlib.sha256(content).hexdigest()[:16]}.json"
    place.write_bytes(content)
    return place


def _all(here: Station) -> dict[str, Any]:
    with here.database.read() as session:
        row = session.get(Setting, _SETTING)
    return row.value if row else {}
