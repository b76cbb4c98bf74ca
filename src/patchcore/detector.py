"""Detector: fit on good images, predict on new ones. Read this first.

fit:      images -> taps -> embedding -> patches -> coreset -> bank -> thresholds
predict:  images -> taps -> embedding -> nearest bank rows -> patch scores -> image score, map
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sized
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from patchcore import archive, ensemble, signing
from patchcore.backbones import engines
from patchcore.calibration import Calibration
from patchcore.data import MAX_PIXELS, datasets
from patchcore.data.loading import OnBad
from patchcore.embedder import Embedded, Embedder
from patchcore.errors import NotFittedError, UsageError
from patchcore.fitting import choose_device, learn, spill_limit
from patchcore.memory.bank import Bank
from patchcore.recipe import Recipe
from patchcore.result import Result
from patchcore.scores import image_score, patch_scores

_BATCH = 8


class Detector:
    """Finds defects in images of parts after seeing good ones.

    `recipe` is a Recipe or the name of one; `backbone` a network of the caller's own, which expects
    ImageNet-normalised images and is changed: `fit` gives it hooks, puts it in evaluation mode and
    switches its gradients off. `device` is `auto` or a torch device. `threads`: how many to use; as
    many as torch has been told to if it is None. `predict` is thread-safe.
    `engine` is what runs the network in `predict`, `torch` or `openvino` (on the CPU; needs
    `patchcore[openvino]`); `precision` is `fp32` or `bf16`, with scores off by 1e-2 or so.
    """

    def __init__(
        self,
        recipe: Recipe | str | None = None,
        *,
        backbone: nn.Module | None = None,
        device: str = "auto",
        threads: int | None = None,
        engine: str = "torch",
        precision: str = "fp32",
    ) -> None:
        recipe = Recipe.named(recipe) if isinstance(recipe, str) else recipe or Recipe()
        self.recipe = recipe.replace(**({} if backbone is None else {"backbone": "module"}))
        self.device = choose_device(device)
        if threads is not None and threads < 1:
            raise UsageError(f"threads is {threads}; it must be at least 1.")
        self.threads = threads
        engines.check(engine, precision, self.device)
        self.engine, self.precision = engine, precision
        self.bank: Bank | None = None
        self.calibration: Calibration | None = None
        self.fingerprint = ""  # SHA-256 over the pixels of the training images, in order
        self.network = backbone
        self.embedder: Embedder | None = None

    def __repr__(self) -> str:
        state = "not fitted" if self.bank is None else f"{len(self.bank.rows)} bank rows"
        return f"Detector(backbone={self.recipe.networks!r}, device='{self.device}', {state})"

    def __getstate__(self) -> NoReturn:
        raise UsageError("A Detector cannot be pickled or copied. Use save(path), and Detector.load(path) over there.")

    def fit(
        self,
        images: Any,
        *,
        calibration: Any = None,
        limit: int | None = None,
        memory: int | str | None = None,
        progress: bool = False,
        on_bad: OnBad | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Detector:
        """Learn what good parts look like, and set the thresholds. Returns the detector itself.

        `images`: a folder, a dataset root, a CSV table, a list of paths, arrays (N, H, W, C),
        tensors (N, C, H, W), a DataLoader or a generator. `calibration`: good images to set the
        thresholds with; without it, `recipe.calibration_share` of the images is kept out of the
        bank for that. `limit`: use at most so many images, drawn from the seed. `memory`: bytes, or
        a text such as "2GB", that fitting may take beside the model; what does not fit goes to a
        temporary file, and the result is the same. An image that cannot be read raises ImageError,
        unless `on_bad` takes the error. A second call forgets the first. The network runs in torch,
        fp32, whatever `engine` and `precision` are, so that neither bank nor thresholds depend on them.
        Errors: DataError, BackboneError, UsageError.
        """
        embedder = ensemble.embedder_for(self.recipe, self.network, self.embedder, self.device)
        found = datasets.limited(datasets.samples(images), limit, self.recipe.seed)
        options = {"on_bad": on_bad, "max_pixels": max_pixels, **self._workers()}
        good = None if calibration is None else datasets.samples(calibration)
        fitted = ensemble.learn if self.recipe.members else learn
        learned = fitted(embedder, found, good, spill_limit(memory), progress, options)
        # Only now: a fit that is interrupted leaves the detector as it was.
        self.bank, self.calibration, self.fingerprint = learned
        self.embedder = self._on_engine(embedder)
        return self

    def _workers(self) -> dict[str, Any]:
        """On a CPU every image goes to a thread of its own; on another device, to a batch."""
        threads = self.threads or torch.get_num_threads()
        return {"batch_size": 1 if self.device.type == "cpu" else _BATCH, "threads": threads}

    def _on_engine(self, embedder: Embedder) -> Embedder:
        if (self.engine, self.precision) != ("torch", "fp32"):  # which it has already
            for one in ensemble.members_of(embedder):
                one.engine = engines.engine(one.backbone, self.engine, self.precision, self.device, self.threads)
        return embedder

    def predict(
        self,
        images: Any,
        *,
        batch_size: int | None = None,
        progress: bool = False,
        on_bad: OnBad | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Any:
        """One image -> Result. Several -> a list of them; a generator -> a generator of them.

        Takes what `fit` takes; a folder means the images directly in it. `batch_size` is chosen
        for the device; the images of a generator are never waited for: one is asked for when the
        one before is done. An image that cannot be read raises ImageError, unless `on_bad` takes
        the error and the others go on (one image then gives None). Errors: NotFittedError, ImageError.
        """
        many = isinstance(images, Sized | str | Path)
        results = self.stream(images, batch_size=batch_size, progress=progress, on_bad=on_bad, max_pixels=max_pixels)
        if datasets.is_one(images):
            return next(results, None)
        return list(results) if many else results

    def stream(
        self,
        images: Any,
        *,
        batch_size: int | None = None,
        progress: bool = False,
        on_bad: OnBad | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Iterator[Result]:
        """The results for several images, in order, as soon as they are there; otherwise as `predict`."""
        if self.embedder is None or self.bank is None or self.calibration is None:
            raise NotFittedError("This detector has no memory bank. Call fit, or use Detector.load(path).")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; it must be at least 1.")
        if isinstance(images, str | Path) and Path(images).is_dir():
            images = datasets.images_in(Path(images))
        found, options = datasets.samples(images), self._workers()
        if not isinstance(found, list) or len(found) == 1:  # nothing to read ahead: all threads for one image
            options = {"batch_size": 1, "threads": 0, "alone": self.threads}
        if batch_size:
            options["batch_size"] = batch_size
        bar = "Looking at images" if progress else None
        then = partial(self._result, bank=self.bank, calibration=self.calibration, max_pixels=max_pixels)
        return self.embedder.stream(found, then, max_pixels=max_pixels, on_bad=on_bad, progress=bar, **options)

    def _result(self, one: Embedded, bank: Bank, calibration: Calibration, max_pixels: int) -> Result:
        begin = time.perf_counter()
        if isinstance(bank, ensemble.Banks):
            score, scores, rows = ensemble.score(one, bank)
        else:
            scores, rows = patch_scores(self.recipe, bank, one.patches, one.grid)
            score = image_score(self.recipe, bank, one.patches, scores, rows)
        return Result(
            sample=one.loaded.sample,
            score=score,
            threshold=calibration.threshold,
            pixel_threshold=calibration.pixel_threshold,
            patch_scores=scores,
            nearest_rows=rows,
            frame=one.frame,
            map_options=self.recipe.map_options,
            value_range=self.recipe.value_range,
            max_pixels=max_pixels,
            seconds=one.seconds + time.perf_counter() - begin,
        )

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
        threads: int | None = None,
        engine: str = "torch",
        precision: str = "fp32",
        backbone: nn.Module | None = None,
        weights: str | None = None,
        require_signature: str | Path | None = None,
    ) -> Detector:
        """A detector from its file. Nothing in the file is executed.

        `backbone` is needed again where `fit` was given a network of the caller's own; `weights`
        (a path) where it was saved without weights that came from a local file. `engine` and
        `precision` need not be those of the fit. `require_signature`: file of the public key that must
        have signed it. Errors: StoreError (SignatureError), WeightsError, UsageError.
        """
        engines.check(engine, precision, choose_device(device))
        if require_signature is not None:
            signing.check(path, require_signature)
        parts = archive.load(path, device=choose_device(device), network=backbone, weights=weights)
        detector = cls(
            parts.recipe, backbone=backbone, device=device, threads=threads, engine=engine, precision=precision
        )
        detector.embedder, detector.bank = detector._on_engine(parts.embedder), parts.bank
        detector.calibration, detector.fingerprint = parts.calibration, parts.fingerprint
        return detector
