"""Detector: fit on good images, predict on new ones. Read this first.

fit:      images -> taps -> embedding -> patches -> coreset -> bank -> thresholds
predict:  images -> taps -> embedding -> nearest bank rows -> patch scores -> image score, map
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NoReturn, overload

import torch
from torch import nn

from patchcore.backbones import engines, registry
from patchcore.data.formats import Depth
from patchcore.data.images import ImageLike
from patchcore.data.reading import Colour, Reading
from patchcore.data.resolve import Images, limited, resolve
from patchcore.data.sample import Dataset, Sample
from patchcore.errors import NotFittedError, UsageError
from patchcore.memory.patches import spill_limit
from patchcore.model import file
from patchcore.model.fitted import Fitted
from patchcore.pipeline.decide import decided
from patchcore.pipeline.embed import Embedder, backbones_for, check_by
from patchcore.pipeline.learn import learn
from patchcore.pipeline.place import Placer, placed
from patchcore.pipeline.score import rehearse, score
from patchcore.pipeline.surroundings import undisturbed
from patchcore.pipeline.workers import Loaded, through
from patchcore.recipe.recipe import Recipe
from patchcore.result import Result

log = logging.getLogger(__name__)
_BATCH = 8  # images in one pass on a device; on a CPU every thread takes one of its own


class Detector:
    """Finds defects in images of parts after seeing good ones. `predict` is thread-safe.

    Args:
        recipe: A Recipe, or the name of one.
        backbone: A network of your own that expects ImageNet-normalised images. `fit` changes it: it adds hooks,
            puts it in evaluation mode and switches its gradients off.
        device: `auto` or a torch device.
        threads: Threads to use; None: as many as torch uses.
        engine: `torch`; on a CPU also `openvino` (`patchcore[openvino]`), or `auto`: that, where it agrees with torch.
        precision: `fp32`, or `bf16`, which moves scores by about 1e-2 (torch: if the processor has units for it).

    Attributes:
        recipe: Every choice that defines the detector.
        fitted: What `fit` has learned, or `load` has read. Errors: NotFittedError.

    >>> detector = Detector("fast").fit("tests/images/hazelnut/train/good")
    >>> detector.predict("tests/images/hazelnut/test/colour/00.jpg").decision
    'fail'
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
        self.recipe = Recipe.of(recipe) if backbone is None else Recipe.of(recipe).replace(backbone="module")
        self.device = engines.choose_device(device)
        self.threads = Reading(threads=threads).threads
        engines.check(engine, precision, self.device)
        self.engine, self.precision = engine, precision
        self._network = registry.given_network(backbone)
        self._hinted = False  # that images in uint16 use few bits: said once
        self._exchanged = False  # whether it was said that red and blue are
        self._ready: tuple[Fitted, list[Embedder]] | None = None  # changes as a whole: others may be predicting

    @classmethod
    @undisturbed()
    def of(
        cls,
        fitted: Fitted,
        *,
        device: str = "auto",
        threads: int | None = None,
        engine: str = "torch",
        precision: str = "fp32",
    ) -> Detector:
        """A detector from what another fit has learned; its tensors must be on `device`. Arguments as for Detector."""
        return cls(fitted.recipe, device=device, threads=threads, engine=engine, precision=precision)._with(fitted)

    def __repr__(self) -> str:
        state = f"{self.fitted.rows} bank rows" if self._ready else "not fitted"
        return f"Detector(backbone={self.recipe.networks!r}, device='{self.device}', {state})"

    def __getstate__(self) -> NoReturn:
        raise UsageError("A Detector cannot be pickled or copied. Use save(path), and Detector.load(path) over there.")

    @property
    def fitted(self) -> Fitted:
        """What `fit` has learned, or `load` has read. Errors: NotFittedError."""
        return self._learned()[0]

    @property
    def embedders(self) -> list[Embedder]:
        """What turns images into the patches of each member. Errors: NotFittedError."""
        return self._learned()[1]

    def _learned(self) -> tuple[Fitted, list[Embedder]]:
        if self._ready is None:
            raise NotFittedError("This detector has no memory bank. Call fit, or use Detector.load(path).")
        return self._ready

    def fit(
        self,
        images: Images,
        *,
        calibration: Images | None = None,
        limit: int | None = None,
        memory: int | str | None = None,
        thumbnails: bool | None = None,
        reading: Reading | None = None,
        progress: bool = False,
    ) -> Detector:
        """Learn what good parts look like, and set the thresholds. A second call forgets the first.

        The network runs in torch, fp32, whatever the engine is, so that neither bank nor thresholds depend on it.

        Args:
            images: A folder, dataset or CSV table (its good training images), a list of paths, arrays (N, H, W, C),
                tensors (N, C, H, W), a DataLoader or a generator.
            calibration: Good images to set the thresholds with. None: those that `recipe.calibration` names.
            limit: Use at most so many images, at random from the recipe's seed.
            memory: Bytes, or a text such as "2GB", that fitting may take beside the model. What does not fit goes to
                a temporary file; the result is the same.
            thumbnails: Keep a small copy of each training image, for evidence. None: if all are below 2 MB.
            reading: How images are read.
            progress: Show progress bars.

        Returns:
            The detector itself.

        Raises:
            ImageError: An image cannot be used, unless `reading.on_bad` takes the error.
            DataError, BackboneError, UsageError
        """
        before, reading, held = self._ready[1] if self._ready else [], self._reading(reading), spill_limit(memory)
        with undisturbed():
            backbones = backbones_for(self.recipe, [one.backbone for one in before], self._network)
        samples = limited(resolve(images, learning=True).samples, limit, self.recipe.seed)
        recipe, place, samples = placed(self.recipe, samples, reading)
        recipe, measured, samples, told = decided(recipe, backbones, self.device, samples, reading, progress, place)
        with undisturbed():
            backbones = backbones_for(recipe, backbones, self._network)
            embedders = [Embedder(one, own, self.device) for one, own in zip(recipe.each, backbones, strict=True)]
        fitted = learn(
            recipe,
            embedders,
            samples,
            None if calibration is None else resolve(calibration, learning=True).samples,
            memory=held,
            reading=reading,
            progress=progress,
            measured=measured,
            told=told,
            thumbnails=thumbnails,
            place=place,
        )
        self._exchanged = False
        with undisturbed():
            return self._with(fitted, embedders)  # only now: a fit that is interrupted leaves the detector as it was

    # For a type checker a path or an array is one image; where it holds several, `stream` has their type too.
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: ImageLike, *, reading: Reading | None = ..., progress: bool = ...
    ) -> Result: ...
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: Iterator[object], *, reading: Reading | None = ..., progress: bool = ...
    ) -> Iterator[Result]: ...
    @overload
    def predict(
        self, images: Dataset | Iterable[object], *, reading: Reading | None = ..., progress: bool = ...
    ) -> list[Result]: ...
    def predict(
        self, images: Images, *, reading: Reading | None = None, progress: bool = False
    ) -> Result | list[Result] | Iterator[Result]:
        """One image -> Result. Several -> a list of them; a generator -> a generator of them.

        Takes what `fit` takes. A path to a folder, dataset or table stands for all images in it, sub-folders and test
        images included. The images of a generator are never waited for: one is asked for when the one before is done.
        The score of an image alone and in a list may differ in the last bit (docs/decisions/0006).

        Raises:
            ImageError: An image cannot be used. One of several is left out if `reading.on_bad` takes the error.
            NotFittedError, DataError, UsageError
        """
        given = resolve(images)
        reading = Reading.of(reading)
        if given.single:
            return next(self._stream(given.samples, replace(reading, on_bad=None), progress))
        results = self._stream(given.samples, reading, progress)
        return results if isinstance(images, Iterator) else list(results)

    def stream(self, images: Images, *, reading: Reading | None = None, progress: bool = False) -> Iterator[Result]:
        """The results for several images, in order, as soon as they are there; otherwise as `predict`."""
        return self._stream(resolve(images).samples, Reading.of(reading), progress)

    def _stream(self, samples: Iterable[Sample], reading: Reading, progress: bool) -> Iterator[Result]:
        fitted, embedders = self._learned()
        recipe, gate = fitted.members[0].recipe, fitted.gate
        place = Placer.of(recipe, fitted.reference)

        def look(batch: Sequence[Loaded]) -> list[Result]:
            """Decoded images -> patches of each member -> scores."""
            seen = place(batch)
            each = zip(*(embedder(seen) for embedder in embedders), strict=True)
            results = []
            for loaded, patches in zip(batch, each, strict=True):
                self._check_colours(fitted, loaded, reading.colour)
                begin = time.perf_counter()
                value, scored = score(fitted.members, patches, fitted.units)
                seconds = sum(own.seconds for own in patches) + time.perf_counter() - begin
                foreign = None if gate is None else gate.share(patches[0].values)
                results.append(Result.of(fitted, loaded, patches[0].frame, value, scored, reading, seconds, foreign))
            return results

        depth = Depth()
        check = check_by(embedders, depth, reading.max_pixels)
        ahead = isinstance(samples, list) and len(samples) > 1  # else all threads work on one image
        options, value_range, title = self._reading(reading), recipe.value_range, "Looking at images" * progress or None
        results = through(look, samples, options, value_range, check=check, damaged=True, ahead=ahead, progress=title)
        return self._hinting(results, depth)

    def _hinting(self, results: Iterator[Result], depth: Depth) -> Iterator[Result]:
        """The same; once they are there, what their images in uint16 have in common is said, once."""
        try:
            yield from results
        finally:
            if not self._hinted and (hint := depth.hint()):
                self._hinted = True
                log.warning(hint)

    def _check_colours(self, fitted: Fitted, loaded: Loaded, colour: Colour) -> None:
        """Say once where arrays have other channels than they were said to have: every verdict is wrong then."""
        array = not isinstance(loaded.sample.image, str | bytes | Path) or fitted.images[:1] == ("#0",)
        if array and not self._exchanged and fitted.exchanged(loaded.red_blue):
            self._exchanged = True
            log.warning(
                "%s: it has the colours of the good images only with red and blue exchanged. Arrays were taken as %s; "
                "those that OpenCV has read are B, G, R: say so, in fit and predict, with Reading(colour='bgr').",
                loaded.sample.name, colour,
            )  # fmt: skip

    @undisturbed()
    def save(self, path: str | Path, *, weights: bool = True) -> str:
        """Write one file with all that `load` needs, whole or not at all; returns its SHA-256.

        `weights=False` leaves the backbone's weights out: the file then names them by their hash,
        and they must be found again when it is loaded. Errors: NotFittedError, StoreError.
        """
        return file.save(self.fitted, path, weights=weights)

    @classmethod
    @undisturbed()
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

        Args:
            path: The file.
            device, threads, engine, precision: As for Detector; they need not be those of the fit.
            backbone: The network, where `fit` was given one of your own.
            weights: Local weights file, where the model was saved without weights that came from one.
            require_signature: File of the public key that must have signed the model.

        Raises:
            StoreError (SignatureError), WeightsError, UsageError
        """
        place = engines.choose_device(device)
        engines.check(engine, precision, place)  # before the work
        fitted = file.load(path, device=place, network=backbone, weights=weights, key=require_signature)
        if backbone is None:
            with file.of_file(path):
                rehearse(fitted.members, [Embedder(m.recipe, m.backbone, place) for m in fitted.members])
        return cls.of(fitted, device=device, threads=threads, engine=engine, precision=precision)

    def teach(
        self, images: Images, *, who: str = "", why: str = "", rows: int | None = None, reading: Reading | None = None
    ) -> Detector:
        """A detector that knows these good images too, without a fit. See `changes.teaching.taught`."""
        taught = import_module("patchcore.changes.teaching").taught
        return self._next(taught(self, images, who=who, why=why, rows=rows, reading=reading))

    def recalibrate(self, images: Images, *, who: str = "", why: str = "", reading: Reading | None = None) -> Detector:
        """A detector with thresholds that new good images set. See `changes.recalibrating.recalibrated`."""
        ways = import_module("patchcore.changes.recalibrating")
        return self._next(ways.recalibrated(self, images, who=who, why=why, reading=reading))

    def forget(self, image: str, *, who: str = "", why: str = "") -> Detector:
        """A detector without the rows of a training image. See `changes.teaching.forgotten`."""
        return self._next(import_module("patchcore.changes.teaching").forgotten(self, image, who=who, why=why))

    def undo(self, to: int | None = None, *, who: str = "", why: str = "") -> Detector:
        """The detector as it was at an earlier version; before its last change if `to` is None."""
        return self._next(import_module("patchcore.changes.history").undone(self.fitted, to, who=who, why=why))

    def _next(self, fitted: Fitted) -> Detector:
        place, engine, precision = str(self.device), self.engine, self.precision
        return Detector.of(fitted, device=place, threads=self.threads, engine=engine, precision=precision)

    def _reading(self, reading: Reading | None) -> Reading:
        """Options with threads and batch as they suit this detector."""
        reading = Reading.of(reading)
        return replace(
            reading,
            threads=reading.threads or self.threads or torch.get_num_threads(),
            batch=reading.batch or (1 if self.device.type == "cpu" else _BATCH),
        )

    def _with(self, fitted: Fitted, plain: Sequence[Embedder] = ()) -> Detector:
        """From now on, predict by what was learned; `plain` are its embedders in torch and fp32, if they are there."""
        if not plain or (self.engine, self.precision) != ("torch", "fp32"):
            made = partial(Embedder, engine=self.engine, precision=self.precision, threads=self.threads)
            plain = [made(m.recipe, m.backbone, self.device) for m in fitted.members]
        self._ready = fitted, list(plain)
        return self
