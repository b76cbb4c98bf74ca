"""Models: versions as files that never change, and the detectors that are made of them."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from patchcore.changes.history import restated
from patchcore.detector import Detector
from patchcore.errors import PatchcoreError, StoreError
from patchcore.files.text import finite
from patchcore.model.fitted import Fitted
from patchcore.station.errors import coded
from patchcore.station.settings import Settings
from patchcore.station.store.database import Database
from patchcore.station.store.files import Files
from patchcore.station.store.tables import Model

_READY = 4  # detectors in memory: of a line, its shadow, and two that are looked at


class Models:
    """The versions of all models, and a few of them ready to predict. Thread-safe.

    Each detector computes on one core: on a busy machine threads that share an image wait for each other longer than
    one takes alone. Several images at a time use the other cores (`Reading.threads`).
    """

    def __init__(self, settings: Settings, database: Database, files: Files) -> None:
        self._settings, self._database, self._files = settings, database, files
        self._ready: OrderedDict[str, Detector] = OrderedDict()
        self._lock = Lock()

    def add(
        self,
        session: Session,
        content: bytes,
        *,
        name: str,
        how: str,
        who: str,
        why: str = "",
        parent: Model | None = None,
        detector: Detector | None = None,
    ) -> Model:
        """A new version of a model, from the bytes of its file, which is written before it is named.

        Args:
            session: The transaction in which it is named.
            content: The model file.
            name: Of the product; the next number of its versions is taken.
            how: What made it: fit, teach, undo, set, recalibrate or import.
            who, why: As they are shown later.
            parent: The version it was made from.
            detector: What the file holds, where it is known; otherwise it is loaded, which checks it.

        Raises:
            StoreError: It is not a model, or cannot be written.
        """
        sha = hashlib.sha256(content).hexdigest()
        detector = detector or self._loaded_bytes(content)
        file = f"models/{sha}.patchcore"
        if not self._files.exists(file):
            self._files.write(file, content)
        latest = session.scalar(select(func.max(Model.version)).where(Model.name == name))
        model = Model(
            name=name, version=(latest or 0) + 1, sha256=sha, file=file, parent_id=parent.id if parent else None,
            how=how, who=who, why=why, summary=summary(detector.fitted),
        )  # fmt: skip
        session.add(model)
        session.flush()
        self._keep(sha, detector)
        return model

    def detector(self, model: Model) -> Detector:
        """A detector of a version, ready to predict. Errors: StoreError if its file is gone or has changed."""
        with self._lock:
            if (found := self._ready.get(model.sha256)) is not None:
                self._ready.move_to_end(model.sha256)
                return found
        content = self._files.read(model.file)
        if hashlib.sha256(content).hexdigest() != model.sha256:
            text = f"{model.file}: the file is not the one that was stored. Take it from a backup."
            raise coded(StoreError(text), "model_changed", file=model.file)
        detector = self._loaded_bytes(content)
        self._keep(model.sha256, detector)
        return detector

    def content(self, model: Model) -> bytes:
        """The file of a version. Errors: StoreError."""
        return self._files.read(model.file)

    def taught(self, model: Model, images: list[bytes], *, who: str, why: str) -> tuple[bytes, Detector]:
        """The file of a version that knows these good images too, and its detector."""
        return self._written(self.detector(model).teach([io.BytesIO(one) for one in images], who=who, why=why))

    def at_rate(
        self, model: Model, rate: float, confidence: float | None, unsure: float | None, *, who: str, why: str
    ) -> tuple[bytes, Detector]:
        """The file of a version with another false-reject rate, and its detector. Errors: UsageError."""
        fitted = self.detector(model).fitted
        calibration = fitted.calibration.at_rate(rate, confidence).with_unsure(unsure)
        return self._written(self._of(restated(fitted, "false-reject rate", calibration, who=who, why=why)))

    def _of(self, fitted: Fitted) -> Detector:
        return Detector.of(fitted, engine=self._settings.engine, threads=1)

    def _written(self, detector: Detector) -> tuple[bytes, Detector]:
        with tempfile.TemporaryDirectory(dir=self._settings.data) as folder:
            detector.save(path := Path(folder) / "model.patchcore")
            return path.read_bytes(), detector

    def _loaded_bytes(self, content: bytes) -> Detector:
        with tempfile.TemporaryDirectory(dir=self._settings.data) as folder:
            (path := Path(folder) / "model.patchcore").write_bytes(content)
            try:
                return Detector.load(path, engine=self._settings.engine, threads=1)
            except PatchcoreError as error:
                text = str(error).replace(str(path), "the model")
                raise coded(StoreError(text), "no_model_file", why=text) from error

    def _keep(self, sha: str, detector: Detector) -> None:
        with self._lock:
            self._ready[sha] = detector
            self._ready.move_to_end(sha)
            while len(self._ready) > _READY:
                self._ready.popitem(last=False)


def summary(fitted: Fitted) -> dict[str, Any]:
    """What a list of models says of a version."""
    calibration = fitted.calibration
    low, high = calibration.interval()
    return dict[str, Any](
        finite(
            {
                "backbone": fitted.recipe.networks,
                "size": fitted.recipe.each[0].size,
                "images": len(fitted.images),
                "rows": fitted.rows,
                "threshold": calibration.threshold,
                "lower_threshold": calibration.lower_threshold,
                "unsure": calibration.unsure,
                "interval": [low, high],
                "false_reject_rate": calibration.false_reject_rate,
                "confidence": calibration.confidence,
                "good_images": len(calibration.scores),
                "enough": calibration.enough,
                "crossed": calibration.crossed,
                "says": calibration.summary(),
                "versions": 1 + len(fitted.history),
            }
        )
    )
