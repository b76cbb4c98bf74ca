"""Detector: fit on good pictures, predict on new ones. Read this first.

fit:      pictures -> taps -> embedding -> patches -> coreset -> bank -> thresholds
predict:  pictures -> taps -> embedding -> nearest bank rows -> patch scores -> image score, map
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from tqdm.auto import tqdm

from patchcore import archive, backbones
from patchcore.calibration import Calibration, hold_out
from patchcore.data import datasets
from patchcore.data.images import MAX_PIXELS
from patchcore.data.loading import OnBad
from patchcore.embedder import Embedded, Embedder
from patchcore.errors import DataError, NotFittedError, UsageError
from patchcore.maths import coreset, maps, scoring
from patchcore.maths.embedding import channel_scales
from patchcore.maths.neighbours import nearest
from patchcore.maths.resize import Frame
from patchcore.memory.bank import Bank
from patchcore.memory.patches import PatchStore
from patchcore.recipe import Recipe
from patchcore.result import Result

log = logging.getLogger(__name__)

_BATCH = 8


class Detector:
    """Finds defects in pictures of parts after seeing good ones.

    `backbone` is a network of the caller's own, which expects ImageNet-normalised pictures; `device`
    is `auto`, or a torch device. `predict` may be called from several threads at once.
    """

    def __init__(
        self, recipe: Recipe | None = None, *, backbone: nn.Module | None = None, device: str = "auto"
    ) -> None:
        self.recipe = (recipe or Recipe()).replace(**({} if backbone is None else {"backbone": "module"}))
        self.device = choose_device(device)
        self.bank: Bank | None = None
        self.calibration: Calibration | None = None
        self.fingerprint = ""  # SHA-256 over the pixels of the training pictures, in order
        self.network = backbone
        self.embedder: Embedder | None = None

    def fit(
        self,
        pictures: Any,
        *,
        calibration: Any = None,
        limit: int | None = None,
        progress: bool = False,
        on_bad: OnBad | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Detector:
        """Learn what good parts look like, and set the thresholds. Returns the detector itself.

        `pictures`: a folder, a data set root, a CSV table, a list of paths, arrays (N, H, W, C),
        tensors (N, C, H, W), a DataLoader or a generator. `calibration`: good pictures to set the
        thresholds with; without it, `recipe.calibration_share` of the pictures is kept out of the
        bank for that. `limit`: use at most so many pictures, drawn from the seed. A picture that
        cannot be read raises PictureError, unless `on_bad` takes the error. A second call forgets
        the first. Errors: DataError, BackboneError, UsageError.
        """
        recipe = self.recipe
        found = datasets.limited(datasets.samples(pictures), limit, recipe.seed)
        embedder = Embedder(recipe, self._build_backbone(), self.device)
        options = {"batch_size": _BATCH, "on_bad": on_bad, "max_pixels": max_pixels}
        patches, frames, names, fingerprint = PatchStore(), [], [], hashlib.sha256()
        bar = "Reading good pictures" if progress else None
        for one in _on_one_thread(embedder.stream(found, progress=bar, **options)):  # type: ignore[arg-type]
            patches.append(one.patches, one.grid)
            frames.append(one.frame)
            names.append(one.loaded.sample.name)
            fingerprint.update(one.loaded.digest)
        if not names:
            raise DataError("There are no good pictures to learn from. Give a folder, table or list that has some.")

        share = recipe.calibration_share if calibration is None else 0.0
        kept, held_out = hold_out(len(names), share, recipe.seed)
        bank = self._choose(patches, kept, datasets.relative(names), progress)
        if calibration is None:
            good = [(patches.rows_of([i]).to(self.device).float(), patches.grids[i], frames[i]) for i in held_out]
        else:
            bar = "Calibrating" if progress else None
            held = embedder.stream(datasets.samples(calibration), progress=bar, **options)  # type: ignore[arg-type]
            good = [(one.patches, one.grid, one.frame) for one in held]
        thresholds = self._calibrate(good, bank)
        # Only now: a fit that is interrupted leaves the detector as it was.
        self.embedder, self.bank, self.calibration = embedder, bank, thresholds
        self.fingerprint = fingerprint.hexdigest()
        return self

    def predict(
        self,
        pictures: Any,
        *,
        batch_size: int | None = None,
        progress: bool = False,
        on_bad: OnBad | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Any:
        """One picture -> Result. Several -> a list of them; a generator -> a generator of them.

        Takes what `fit` takes; a folder means the pictures directly in it. `batch_size` is 8, or 1
        for a generator, so that a camera's pictures do not wait for each other. A picture that
        cannot be read raises PictureError, unless `on_bad` takes the error and the others go on (one
        picture then gives None). Errors: NotFittedError, PictureError.
        """
        many = isinstance(pictures, Sized | str | Path)
        results = self.stream(
            pictures,
            batch_size=batch_size or (_BATCH if many else 1),
            progress=progress,
            on_bad=on_bad,
            max_pixels=max_pixels,
        )
        if datasets.is_one(pictures):
            return next(results, None)
        return list(results) if many else results

    def stream(
        self,
        pictures: Any,
        *,
        batch_size: int = _BATCH,
        progress: bool = False,
        on_bad: OnBad | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Iterator[Result]:
        """The results for several pictures, each as soon as its batch is done; otherwise as `predict`."""
        if self.embedder is None:
            raise NotFittedError("This detector has no memory bank. Call fit, or use Detector.load(path).")
        if isinstance(pictures, str | Path) and Path(pictures).is_dir():
            pictures = datasets.pictures_in(Path(pictures))
        embedded = self.embedder.stream(
            datasets.samples(pictures),
            batch_size=batch_size,
            max_pixels=max_pixels,
            on_bad=on_bad,
            progress="Looking at pictures" if progress else None,
        )
        return self._results(embedded, max_pixels)

    def _results(self, embedded: Iterable[Embedded], max_pixels: int) -> Iterator[Result]:
        assert self.bank is not None
        assert self.calibration is not None
        for one in embedded:
            begin = time.perf_counter()
            score, patch_scores, rows = self._score(one.patches, one.grid, self.bank)
            yield Result(
                sample=one.loaded.sample,
                score=score,
                threshold=self.calibration.threshold,
                pixel_threshold=self.calibration.pixel_threshold,
                patch_scores=patch_scores,
                nearest_rows=rows,
                frame=one.frame,
                map_options=self.recipe.map_options,
                value_range=self.recipe.value_range,
                max_pixels=max_pixels,
                seconds=one.seconds + time.perf_counter() - begin,
            )

    @torch.inference_mode()
    def _score(self, patches: Tensor, grid: tuple[int, int], bank: Bank) -> tuple[float, Tensor, Tensor]:
        """Patches (h*w, D) -> image score, patch scores (h, w), nearest bank rows (h, w, k)."""
        recipe = self.recipe
        patches = patches * bank.scales
        distances, rows = nearest(patches, bank.rows, recipe.neighbours)
        scores = scoring.patch_scores(distances, recipe.distance)
        score = scoring.image_score(
            scores,
            patches,
            rows[:, 0],
            bank.rows,
            kind=recipe.image_score,
            top_share=recipe.top_share,
            neighbours=recipe.reweight_neighbours,
        )
        return float(score), scores.unflatten(0, grid), rows.unflatten(0, grid)

    def _choose(self, patches: PatchStore, kept: list[int], names: list[str], progress: bool) -> Bank:
        """The bank: the coreset of the patches of the pictures that were kept."""
        recipe = self.recipe
        rows = patches.rows_of(kept).to(self.device)
        scales = channel_scales(rows) if recipe.scaling == "channel" else rows.new_ones(rows.shape[1]).float()
        if recipe.scaling == "channel":
            rows = torch.cat([(block * scales).half() for block in rows.split(1 << 14)])
        n_rows = min(max(1, int(len(rows) * recipe.ratio)), recipe.max_rows)
        with tqdm(total=n_rows, desc="Choosing patches", unit="patch", disable=not progress) as bar:
            chosen = coreset.select(
                rows,
                n_rows,
                method=recipe.coreset,
                projection=recipe.projection,
                projection_dims=recipe.projection_dims,
                start=recipe.start,
                seed=recipe.seed,
                on_progress=lambda count: bar.update(count - bar.n),
            )
        origins = patches.origins_of(kept)[chosen.cpu()].int()
        return Bank(rows[chosen].float(), origins, tuple(names), scales)

    def _calibrate(self, good: list[tuple[Tensor, tuple[int, int], Frame]], bank: Bank) -> Calibration:
        """The thresholds, from the scores of good pictures that the bank has not seen."""
        scores, maxima = [], []
        for patches, grid, frame in good:
            score, patch_scores, _ = self._score(patches, grid, bank)
            values = maps.anomaly_map(patch_scores, frame, **self.recipe.map_options)
            scores.append(score)
            maxima.append(float(values[~values.isnan()].max()))
        calibration = Calibration.fit(scores, maxima, self.recipe.false_reject_rate)
        log.log(logging.INFO if calibration.enough else logging.WARNING, calibration.summary())
        return calibration

    def _build_backbone(self) -> backbones.Backbone:
        recipe = self.recipe
        if self.embedder is not None:
            return self.embedder.backbone  # fitting again
        if self.network is not None:
            return backbones.wrap(self.network, recipe.taps, recipe.window)
        if recipe.backbone == "module":
            raise UsageError("The recipe has backbone='module'; give the network: Detector(recipe, backbone=network).")
        return backbones.build(recipe.backbone, recipe.weights, recipe.taps, recipe.window, recipe.seed)

    def save(self, path: str | Path, *, weights: bool = True) -> None:
        """Write one file with all that `load` needs, whole or not at all.

        `weights=False` leaves the backbone's weights out: the file then names them by their hash,
        and they must be found again when it is loaded. Errors: NotFittedError, StoreError.
        """
        archive.save(self, path, weights=weights)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        backbone: nn.Module | None = None,
        weights: str | None = None,
    ) -> Detector:
        """A detector from its file. Nothing in the file is executed.

        `backbone` is needed again where `fit` was given a network of the caller's own; `weights`
        (a path) where the file was saved without weights that came from a local file.
        Errors: StoreError, WeightsError.
        """
        parts = archive.load(path, device=choose_device(device), network=backbone, weights=weights)
        detector = cls(parts.recipe, backbone=backbone, device=device)
        detector.embedder, detector.bank = parts.embedder, parts.bank
        detector.calibration, detector.fingerprint = parts.calibration, parts.fingerprint
        return detector


def _on_one_thread(embedded: Iterator[Embedded]) -> Iterator[Embedded]:
    """Run the network on one thread: its convolutions round differently on several, and the bank
    must not depend on their number. Limits the calling thread only."""
    while True:
        with threadpool_limits(1, user_api="openmp"):
            one = next(embedded, None)
        if one is None:
            return
        yield one


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA, else MPS, else the CPU."""
    if name != "auto":
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise UsageError(f"device is {name!r}: {str(error).splitlines()[0]}") from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
