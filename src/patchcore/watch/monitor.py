"""Monitor: a stream of results, against the images that the detector was calibrated with."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from patchcore.data.images import to_tensor
from patchcore.errors import UsageError
from patchcore.maths.appearance import Appearance, appearance
from patchcore.maths.thresholds import needed_scores
from patchcore.model import store
from patchcore.watch.channel import CHANNELS, LEAST, Channel
from patchcore.watch.state import State

if TYPE_CHECKING:
    from patchcore.detector import Detector
    from patchcore.result import Result

_MOST = 0.2  # of images that may be unlike the good ones: a bet has to leave some of its stake
_LIGHT = "Look at lamps and exposure, and clean the lens."
_PLACE = "Look at how camera and part are held; `registration` in a recipe brings parts to one place."
_CAUSES = {
    "brightness": _LIGHT,
    "contrast": _LIGHT,
    "sharpness fell": "Clean the lens, and look at focus, vibration and how images are compressed.",
    "sharpness rose": "Look at focus, gain and noise of the camera, and how images are compressed.",
    "across": _PLACE,
    "down": _PLACE,
    "score": "Look at the last images: parts, material or surface may have changed.",
}


@dataclass(frozen=True)
class Alarm:
    """Something has changed.

    Attributes:
        what: `score`, or a field of `maths.appearance.Appearance`.
        before: Its median in the images of calibration, or in the first ones of the stream.
        now: Its median in the last images since the change, at most 10.
        spreads: By how much it has changed, in units of its spread before; None if it had none.
        since, since_number: About where the change began: the image, and its number in the stream, from 1.
        image, number: The image that gave the alarm.
        advice: What to do.
    """

    what: str
    before: float
    now: float
    spreads: float | None
    since: str
    since_number: int
    image: str
    number: int
    advice: str

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        far = "" if self.spreads is None else f", {abs(self.spreads):.1f} times its spread"
        return (
            f"{self.what} {_way(self.now, self.before)} from {self.before:.4g} to {self.now:.4g}{far}, since about "
            f"image {self.since_number} ({self.since}). {self.advice}"
        )


class Monitor:
    """Says when a stream of images is no longer like those that the detector was calibrated with.

    It looks at the score and, as a whole, at the image: brightness, contrast, sharpness, and where its edges lie. Each
    is a sequential test by conformal p-values (`maths.betting`): while the images are like those of calibration, as if
    drawn from the same ones in any order, the probability that it ever gives an alarm is at most `false_alarm_rate`,
    however many images come. What has given an alarm is not tested any more; the others are.

    Args:
        detector: A fitted detector. Files of earlier versions do not say what the images of calibration looked like:
            then, or where there are few of them, the first images of the stream are the reference (`learning`).
        false_alarm_rate: The probability that there is ever a false alarm.
        defects: The share of images, such as those of defective parts, that may be unlike the good ones without an
            alarm: changes of fewer images than these, or of less than they would cause, are not seen.

    Attributes:
        state: What it has seen (`watch.state.State`).

    >>> detector = Detector("fast").fit("tests/images/hazelnut/train/good")
    >>> monitor = Monitor(detector)
    >>> [alarm for result in detector.stream("tests/images/hazelnut/test/good") for alarm in monitor.see(result)]
    []
    """

    def __init__(self, detector: Detector, *, false_alarm_rate: float = 0.01, defects: float = 0.1) -> None:
        if not 0 < false_alarm_rate < 1:
            raise UsageError(f"false_alarm_rate is {false_alarm_rate}; it must be over 0 and below 1.")
        if not 0 <= defects <= _MOST:
            raise UsageError(f"defects is {defects}; it must be at least 0 and at most {_MOST}.")
        calibration = detector.fitted.calibration
        self._calibration = calibration
        self._needed = needed_scores(calibration.false_reject_rate, calibration.confidence)
        self.state = State(
            reference=reference(detector), false_alarm_rate=false_alarm_rate, defects=defects,
            channels=[Channel(what, len(CHANNELS) / false_alarm_rate, defects / 2) for what in CHANNELS],
        )  # fmt: skip
        columns = [*zip(*calibration.looks, strict=True)] or [()] * len(Appearance._fields)
        for channel, known in zip(self.state.channels, (*columns, calibration.scores), strict=True):
            for value in known:
                channel.learn(value)

    @classmethod
    def load(cls, path: str | Path, detector: Detector) -> Monitor:
        """A monitor that goes on where another one was saved.

        Errors: StoreError for a file that is none, UsageError if it was of another detector or calibration.
        """
        state = State.read(path)
        monitor = cls(detector, false_alarm_rate=state.false_alarm_rate, defects=state.defects)
        if state.reference != monitor.state.reference:
            raise UsageError(
                f"{path}: the state of a monitor of another detector, or of this one before its thresholds were set "
                "again. Begin anew with another file, or remove this one."
            )
        monitor.state = state
        return monitor

    def save(self, path: str | Path) -> None:
        """Write the state, whole or not at all. Errors: StoreError."""
        self.state.write(path)

    @property
    def learning(self) -> dict[str, int]:
        """What has no reference yet, and how many images are missing."""
        return {one.what: LEAST - one.total for one in self.state.channels if one.total < LEAST}

    def see(self, result: Result) -> list[Alarm]:
        """Take in the result of the next image; usually there is no alarm.

        An image that was given as a path is read again. Errors: ImageError if it has gone, or is another one.
        """
        return self.look(result.name, appearance(to_tensor(
            result.original(), result.name, result.recipe.value_range
        )), result.score)  # fmt: skip

    def look(self, name: str, looks: Appearance, score: float) -> list[Alarm]:
        """The same, for who has what an image looks like, and its score (NaN if it has none)."""
        self.state.seen += 1
        alarms = []
        for channel, value in zip(self.state.channels, (*looks, score), strict=True):
            was = channel.changed
            if not math.isnan(value) and channel.see(value, self.state.seen, name) and not was:
                alarms.append(self._alarm(channel, name))
        self.state.alarms += [one.to_dict() for one in alarms]
        return alarms

    def _alarm(self, channel: Channel, name: str) -> Alarm:
        now = channel.now
        spreads = (now - channel.centre) / channel.spread if channel.spread > 0 else None
        return Alarm(
            channel.what, channel.centre, now, spreads, channel.since.name, channel.since.number, name,
            self.state.seen, self._advice(channel.what, now, channel.centre),
        )  # fmt: skip

    def _advice(self, what: str, now: float, before: float) -> str:
        if what == "score" and now > self._calibration.threshold:
            return (
                "Most images fail now. If their parts are good, fit again with such images: with another threshold "
                "alone defects would pass."
            )
        return (
            f"{_CAUSES.get(what) or _CAUSES[f'{what} {_way(now, before)}']} If it is to stay, set the threshold again "
            f"with at least {self._needed} good images (`patchcore recalibrate`)."
        )


def _way(now: float, before: float) -> str:
    return "rose" if now > before else "fell"


def reference(detector: Detector) -> str:
    """SHA-256 of what the images of calibration were."""
    told: Mapping[str, JsonValue] = detector.fitted.calibration.to_dict()
    return hashlib.sha256(store.canonical(told).encode("utf-8", "surrogatepass")).hexdigest()
