"""Inspect: images in, verdicts out."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Header, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from patchcore.errors import ImageError
from patchcore.files import contents
from patchcore.station.api.common import Here, Operator
from patchcore.station.errors import BusyError, UnavailableError, coded
from patchcore.station.inspection import Stored
from patchcore.station.people.protection import inside
from patchcore.station.station import Station

router = APIRouter(tags=["inspect"])
_WAIT = 120.0  # seconds for an answer
_MOST = 100  # images of a batch


class ByPath(BaseModel):
    """An image that the station reads itself."""

    model_config = ConfigDict(extra="forbid")
    path: str = Field(max_length=4096, description="A file within one of the station's --root folders.")
    line: str = Field("main", max_length=64)
    part: str | None = Field(None, max_length=200, description="The part that the image shows.")


Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", max_length=200, description="The same key gives the same result, however often sent."
    ),
]


@router.post("/inspect", summary="Inspect one image")
def inspect(
    here: Here,
    who: Operator,
    image: UploadFile,
    line: Annotated[str, Form(max_length=64)] = "main",
    part: Annotated[str | None, Form(max_length=200)] = None,
    key: Key = None,
) -> dict[str, Any]:
    """The verdict of an uploaded image, once it is stored. 422: it is no image; 429: too many wait."""
    return _answer(_submit(here, image, line, part, key))


@router.post("/inspect/path", summary="Inspect an image that is there already")
def inspect_path(here: Here, who: Operator, wanted: ByPath, key: Key = None) -> dict[str, Any]:
    """The verdict of a file within one of the folders that the station was started with."""
    place = inside(here.settings.roots, wanted.path)
    try:
        content = contents(place, here.settings.upload)
    except (OSError, ValueError) as error:
        raise ImageError(wanted.path, getattr(error, "strerror", None) or str(error)) from error
    number = here.line(wanted.line).id
    return _answer(here.inspector.submit(content, line=number, name=place.name, part=wanted.part, key=key))


@router.post("/inspect/batch", summary="Inspect several images")
def inspect_batch(
    here: Here,
    who: Operator,
    images: list[UploadFile],
    line: Annotated[str, Form(max_length=64)] = "main",
    part: Annotated[str | None, Form(max_length=200)] = None,
) -> list[dict[str, Any]]:
    """A verdict, or an `error`, for each of up to 100 uploaded images, in order."""
    if len(images) > _MOST:
        raise ImageError("the batch", f"it has {len(images)} images; send at most {_MOST} at a time")
    futures = list[Future[Stored] | Exception]()
    answers = list[dict[str, Any]]()
    for image in images:
        try:
            futures.append(_submit(here, image, line, part, None))
        except BusyError as error:
            futures.append(error)
    for future, image in zip(futures, images, strict=True):
        try:
            if isinstance(future, Exception):
                raise future
            answers.append(_answer(future))
        except Exception as error:
            answers.append({"name": image.filename or "", "error": str(error)})
    return answers


def _submit(here: Station, image: UploadFile, line: str, part: str | None, key: str | None) -> Future[Stored]:
    content = image.file.read(here.settings.upload + 1)
    if len(content) > here.settings.upload:
        raise ImageError(image.filename or "the image", f"it has more than {here.settings.upload} bytes")
    name = Path((image.filename or "").replace("\\", "/")).name[:200]
    return here.inspector.submit(content, line=here.line(line).id, name=name, part=part or None, key=key)


def _answer(future: Future[Stored]) -> dict[str, Any]:
    try:
        return future.result(timeout=_WAIT)
    except TimeoutError as error:
        text = f"No verdict within {_WAIT:.0f} s. Ask again with the same Idempotency-Key: it is not inspected twice."
        raise coded(UnavailableError(text), "no_verdict", seconds=_WAIT) from error
