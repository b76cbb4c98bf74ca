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
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from patchcore import archive
from patchcore.backbones import engines
from patchcore.calibration import Calibration, hold_out, unseen
from patchcore.data import MAX_PIXELS, datasets
from patchcore.data.loading import OnBad
from patchcore.embedder import Embedded, Embedder
from patchcore.errors import DataError, NotFittedError, UsageError
from patchcore.fitting import backbone_for, calibrate, choose, choose_device, on_one_thread
from patchcore.maths import scoring
from patchcore.maths.neighbours import nearest
from patchcore.memory.bank import Bank
from patchcore.memory.patches import PatchStore
from patchcore.recipe import Recipe
from patchcore.result import Result

log = logging.getLogger(__name__)
_BATCH = 8


class Detector:
    """Finds defects in pictures of parts after seeing good ones.

    `recipe` is a Recipe or the name of one; `backbone` a network of the caller's own, which expects
    ImageNet-normalised pictures and is changed: `fit` gives it hooks, puts it in evaluation mode and
    switches its gradients off. `device` is `auto` or a torch device. `predict` is thread-safe.
    `engine` is what runs the network in `predict`, `torch` or `openvino` (on the CPU; needs
    `patchcore[openvino]`); `precision` is `fp32` or `bf16`, with scores off by 1e-2 or so.
    """

    def __init__(
        self,
        recipe: Recipe | str | None = None,
        *,
        backbone: nn.Module | None = None,
        device: str = "auto",
        engine: str = "torch",
        precision: str = "fp32",
    ) -> None:
        recipe = Recipe.named(recipe) if isinstance(recipe, str) else recipe or Recipe()
        self.recipe = recipe.replace(**({} if backbone is None else {"backbone": "module"}))
        self.device = choose_device(device)
        engines.check(engine, precision, self.device)
        self.engine, self.precision = engine, precision
        self.bank: Bank | None = None
        self.calibration: Calibration | None = None
        self.fingerprint = ""  # SHA-256 over the pixels of the training pictures, in order
        self.network = backbone
        self.embedder: Embedder | None = None

    def __repr__(self) -> str:
        state = "not fitted" if self.bank is None else f"{len(self.bank.rows)} bank rows"
        return f"Detector(backbone={self.recipe.backbone!r}, device='{self.device}', {state})"

    def __getstate__(self) -> NoReturn:
        raise UsageError("A Detector cannot be pickled or copied. Use save(path), and Detector.load(path) over there.")

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
        the first. The network runs in torch, fp32, whatever `engine` and `precision` are, so that
        neither the bank nor a threshold depends on them. Errors: DataError, BackboneError, UsageError.
        """
        recipe = self.recipe
        found = datasets.limited(datasets.samples(pictures), limit, recipe.seed)
        embedder = Embedder(recipe, backbone_for(recipe, self.network, self.embedder), self.device)
        options = {"batch_size": _BATCH, "on_bad": on_bad, "max_pixels": max_pixels}
        patches, frames, names, digests = PatchStore(), [], [], []
        read = embedder.stream(found, progress="Reading good pictures" if progress else None, **options)  # type: ignore[arg-type]
        for one in on_one_thread(read):
            patches.append(one.patches, one.grid)
            frames.append(one.frame)
            names.append(one.loaded.sample.name)
            digests.append(one.loaded.digest)
        if not names:
            raise DataError("There are no good pictures to learn from. Give a folder, table or list that has some.")

        share = recipe.calibration_share if calibration is None else 0.0
        kept, held_out = hold_out(len(names), share, recipe.seed)
        bank = choose(recipe, patches, kept, datasets.relative(names), self.device, progress)
        if recipe.neighbours > len(bank.rows):
            log.warning("neighbours is %d, more than the %d rows of the bank.", recipe.neighbours, len(bank.rows))
        if calibration is None:
            good = [(patches.rows_of([i]).to(self.device).float(), patches.grids[i], frames[i]) for i in held_out]
        else:
            bar = "Calibrating" if progress else None
            held = embedder.stream(datasets.samples(calibration), progress=bar, **options)  # type: ignore[arg-type]
            good = [(one.patches, one.grid, one.frame) for one in unseen(held, set(digests))]
        scored = ((*self._score(p, grid, bank)[:2], frame) for p, grid, frame in good)
        thresholds = calibrate(recipe, scored)
        # Only now: a fit that is interrupted leaves the detector as it was.
        self.embedder, self.bank, self.calibration = self._on_engine(embedder), bank, thresholds
        self.fingerprint = hashlib.sha256(b"".join(digests)).hexdigest()
        return self

    def _on_engine(self, embedder: Embedder) -> Embedder:
        embedder.engine = engines.engine(embedder.backbone, self.engine, self.precision, self.device)
        return embedder

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
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; it must be at least 1.")
        many = isinstance(pictures, Sized | str | Path)
        size = batch_size or (_BATCH if many else 1)
        results = self.stream(pictures, batch_size=size, progress=progress, on_bad=on_bad, max_pixels=max_pixels)
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
        found, bar = datasets.samples(pictures), "Looking at pictures" if progress else None
        embedded = self.embedder.stream(
            found, batch_size=batch_size, max_pixels=max_pixels, on_bad=on_bad, progress=bar
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

    def save(self, path: str | Path, *, weights: bool = True) -> str:
        """Write one file with all that `load` needs, whole or not at all; returns its SHA-256.

        `weights=False` leaves the backbone's weights out: the file then names them by their hash,
        and they must be found again when it is loaded. Errors: NotFittedError, StoreError.
        """
        return archive.save(self, path, weights=weights)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        engine: str = "torch",
        precision: str = "fp32",
        backbone: nn.Module | None = None,
        weights: str | None = None,
    ) -> Detector:
        """A detector from its file. Nothing in the file is executed.

        `backbone` is needed again where `fit` was given a network of the caller's own; `weights`
        (a path) where it was saved without weights that came from a local file. `engine` and
        `precision` need not be those of the fit. Errors: StoreError, WeightsError, UsageError.
        """
        engines.check(engine, precision, choose_device(device))
        parts = archive.load(path, device=choose_device(device), network=backbone, weights=weights)
        detector = cls(parts.recipe, backbone=backbone, device=device, engine=engine, precision=precision)
        detector.embedder, detector.bank = detector._on_engine(parts.embedder), parts.bank
        detector.calibration, detector.fingerprint = parts.calibration, parts.fingerprint
        return detector
