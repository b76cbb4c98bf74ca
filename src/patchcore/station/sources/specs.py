"""Settings of sources, as they are stored with a line and sent through the interface."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from patchcore.errors import UsageError
from patchcore.station.broker import Broker, Host
from patchcore.station.errors import coded
from patchcore.station.secrets import restored

SCHEMES = ("rtsp", "rtsps", "http", "https")  # of cameras: FFmpeg knows others, which read files of this machine


def _pattern(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise PydanticCustomError("pattern", "is no regular expression: {why}", {"why": str(error)}) from error
    if groups != 1:
        raise PydanticCustomError("group", "must have one group, such as '([0-9]+)'; it has {count}", {"count": groups})
    return text


def _topic(text: str) -> str:
    if any(character in text for character in "+#\0"):
        raise PydanticCustomError("topic", "must be a topic without wildcards")
    return text


Topic = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_topic)]


def _address(value: int | str) -> int | str:
    if isinstance(value, str) and (urlsplit(value).scheme not in SCHEMES or not urlsplit(value).hostname):
        text = "must be the number of a camera, or an address that begins with {schemes}"
        raise PydanticCustomError("camera_address", text, {"schemes": ", ".join(SCHEMES)})
    return value


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Nothing(_Spec):
    """Images come only through the interface and the page."""

    kind: Literal["none"] = "none"


class FolderSpec(_Spec):
    """A folder in which image files arrive, sub-folders included.

    Attributes:
        path: The folder; inside one of the station's roots.
        afterwards: What becomes of a file once its result is stored: it stays, is moved to `done`, or is deleted.
        bad: What becomes of one that cannot be read: it stays, or is moved to `failed`.
        every: Seconds between two looks where the system does not tell of changes, as on network drives.
        part: Regular expression with one group, which finds the part's id in a file's name.
    """

    kind: Literal["folder"] = "folder"
    path: Path
    afterwards: Literal["leave", "move", "delete"] = "leave"
    bad: Literal["leave", "move"] = "leave"
    every: float = Field(default=5.0, ge=0.1, le=3600)
    part: Annotated[str, Field(max_length=200), AfterValidator(_pattern)] | None = None


class MqttTrigger(_Spec):
    """Each message at a topic takes an image.

    Attributes:
        broker: Where the messages come from.
        topic: Theirs; answers go to `topic/answer`.
    """

    kind: Literal["mqtt"] = "mqtt"
    broker: Broker
    topic: Topic


class ModbusTrigger(_Spec):
    """A coil or holding register of a PLC that goes from 0 to another value takes an image.

    Attributes:
        host, port, unit: Of the PLC, which is the server.
        table, address: Where the trigger is.
        answer: Holding register that the station writes: 1 taken, 2 stored, 3 failed, 0 once the trigger is 0 again.
        every: Seconds between two looks.
    """

    kind: Literal["modbus"] = "modbus"
    host: Host
    port: int = Field(default=502, ge=1, le=65535)
    unit: int = Field(default=1, ge=0, le=247)
    table: Literal["coil", "register"] = "coil"
    address: int = Field(ge=0, le=65535)
    answer: int | None = Field(default=None, ge=0, le=65535)
    every: float = Field(default=0.02, ge=0.005, le=10)


TriggerSpec = Annotated[MqttTrigger | ModbusTrigger, Field(discriminator="kind")]


class CameraSpec(_Spec):
    """A camera: USB by number, or on the network by its address.

    Attributes:
        address: Number of a USB camera, the first is 0; or `rtsp://...`, `http://...` (an MJPEG stream).
        every: Seconds between two images, 0 for as many as the engine takes; None: only when it is asked for one.
        trigger: What asks for one.
        flush: Images left out after a trigger, beside the one that was being exposed: for cameras that hold some back.
        silence: Seconds without an image after which the camera is lost.
    """

    kind: Literal["camera"] = "camera"
    address: Annotated[Annotated[int, Field(ge=0, le=99)] | Annotated[str, Field(max_length=500)],
                       AfterValidator(_address)]  # fmt: skip
    every: float | None = Field(default=1.0, ge=0, le=86400)
    trigger: TriggerSpec | None = None
    flush: int = Field(default=0, ge=0, le=60)
    silence: float = Field(default=3.0, ge=0.2, le=60)


class VideoSpec(_Spec):
    """A video file: all its images, in order; none is left out.

    Attributes:
        path: The file; inside one of the station's roots.
        every: Seconds between two images; 0: as fast as the engine takes them.
        step: Only each so-manieth image.
        repeat: Whether to begin again at its end.
    """

    kind: Literal["video"] = "video"
    path: Path
    every: float = Field(default=0.0, ge=0, le=3600)
    step: int = Field(default=1, ge=1, le=100_000)
    repeat: bool = False


SourceSpec = Annotated[Nothing | FolderSpec | CameraSpec | VideoSpec, Field(discriminator="kind")]
_SPECS: TypeAdapter[SourceSpec] = TypeAdapter(SourceSpec)


def source_spec(
    given: object, roots: Sequence[Path] = (), before: dict[str, Any] | None = None, *, new: bool = False
) -> Nothing | FolderSpec | CameraSpec | VideoSpec:
    """Settings of a source from plain values, such as `Line.source`; {} is none.

    Args:
        given: The values.
        roots: The folders that paths must lie in, links followed.
        before: What they were: secrets that are hidden are taken from there.
        new: Somebody sets them now: a path must be there. (One that was set may come back.)

    Errors: UsageError, with a line for each field.
    """
    spec = parsed(_SPECS, given or {"kind": "none"}, "source")
    spec = parsed(_SPECS, restored(spec.model_dump(mode="json"), before or {}, "source"), "source")
    if isinstance(spec, FolderSpec | VideoSpec):
        path = spec.path.resolve()
        if not any(path.is_relative_to(root.resolve()) for root in roots):
            known = ", ".join(map(str, roots)) or "there is none: start the station with --root"
            text = f"source: path is {spec.path}, which is in none of the station's roots ({known})."
            raise coded(UsageError(text), "path_outside", path=str(spec.path), roots=known, field="path")
        if new and not path.exists():
            text = f"source: path is {spec.path}, which does not exist. Make it first, or give another."
            raise coded(UsageError(text), "path_missing", path=str(spec.path), field="path")
    return spec


def parsed(adapter: TypeAdapter[Any], given: object, where: str) -> Any:
    """What pydantic makes of it. Errors: UsageError, which names no values: they may be secret."""
    try:
        return adapter.validate_python(given)
    except ValidationError as failed:
        lines = [
            f"{where}: {'.'.join(str(part) for part in one['loc']) or 'the whole'}: "
            f"{one['msg'].removeprefix('Value error, ')}."
            for one in failed.errors(include_url=False, include_input=False)
        ]
        raise UsageError("\n".join(lines)) from None
