"""Recalibrating: the thresholds, set again with new good images.

The bank stays. So the next version is what `fit` with these images as `calibration` would have made of the same bank:
none of them is in it, and the promise is that of held-out images again.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from pydantic import JsonValue

from patchcore.changes.edit import Edit
from patchcore.changes.history import changed, tables
from patchcore.data.reading import Reading
from patchcore.data.resolve import Images, relative, resolve
from patchcore.errors import DataError
from patchcore.maths.thresholds import decide
from patchcore.model.fitted import Fitted
from patchcore.pipeline.calibrate import Trial, tried
from patchcore.pipeline.embed import Embedder
from patchcore.pipeline.learn import Remembered
from patchcore.pipeline.place import Placer
from patchcore.pipeline.surroundings import undisturbed
from patchcore.verdict.calibration import Calibration

if TYPE_CHECKING:
    from patchcore.detector import Detector


@undisturbed()
def recalibrated(
    detector: Detector, images: Images, *, who: str = "", why: str = "", reading: Reading | None = None
) -> Fitted:
    """The detector with thresholds that these good images set, as its next version. `detector` stays as it is.

    After a shift, such as another lamp, new good images score higher than those of the calibration did, and more of
    them fail than was promised. Thresholds from them alone keep the promise for images like them. Rates, units of
    scores and known defects stay.

    Args:
        detector: A fitted detector.
        images: Good images that it has not learned, as `Detector.predict` takes them.
        who, why: For the history.
        reading: How images are read.

    Raises:
        DataError: There are none, or one was learned.
        ImageError, NotFittedError, UsageError
    """
    fitted = detector.fitted
    embedders = [Embedder(m.recipe, m.backbone, detector.device) for m in fitted.members]
    reading = replace(Reading.of(reading), threads=detector.threads or torch.get_num_threads(), batch=1)
    known = {bytes(one) for one in (() if fitted.album.sha256 is None else fitted.album.sha256.numpy())}
    samples, place = resolve(images, learning=True).samples, Placer.of(fitted.recipe, fitted.reference)
    good = Remembered.of(embedders, samples, None, reading, None, learned=known, place=place)
    if not good.names:
        raise DataError("There are no images to set a threshold with. Give good images.")
    if fitted.recipe.near_copies == "together":
        good.group()
    scores, maxima, *patches = zip(*tried(fitted.members, _trials(fitted, good), fitted.units, reading.threads),
                                   strict=True)  # fmt: skip
    was = fitted.calibration
    now = Calibration.fit(
        scores, maxima, was.false_reject_rate, confidence=was.confidence, unsure=was.unsure, defects=was.defects,
        images=relative(good.names), parts=good.parts, patches=list(zip(*patches, strict=True)), looks=good.looks,
    )  # fmt: skip
    nothing = [Edit.keep(table.rows) for table in tables(fitted)]
    return changed(fitted, "recalibrate", nothing, who=who, why=why, told=_told(was, now), calibration=now)


def _trials(fitted: Fitted, good: Remembered) -> Iterator[Trial]:
    """Each of the images, against the banks as they are."""
    for number in range(len(good.names)):
        banks, grids = [m.bank for m in fitted.members], [store.grids[number] for store in good.stores]
        own = [store.of(number) for store in good.stores]  # here, not in a thread: they would share the store's file
        patches = [one.to(bank.rows) * bank.scales for one, bank in zip(own, banks, strict=True)]
        yield Trial(banks, patches, grids, good.frames[number], good.cells[number])


def _told(was: Calibration, now: Calibration) -> dict[str, JsonValue]:
    """What the history says: figures before and after."""
    told: dict[str, JsonValue] = {
        "good": len(now.scores),
        "score": [statistics.median(one.scores) if one.scores else None for one in (was, now)],
        "failing": [sum(score > one.threshold for score in now.scores) for one in (was, now)],
        "promise": now.summary(),
    }
    if was.defects:
        told["missed"] = [_passing(one, was.defects.scores) for one in (was, now)]
    return told


def _passing(calibration: Calibration, scores: Sequence[float]) -> int:
    return sum(decide(score, calibration.threshold, calibration.lower_threshold) == "pass" for score in scores)
