"""Teaching: good images that are learned, or forgotten, without the others.

The bank covers the patches of the images that it was chosen from: none is farther from it than its covering radius. A
new good image is learned in the same way. Those of its patches that are farther are chosen by the same greedy rule,
against the rows that are there (Roth et al. 2022, alg. 1), until none is left; then nearer ones, until it passes.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import JsonValue
from torch import Tensor

from patchcore.changes.edit import Edit
from patchcore.changes.history import changed
from patchcore.data.reading import Reading
from patchcore.data.resolve import Images, relative, resolve
from patchcore.errors import DataError, ImageError, UsageError, counted, nearest_name
from patchcore.maths.coreset import k_center_greedy
from patchcore.maths.neighbours import Points, nearest
from patchcore.maths.resize import Frame
from patchcore.maths.thresholds import MARGIN
from patchcore.model.fitted import Fitted, Member
from patchcore.pipeline.embed import Embedder, Grid
from patchcore.pipeline.learn import Remembered
from patchcore.pipeline.place import Placer
from patchcore.pipeline.score import against, joined, rated
from patchcore.pipeline.surroundings import undisturbed

if TYPE_CHECKING:
    from patchcore.detector import Detector

log = logging.getLogger(__name__)
_HALVINGS = 8  # of the radius that is left uncovered, before all patches of an image are kept


def covering_radius(member: Member) -> float:
    """How far from the bank a patch that it was chosen from may be, in the bank's scale.

    The greedy selection picks the patch that is farthest from all picks so far, so the least distance between two
    picks is that of the last one, and no other patch is farther. With `projection` this holds only about; where rows
    were drawn at random their usual distance stands for it; a bank that keeps all patches leaves none uncovered.
    """
    rows, kind = member.bank.rows, member.recipe.coreset
    if kind == "identity" or len(rows) < 2:
        return 0.0
    distances = nearest(rows, Points(rows), 2)[0][:, 1]
    return float(distances.median() if kind == "random" else distances.min())


@undisturbed()
def taught(
    detector: Detector,
    images: Images,
    *,
    who: str = "",
    why: str = "",
    rows: int | None = None,
    reading: Reading | None = None,
) -> Fitted:
    """Good images, learned beside those that the detector knows, as its next version. `detector` stays as it is.

    The thresholds stay, but for the part that an image had in them which was held out until now. Where a score is a
    distance to one row (`neighbours=1`, and not `reweighted`), rows that are added can only lower it, so that good
    images are rejected no more often than before.

    Args:
        detector: A fitted detector.
        images: As `Detector.predict` takes them.
        who, why: For the history.
        rows: The most rows that each bank may get; None: as many as it takes for every image to pass.
        reading: How images are read.

    Raises:
        DataError: There are no images, or an image does not pass with all its patches in the bank.
        ImageError, NotFittedError, UsageError
    """
    if rows is not None and rows < 0:
        raise UsageError(f"rows is {rows}; it must be at least 0.")
    fitted = detector.fitted
    embedders = [Embedder(m.recipe, m.backbone, detector.device) for m in fitted.members]
    threads = detector.threads or torch.get_num_threads()
    reading = replace(Reading.of(reading), threads=threads, batch=1)
    room = math.inf if fitted.album.thumbnails is not None else 0
    place = Placer.of(fitted.recipe, fitted.reference)
    good = Remembered.of(embedders, resolve(images).samples, None, reading, None, room=room, place=place)
    if not good.names:
        raise DataError("There are no images to learn from. Give at least one good image.")
    members, version = list(fitted.members), len(fitted.history) + 2
    calibration, known, radii = fitted.calibration, _digests(fitted), [covering_radius(member) for member in members]
    kept, images_told, radius = list[int](), list[JsonValue](), (radii[0], radii[0])
    names = [f"{name} (version {version})" if name in fitted.images else name for name in relative(good.names)]
    for number, name in enumerate(names):
        if (motion := good.frames[number][0].motion) is not None and not motion.found:
            raise ImageError(
                good.names[number], "the part is not found in it, so its patches would be of other places."
            )
        lesson = _Lesson.of(fitted, members, good, number, len(fitted.images) + len(kept))
        before, far = lesson.score(members), lesson.distances(members)
        wider, after = lesson.learned(members, far, fitted, radii, rows)
        same = all(now is was for now, was in zip(wider, members, strict=True))
        if same and good.digests[number] in known:
            continue  # there is nothing new in it
        if after > _passing(fitted):
            if rows is None:
                raise DataError(
                    f"{name}: it still fails with all of its patches in the bank, as its score is a mean of several "
                    "distances (`neighbours`). Fit again with it among the good images."
                )
            log.warning("%s: it still fails (%.6g) with at most %d rows more; give it more.", name, after, rows)
        radius = max(radius[0], float(far[0].max())), max(radius[1], float(lesson.distances(wider)[0].max()))
        members = wider
        if not calibration.crossed and not same:  # the bank has now seen an image that was held out
            calibration = calibration.without(known.get(good.digests[number]))
        kept.append(number)
        images_told.append({"name": name, "score": [before, after]})
    if not kept:
        raise DataError("All of these images are known, and pass: there is nothing to learn.")
    told: dict[str, JsonValue] = {
        "taught": images_told,
        "radius": list(radius),
        "promise": _KEPT if all(map(_falls, members)) else _STALE,
    }
    edits = [_appended(was, now) for was, now in zip(fitted.members, members, strict=True)]
    album = Edit.append(len(fitted.images), len(kept), _album(fitted, good, kept), [names[number] for number in kept])
    digests = "".join(good.digests[number].hex() for number in kept)
    fingerprint = hashlib.sha256((fitted.fingerprint + digests).encode()).hexdigest()
    stated = {"fingerprint": fingerprint, "calibration": calibration}
    return changed(fitted, "teach", [*edits, album], who=who, why=why, told=told, **stated)


def _passing(fitted: Fitted) -> float:
    """Up to which score an image passes."""
    lower = fitted.calibration.lower_threshold
    return fitted.calibration.threshold if lower is None else lower


def _digests(fitted: Fitted) -> dict[bytes, str]:
    """The names of the training images by their digests, if these are known."""
    known = () if fitted.album.sha256 is None else fitted.album.sha256.numpy()
    return {bytes(one): name for one, name in zip(known, fitted.images, strict=False)}


def _album(fitted: Fitted, good: Remembered, kept: Sequence[int]) -> dict[str, Tensor]:
    """What the album keeps of new images, if it keeps that of the others."""
    own = {name: column for name, column in vars(good.album).items() if getattr(fitted.album, name) is not None}
    return {name: column[list(kept)] for name, column in own.items()}


def _appended(was: Member, now: Member) -> Edit:
    rows = len(was.bank.rows)
    new = {"rows": now.bank.rows[rows:], "origins": now.bank.origins[rows:]}
    return Edit.append(rows, len(now.bank.rows) - rows, new)


@dataclass(frozen=True)
class _Lesson:
    """An image that is to be learned: its number, and as each member has them its patches (n, D), in the bank's scale
    and precision, the cells (n, 2) that they are of, their grid, and where it lies in the network's input."""

    image: int
    patches: list[Tensor]
    places: list[Tensor]
    grids: list[Grid]
    frames: list[Frame]
    cells: list[Tensor | None]
    units: tuple[float, ...]  # of the areas, if there are several

    @classmethod
    def of(cls, fitted: Fitted, members: Sequence[Member], good: Remembered, number: int, image: int) -> _Lesson:
        scaled = [
            store.of(number).to(m.bank.rows) * m.bank.scales for m, store in zip(members, good.stores, strict=True)
        ]
        grids = [store.grids[number] for store in good.stores]
        patches = [one.half().float() for one in scaled]
        places = [store.origins_of([number])[:, 1:3] for store in good.stores]
        return cls(image, patches, places, grids, good.frames[number], good.cells[number], fitted.units)

    def score(self, members: Sequence[Member]) -> float:
        each = [against(*one) for one in zip(members, self.patches, self.grids, self.cells, strict=True)]
        found = joined(members, each, self.frames)
        return rated(members[0], self.patches[0], found, self.cells[0], self.units)[0]

    def distances(self, members: Sequence[Member]) -> list[Tensor]:
        """How far each of its patches is from each member's bank."""
        return [nearest(own, m.bank.points)[0][:, 0] for own, m in zip(self.patches, members, strict=True)]

    def learned(
        self, members: list[Member], far: Sequence[Tensor], fitted: Fitted, radii: Sequence[float], most: int | None
    ) -> tuple[list[Member], float]:
        """The members with the patches that it takes: beyond their radii, and nearer ones until the image passes; and
        its score then. `far`: the `distances` of the members."""
        wider, score = members, math.nan
        for share in (*(0.5**n for n in range(_HALVINGS)), 0.0):
            wider = []
            for number, (member, first) in enumerate(zip(members, fitted.members, strict=True)):
                room = len(far[number]) if most is None else most + len(first.bank.rows) - len(member.bank.rows)
                picks = _uncovered(self.patches[number], far[number], radii[number] * share, room)
                wider.append(self._with(member, number, picks) if len(picks) else member)
            score = self.score(wider)
            if most is not None or not score > _passing(fitted) * (1 - MARGIN):
                break
        return wider, score

    def _with(self, member: Member, number: int, picks: Tensor) -> Member:
        """The member that has this number, with some patches as rows behind those of its bank."""
        bank, place = member.bank, F.pad(self.places[number][picks], (1, 0), value=self.image)
        origins = torch.cat([bank.origins, F.pad(place, (0, bank.origins.shape[1] - 3)).to(bank.origins)])
        rows = torch.cat([bank.rows, self.patches[number][picks]])
        return replace(member, bank=replace(bank, rows=rows, origins=origins, prepared={}))


def _uncovered(patches: Tensor, far: Tensor, radius: float, most: int) -> Tensor:
    """The greedy selection of patches (N, D), at most so many, until none is farther than `radius` from the bank, or
    from one that is selected. `far` (N,): how far they are from the bank."""
    distances = far.double()
    count = min(int((distances > radius).sum()), most)
    if count <= 0:
        return torch.arange(0)
    picks = k_center_greedy(patches, count, start=distances)
    apart = torch.cdist(patches[picks].double(), patches[picks].double()).tril(-1)
    apart[torch.ones_like(apart, dtype=torch.bool).triu()] = math.inf
    farther = torch.minimum(apart.amin(1), distances[picks]) > radius  # of what was picked before
    return picks[: int(farther.long().cumprod(0).sum())]


_KEPT = "No score has risen: good images are rejected no more often than before."
_STALE = "The threshold was set before this change, and scores may have risen: set it again with good images."


def _falls(member: Member) -> bool:
    """Whether more rows can only lower a score."""
    recipe = member.recipe
    return recipe.neighbours == 1 and recipe.search == "exact" and recipe.image_score != "reweighted"


@undisturbed()
def forgotten(detector: Detector, image: str, *, who: str = "", why: str = "") -> Fitted:
    """The detector without the rows of one of its training images, as its next version. `detector` stays as it is.

    The image stays in the list of images. If it has set the threshold with others, these set it now.

    Args:
        detector: A fitted detector.
        image: Its name as `fitted.images` has it, or the end of its path.
        who, why: For the history.

    Raises:
        UsageError: There is no such image, or several, or its rows are the only ones.
    """
    fitted = detector.fitted
    number, edits, removed, lost = number_of(fitted, image), list[Edit](), 0, 0.0
    images: dict[str, int] = {}
    for member in fitted.members:
        bank, own = member.bank, member.bank.origins[:, 0] == number
        if own.all():
            raise UsageError(f"{fitted.images[number]}: the bank has no other rows. Fit again on other images.")
        edits.append(Edit.keep(len(bank.rows), own.cpu()))
        if own.any() and member is fitted.members[0]:
            distances, near = nearest(bank.rows[own], Points(bank.rows[~own]))
            lost = float(distances.max())
            for other in bank.origins[~own][near[:, 0].cpu(), 0].tolist():
                images[fitted.images[other]] = images.get(fitted.images[other], 0) + 1
        removed += int(own.sum())
    if not removed:
        raise UsageError(f"{fitted.images[number]}: no row of the bank comes from it, so there is nothing to forget.")
    calibration = fitted.calibration.without(fitted.images[number])
    radius = covering_radius(fitted.members[0])
    told: dict[str, JsonValue] = {
        "forgotten": fitted.images[number],
        "lost": removed,
        "radius": [radius, max(radius, lost)],
        "now nearest": dict(sorted(images.items(), key=lambda one: -one[1])[:5]),
        "promise": _STALE,
    }
    album = Edit.keep(len(fitted.images))
    return changed(fitted, "forget", [*edits, album], who=who, why=why, told=told, calibration=calibration)


def number_of(fitted: Fitted, image: str) -> int:
    """The number of the training image that a name, or the end of a path, means. Errors: UsageError."""
    exact = [number for number, name in enumerate(fitted.images) if name == image]
    found = exact or [
        n
        for n, name in enumerate(fitted.images)
        if PurePath(name).parts[-len(PurePath(image).parts) :] == PurePath(image).parts
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"{image}: no training image is called so.{nearest_name(image, fitted.images)}")
    raise UsageError(f"{image}: {counted(len(found), 'training image')} are called so; give more of the path.")
