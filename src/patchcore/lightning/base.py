"""What the Lightning modules share: when the memory bank is built, metrics, and thresholds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms.v2 import Transform

from patchcore.errors import DataError
from patchcore.lightning import configuration, processes
from patchcore.lightning.batches import Batch
from patchcore.maths import metrics
from patchcore.recipe.recipe import Recipe
from patchcore.verdict.calibration import Calibration

if TYPE_CHECKING:  # mixed into Lightning modules; for a type checker they are such modules
    _Module = LightningModule
else:
    _Module = object

# Our metrics, and the names under which they are logged.
LOGGED = {
    "image_auroc": "image_AUROC",
    "image_ap": "image_AP",
    "image_f1_max": "image_F1Max",
    "image_f1": "image_F1Score",
    "pixel_auroc": "pixel_AUROC",
    "pixel_f1_max": "pixel_F1Max",
    "pixel_f1": "pixel_F1Score",
    "aupro_30": "pixel_AUPRO",
}


class LearningType(str, Enum):
    """What a model needs to see before it can find anomalies."""

    ONE_CLASS = "one_class"  # good images
    ZERO_SHOT = "zero_shot"
    FEW_SHOT = "few_shot"


class MemoryBankMixin(_Module):
    """Calls `fit` once all training images have been seen: before the epoch's validation, or at its end.

    A sanity check or a validation within the epoch comes before that, and does not count. The trainer is told to stop
    after one epoch. The buffer `_is_fitted` says whether there is a bank; a second fit replaces it.
    """

    _is_fitted: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("_is_fitted", torch.tensor([False]))
        self._collecting = False  # whether a trainer is giving training images

    @abstractmethod
    def fit(self) -> None:
        """Build the memory bank from what has been seen."""

    def on_train_start(self) -> None:
        self._collecting = True

    def on_validation_start(self) -> None:
        if not self._before_the_bank():
            self._fit_once()

    def on_train_epoch_end(self) -> None:
        self._fit_once()
        self.trainer.should_stop = True

    def on_fit_end(self) -> None:
        if not self._is_fitted:  # Lightning skips a loader that gives nothing
            raise DataError("There are no good images to learn from: the training loader gave none.")

    def _fit_once(self) -> None:
        if self._collecting or not self._is_fitted:
            self.fit()
        self._collecting = False
        self._is_fitted.fill_(True)

    def _before_the_bank(self) -> bool:
        """Whether this is a sanity check, or a validation before the last training batch."""
        trainer = self.trainer
        within = trainer.state.fn == TrainerFn.FITTING and self._collecting and not trainer.is_last_batch
        return trainer.sanity_checking or within


class Looked(NamedTuple):
    """What an evaluation keeps of one image."""

    score: float
    maximum: float  # of its map
    defective: bool | None  # None: unknown
    map: NDArray[np.float32]
    mask: NDArray[np.bool_] | None


class AnomalyModule(LightningModule):
    """A LightningModule around `model`, which computes `anomaly_map` and `pred_score` of a batch of images.

    A batch is a tensor (B, 3, H, W) of normalised images, a tuple that begins with one, or a dict with `image` and, if
    known, `label` (B,), 0 for good, and `mask` (B, H, W). Subclasses implement `training_step`, and `validation_step`,
    which returns the batch with `pred_scores` (B,) and `anomaly_maps` (B, 1, H, W); testing and predicting use it too.

    Validation and testing log the metrics of `LOGGED` that the labels and masks allow; F1Score is at the thresholds,
    F1Max at those that are best for the images themselves. Validation also sets
    `image_threshold` and `pixel_threshold` for the recipe's false-reject rate, from images with label 0 only: do not
    validate on the test set. `map_min` and `map_max` are the extremes of the maps of these images.
    """

    model: nn.Module
    image_threshold: Tensor
    pixel_threshold: Tensor
    map_min: Tensor
    map_max: Tensor
    seed: int  # for choosing the bank
    false_reject_rate: float = Recipe.named("lightning").false_reject_rate

    def __init__(self) -> None:
        super().__init__()
        for name in ("image_threshold", "pixel_threshold", "map_min", "map_max"):
            self.register_buffer(name, torch.tensor(torch.nan))
        self._looked: list[Looked] = []

    @classmethod
    def from_config(cls, config_path: str | Path, **kwargs: Any) -> Self:
        """The model of a configuration file, by `model.class_path` and `model.init_args`.

        `kwargs` replace single arguments: `**{"model.pre_trained": False}`. Errors: FileNotFoundError, UsageError.
        """
        name, arguments = configuration.model_of(config_path, kwargs)
        return configuration.kind_of(cls, name)(**arguments)

    def forward(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """The result of `model` for a batch."""
        return self.model(batch, *args, **kwargs)

    @property
    def name(self) -> str:
        """The name of the model: that of its class."""
        return type(self).__name__

    @property
    @abstractmethod
    def learning_type(self) -> LearningType:
        """What the model needs to see before it can find anomalies."""

    @property
    @abstractmethod
    def trainer_arguments(self) -> dict[str, Any]:
        """Arguments for the Trainer."""

    def configure_transforms(self, image_size: tuple[int, int] | None = None) -> Transform:
        """The transform from images (3, H, W) in [0, 1] to the network's input."""
        raise NotImplementedError(f"{self.name} has no transform of its own; give one to the data.")

    @abstractmethod
    def validation_step(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """The batch with scores and maps."""

    def test_step(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """As `validation_step`."""
        return self.validation_step(batch, *args, **kwargs)

    def predict_step(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """As `validation_step`."""
        return self.validation_step(batch, *args, **kwargs)

    def with_predictions(self, batch: dict[str, Any], output: Mapping[str, Tensor]) -> dict[str, Any]:
        """The batch with the model's scores and maps, and with verdicts if there are thresholds."""
        scores, maps = output["pred_score"], output["anomaly_map"]
        found = Batch(batch, pred_scores=scores, anomaly_maps=maps)
        if not self.image_threshold.isnan():
            found["pred_labels"] = scores > self.image_threshold
            found["pred_masks"] = maps > self.pixel_threshold
        return found

    def on_validation_epoch_start(self) -> None:
        self._looked = []

    def on_test_epoch_start(self) -> None:
        self._looked = []

    def on_validation_batch_end(self, outputs: Any, *args: Any, **kwargs: Any) -> None:
        self._looked += looked_at(outputs)

    def on_test_batch_end(self, outputs: Any, *args: Any, **kwargs: Any) -> None:
        self._looked += looked_at(outputs)

    def on_validation_epoch_end(self) -> None:
        looked = self._everything(self.trainer.val_dataloaders)
        good = [one for one in looked if one.defective is False]
        if good:
            rate = self.false_reject_rate
            calibration = Calibration.fit([g.score for g in good], [g.maximum for g in good], rate)
            self.image_threshold.fill_(calibration.threshold)
            self.pixel_threshold.fill_(calibration.pixel_threshold)
            self.map_min.fill_(min(float(g.map.min()) for g in good))
            self.map_max.fill_(max(g.maximum for g in good))
        self._log(looked)

    def on_test_epoch_end(self) -> None:
        self._log(self._everything(self.trainer.test_dataloaders))

    def _everything(self, loader: Any) -> list[Looked]:
        """The results of all processes, in the order of a single process."""
        looked, self._looked = self._looked, []
        return processes.merged(looked, processes.places(loader, len(looked)))

    def _at_thresholds(self, looked: list[Looked]) -> dict[str, float]:
        """F1 scores of the verdicts, as far as there are thresholds and defects."""
        if self.image_threshold.isnan():
            return {}
        limit, pixel_limit = float(self.image_threshold), float(self.pixel_threshold)
        known = [one for one in looked if one.defective is not None]
        found = {"image_f1": f1((one.score > limit, bool(one.defective)) for one in known)}
        if masked(known):
            found["pixel_f1"] = f1((one.map > pixel_limit, False if one.mask is None else one.mask) for one in known)
        return {name: value for name, value in found.items() if value is not None}

    def _log(self, looked: list[Looked]) -> None:
        found = {**measured(looked), **self._at_thresholds(looked)}
        self.log_dict({LOGGED[name]: value for name, value in found.items() if name in LOGGED}, sync_dist=True)


def looked_at(outputs: Any) -> Iterable[Looked]:
    """What an evaluation keeps of a step's result; nothing if there is no result."""
    if not outputs:
        return
    maps = outputs["anomaly_maps"].detach().float().cpu().numpy()[:, 0]
    scores, labels, masks = outputs["pred_scores"].tolist(), outputs.get("label"), outputs.get("mask")
    for i, (score, values) in enumerate(zip(scores, maps, strict=True)):
        mask = None if masks is None else masks[i].squeeze().cpu().numpy().astype(bool)
        defective = None if labels is None else bool(labels[i])
        yield Looked(score, float(values.max()), defective, values, mask)


def measured(looked: list[Looked]) -> dict[str, float]:
    """The metrics over labelled images, as far as they are defined."""
    known = [one for one in looked if one.defective is not None]
    if not known:
        return {}
    found = metrics.image_metrics([one.score for one in known], [bool(one.defective) for one in known])
    if masked(known):
        curve = metrics.pixel_curve((one.map for one in known), (one.mask for one in known))
        found |= metrics.pixel_metrics(curve)
    return {name: value for name, value in found.items() if value is not None}


def masked(known: list[Looked]) -> bool:
    """Whether every defective image has a mask, and there is one at all."""
    return any(one.mask is not None for one in known) and all(
        one.mask is not None or not one.defective for one in known
    )


def f1(verdicts: Iterable[tuple[Any, Any]]) -> float | None:
    """The F1 score of verdicts against the truth, of images or of their pixels; None where nothing is defective."""
    hits = marked = 0
    defective = False
    for found, true in verdicts:
        hits += int(np.sum(np.logical_and(found, true)))
        marked += int(np.sum(found)) + int(np.sum(true))
        defective = defective or bool(np.any(true))
    return 2 * hits / marked if defective else None
