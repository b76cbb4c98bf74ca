"""Jobs: trainings, from folders or uploaded images, and how far they are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from patchcore.data.reading import EXTENSIONS
from patchcore.data.resolve import detect
from patchcore.errors import ImageError
from patchcore.station.api.common import Engineer, Here, Operator
from patchcore.station.api.regions import region_file
from patchcore.station.errors import MissingError, coded
from patchcore.station.jobs import to_dict
from patchcore.station.people.protection import inside
from patchcore.station.station import Station
from patchcore.station.store.tables import Job, Model

router = APIRouter(tags=["jobs"])
_IMAGES = 10_000  # of one set


class Training(BaseModel):
    """What is to be learned from."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=80, description="Of the product.")
    images: str = Field(max_length=4096, description="A set that was uploaded, or a folder within a --root.")
    recipe: str = Field("default", pattern=r"^[a-z_]{1,40}$")
    false_reject_rate: float = Field(0.01, ge=1e-9, le=1 - 1e-9)
    confidence: float | None = Field(None, ge=1e-9, le=1 - 1e-9)
    reject_suspects: float = Field(0, ge=0, lt=0.5)
    line: str | None = Field("main", max_length=64, description="Which line it judges from then on; null: none.")
    why: str = Field("", max_length=2000)


class Check(BaseModel):
    """Images to be looked at before they are learned."""

    model_config = ConfigDict(extra="forbid")
    images: str = Field(max_length=4096)


@router.get("/jobs", summary="Trainings and checks")
def jobs(here: Here, who: Operator, limit: int = 20) -> list[dict[str, Any]]:
    """The newest first."""
    with here.database.read() as session:
        found = session.scalars(select(Job).order_by(Job.id.desc()).limit(max(1, min(limit, 200))))
        return [to_dict(one) for one in found]


@router.get("/jobs/{number}", summary="One job")
def job(here: Here, who: Operator, number: int) -> dict[str, Any]:
    """How far it is, or what became of it."""
    with here.database.read() as session:
        found = session.get(Job, number) if 0 < number < 2**62 else None
    if found is None:
        raise coded(MissingError(f"There is no job {number}."), "missing", name=str(number))
    return to_dict(found)


@router.post("/jobs/{number}/stop", summary="Stop a job")
def stop(here: Here, who: Engineer, number: int) -> dict[str, Any]:
    """Nothing of it is kept."""
    return to_dict(here.jobs.stop(number))


@router.post("/sets", summary="Begin a set of training images")
def begin_set(here: Here, who: Engineer) -> dict[str, str]:
    """Its name, for uploads and for a training."""
    name = f"set-{uuid4().hex}"
    (here.sets / name / "good").mkdir(parents=True)
    return {"images": name}


@router.post("/sets/{name}", summary="Add images to a set")
def add_to_set(here: Here, who: Engineer, name: str, images: list[UploadFile]) -> dict[str, Any]:
    """What was taken, and what is no image, each with the reason."""
    from patchcore.data.images import read

    folder = _set(here, name) / "good"
    held = len(list(folder.iterdir()))
    added, refused = 0, list[dict[str, str]]()
    for image in images:
        given = Path((image.filename or "image").replace("\\", "/")).name[:120]
        try:
            if held + added >= _IMAGES:
                raise ImageError(given, f"the set has {_IMAGES} images already")
            content = image.file.read(here.settings.upload + 1)
            if len(content) > here.settings.upload:
                raise ImageError(given, f"it has more than {here.settings.upload} bytes")
            read(io.BytesIO(content), given, here.settings.pixels, "rgb", warnings=[])
            suffix = Path(given).suffix.lower()
            kept = f"{held + added:05d}-{Path(given).stem[:80]}{suffix if suffix in EXTENSIONS else '.png'}"
            (folder / "".join(c if c.isalnum() or c in "-_." else "_" for c in kept)).write_bytes(content)
            added += 1
        except ImageError as error:
            refused.append({"name": given, "reason": error.reason})
    return {"images": name, "added": added, "count": held + added, "refused": refused}


@router.post("/folders", summary="Count the images of a folder")
def folder(here: Here, who: Engineer, wanted: Check) -> dict[str, Any]:
    """What a training of this set or folder would learn. 422: there is none that the station may read."""
    found = detect(place_of(here, wanted.images))
    paths = [one.image for one in found.train if isinstance(one.image, str | Path)]
    return {"images": wanted.images, "count": len(found.train), "bytes": sum(Path(one).stat().st_size for one in paths),
            "description": found.description}  # fmt: skip


@router.post("/trainings", summary="Train a model")
def train(here: Here, who: Engineer, wanted: Training) -> dict[str, Any]:
    """A job; when it is done, a version of the model, which judges the line."""
    if wanted.line is not None:
        here.line(wanted.line)
    images = place_of(here, wanted.images)
    target = here.work / f"{uuid4().hex}.patchcore"
    command = ["fit", str(images), "-o", str(target), "--recipe", wanted.recipe, "--json", "--skip-bad", "--thumbnails",
               "--false-reject", str(wanted.false_reject_rate)]  # fmt: skip
    command += ["--confidence", str(wanted.confidence)] if wanted.confidence is not None else []
    region = region_file(here, wanted.name)
    command += ["--roi", str(region)] if region is not None else []
    command += ["--reject-suspects", str(wanted.reject_suspects)] if wanted.reject_suspects else []
    told = {**wanted.model_dump(), "target": str(target)}
    return to_dict(here.jobs.add("train", command, who.name, told))


class Recalibration(BaseModel):
    """Good images that are to set the thresholds of a model again."""

    model_config = ConfigDict(extra="forbid")
    model_id: int = Field(ge=1, le=2**62)
    images: str = Field(max_length=4096, description="A set that was uploaded, or a folder within a --root.")
    line: str | None = Field("main", max_length=64)
    why: str = Field("", max_length=2000)


@router.post("/recalibrations", summary="Set the thresholds again, with new good images")
def recalibrate(here: Here, who: Engineer, wanted: Recalibration) -> dict[str, Any]:
    """A job, as after a change of light or camera; the bank stays. Its version then judges the line."""
    with here.database.read() as session:
        model = session.get(Model, wanted.model_id)
    if model is None:
        raise coded(MissingError(f"There is no model {wanted.model_id}."), "missing", name=str(wanted.model_id))
    if wanted.line is not None:
        here.line(wanted.line)
    images, target = place_of(here, wanted.images), here.work / f"{uuid4().hex}.patchcore"
    target.write_bytes(here.models.content(model))
    command = ["recalibrate", str(target), str(images), "--who", who.name, "--why", wanted.why, "--json"]
    told = {**wanted.model_dump(), "name": model.name, "target": str(target)}
    return to_dict(here.jobs.add("recalibrate", command, who.name, told))


@router.post("/checks", summary="Look for suspects among training images")
def check(here: Here, who: Engineer, wanted: Check) -> dict[str, Any]:
    """A job; it finds images unlike the rest, near-copies, blur, odd sizes."""
    images = place_of(here, wanted.images)
    return to_dict(here.jobs.add("audit", ["audit", str(images), "--json"], who.name, wanted.model_dump()))


def _set(here: Station, name: str) -> Path:
    place = here.sets / name
    if not name.startswith("set-") or not name[4:].isalnum() or not place.is_dir():
        raise coded(MissingError(f"There is no set {name!r}."), "set_gone")
    return place


def place_of(here: Station, images: str) -> Path:
    """The folder of a set, or one within the station's roots. Errors: MissingError, UsageError."""
    return _set(here, images) if images.startswith("set-") else inside(here.settings.roots, images)
