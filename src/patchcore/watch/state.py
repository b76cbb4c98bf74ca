"""State: what a monitor keeps between two runs, as a small JSON file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, JsonValue

from patchcore.errors import StoreError, validated
from patchcore.files import appearing, contents, from_json
from patchcore.watch.channel import CHANNELS, Channel, Run

_LARGEST = 100_000_000  # bytes


@dataclass
class State:
    """What a monitor has seen.

    Attributes:
        reference: SHA-256 of the calibration that it compares with.
        seen: Images.
        alarms: All that were given.
        mark: The time and the name of the last file of a folder that was seen (`watch.folder`).
        waiting: Files that could not be read yet, and how often this was tried.
    """

    reference: str
    false_alarm_rate: float
    defects: float
    channels: list[Channel]
    seen: int = 0
    alarms: list[dict[str, JsonValue]] = field(default_factory=list)
    mark: tuple[int, str] = (0, "")
    waiting: dict[str, int] = field(default_factory=dict)

    def write(self, path: str | Path) -> None:
        """As a file that appears whole or not at all. Errors: StoreError."""
        told = {"format": 1, **asdict(self)}
        for channel in told["channels"]:
            for name in ("centre", "spread"):
                channel[name] = None if math.isnan(channel[name]) else channel[name]
        with appearing(path) as temporary:
            temporary.write_text(json.dumps(told, allow_nan=False, separators=(",", ":")), "utf-8")

    @classmethod
    def read(cls, path: str | Path) -> State:
        """What `write` has written. Errors: StoreError for anything else."""
        try:
            found = from_json(contents(path, _LARGEST))
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror or error}).") from error
        except ValueError as error:
            raise StoreError(
                f"{path}: not the state of a monitor ({error}). Give another file, or remove it."
            ) from error
        own = validated(_State, found, path, StoreError).model_dump(exclude={"format"})
        if [one["what"] for one in own["channels"]] != list(CHANNELS) or not all(map(_fits, own["channels"])):
            raise StoreError(f"{path}: its parts do not belong together. Remove it, and begin anew.")
        channels = [
            Channel(**{**one, "runs": [Run(**run) for run in one["runs"]],
                       **{name: math.nan for name in ("centre", "spread") if one[name] is None}})
            for one in own.pop("channels")
        ]  # fmt: skip
        return cls(channels=channels, **own)


def _fits(channel: dict[str, Any]) -> bool:
    """Whether as many values, counts, stakes and runs are there as belong to a channel."""
    bets = len(Channel(channel["what"], math.inf, 0.0).bets)
    sizes = len(channel["values"]) - len(channel["counts"]), len(channel["stakes"]) - bets, len(channel["runs"]) - bets
    return sizes == (0, 0, 0) and channel["values"] == sorted(set(channel["values"]))


_Count = Annotated[int, Field(ge=0)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=False, extra="forbid", title="what `patchcore watch` writes; remove the file")


class _Run(_Part):
    gained: _Finite
    number: _Count
    name: InstanceOf[str]


class _Channel(_Part):
    what: str
    limit: _Finite
    tolerance: Annotated[float, Field(ge=0, le=0.1)]
    values: list[_Finite]
    counts: list[Annotated[int, Field(ge=1)]]
    number: _Count
    stakes: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    runs: list[_Run]
    recent: list[tuple[_Count, _Finite]]
    centre: _Finite | None
    spread: _Finite | None
    changed: bool


class _State(_Part):
    format: Annotated[int, Field(ge=1, le=1)]
    reference: str
    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)]
    defects: Annotated[float, Field(ge=0, le=0.2)]
    channels: list[_Channel]
    seen: _Count
    alarms: list[dict[str, JsonValue]]
    mark: tuple[int, InstanceOf[str]]
    waiting: dict[str, _Count]
