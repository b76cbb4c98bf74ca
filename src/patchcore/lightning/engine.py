"""Engine: anomalib's name for what runs a model, over Lightning's Trainer."""

from __future__ import annotations

import contextlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import Transform

from patchcore.arguments import known_arguments
from patchcore.errors import UsageError, nearest_name
from patchcore.lightning import configuration
from patchcore.lightning.base import AnomalyModule
from patchcore.lightning.batches import Batch
from patchcore.lightning.data.module import ImageDataModule
from patchcore.lightning.data.predict import PredictDataset
from patchcore.lightning.data.utils import TaskType
from patchcore.lightning.deploy.export import CompressionType, ExportType
from patchcore.maths.span import normalise_by_range

_Path = str | Path
_METRICS = {"image": ("AUROC", "AP", "F1Max", "F1Score"), "pixel": ("AUROC", "AUPRO", "F1Max", "F1Score")}
_TRAINER = [name for name in inspect.signature(Trainer.__init__).parameters if name != "self"]


class Engine:
    """Fits, tests and runs a model by a Lightning Trainer, which has the model's `trainer_arguments`.

    A fit writes its checkpoint to `default_root_dir/Patchcore/DATASET/CATEGORY/vN/weights/lightning/model.ckpt`, and
    `latest` beside `vN` is a link to the last one. Further arguments are those of the Trainer. Errors: UsageError.

    Args:
        callbacks, logger, default_root_dir: As for the Trainer; without a logger nothing is logged.
        normalization: `min_max`: scores and maps of `predict` are scaled so that 0.5 is the threshold, and a score is
            not clipped; `none`: they are distances.
        threshold: Only the default, which is the model's own from held-out good images.
        task: `classification` leaves out what is measured in pixels.
        image_metrics, pixel_metrics: Names of the metrics that `test` returns, without `image_` or `pixel_`; None: all.
    """

    def __init__(
        self,
        callbacks: list[Callback] | None = None,
        normalization: str | None = "min_max",
        threshold: str | Mapping[str, Any] | None = None,
        task: TaskType | str = TaskType.SEGMENTATION,
        image_metrics: Sequence[str] | str | None = None,
        pixel_metrics: Sequence[str] | str | None = None,
        logger: Logger | Iterable[Logger] | bool | None = None,
        default_root_dir: _Path = "results",
        **trainer_arguments: Any,
    ) -> None:
        for name in trainer_arguments:
            if name not in _TRAINER:
                known = [*list(inspect.signature(Engine).parameters)[:-1], *_TRAINER]
                raise UsageError(
                    f"Engine has no argument {name!r}.{nearest_name(name, known)} It takes: {', '.join(known)}."
                )
        normalization = str(getattr(normalization, "value", normalization)).lower()
        if normalization not in ("min_max", "none"):
            raise UsageError(f"normalization is {normalization!r}; it must be min_max or none.")
        if threshold is not None:
            warnings.warn(
                f"threshold={threshold!r} has no effect: thresholds come from held-out good images. Set "
                "model.false_reject_rate, or model.image_threshold and model.pixel_threshold.",
                stacklevel=2,
            )
        self.normalization, self.task = normalization, TaskType.of("task", task)
        self._metrics = _chosen("image", image_metrics)
        if self.task is not TaskType.CLASSIFICATION:
            self._metrics |= _chosen("pixel", pixel_metrics)
        elif pixel_metrics:
            warnings.warn("pixel_metrics have no effect: the task is classification.", stacklevel=2)
        self._callbacks = list(callbacks or [])
        self._root = Path("results" if default_root_dir is None else default_root_dir)
        self._arguments = {**trainer_arguments, "logger": False if logger is None else logger}
        self._trainer: Trainer | None = None
        self._data: LightningDataModule | None = None  # of the last fit

    @classmethod
    def from_config(cls, config_path: _Path, **kwargs: Any) -> tuple[Engine, AnomalyModule, ImageDataModule]:
        """The engine, model and data of a configuration file of `anomalib train`.

        `kwargs` replace single values: `**{"data.train_batch_size": 8, "task": "classification"}`. A number as
        `seed_everything` is also the model's seed. Errors: FileNotFoundError, UsageError.
        """
        whole = configuration.all_of(config_path, kwargs)
        if whole.seed is not None:
            seed_everything(whole.seed, workers=True, verbose=False)
        engine = cls(**whole.engine)
        model = configuration.kind_of(AnomalyModule, whole.model[0])(**whole.model[1])  # type: ignore[type-abstract]
        if whole.seed is not None:
            model.seed = whole.seed
        data = configuration.kind_of(ImageDataModule, whole.data[0], "data")(**whole.data[1])
        return engine, model, data

    @property
    def trainer(self) -> Trainer:
        """Lightning's Trainer. Errors: UsageError before anything has been run."""
        if self._trainer is None:
            raise UsageError("There is no trainer yet; it is made by fit, train, test, validate or predict.")
        return self._trainer

    @property
    def model(self) -> AnomalyModule:
        """The model of the last run. Errors: UsageError before there is one."""
        if self._trainer is None or not isinstance(self._trainer.lightning_module, AnomalyModule):
            raise UsageError("There is no model yet; give one as model=.")
        return self._trainer.lightning_module

    @property
    def checkpoint_callback(self) -> ModelCheckpoint | None:
        """What writes the checkpoints, if anything does."""
        found = None if self._trainer is None else self._trainer.checkpoint_callback
        return found if isinstance(found, ModelCheckpoint) else None

    @property
    def best_model_path(self) -> str | None:
        """The checkpoint of the last fit; None before it, an empty text if there is none."""
        return None if self.checkpoint_callback is None else self.checkpoint_callback.best_model_path

    def fit(
        self,
        model: AnomalyModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: _Path | None = None,
    ) -> None:
        """Build the memory bank, and set the thresholds; a second fit replaces the first."""
        folder = _next_version(self._workspace(model, datamodule))
        self._trainer, self._data = self._made_trainer(model, folder), datamodule
        self._trainer.fit(model, train_dataloaders, val_dataloaders, datamodule, _file(ckpt_path), weights_only=True)

    def validate(
        self,
        model: AnomalyModule | None = None,
        dataloaders: Any = None,
        ckpt_path: _Path | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
    ) -> list[dict[str, float]]:
        """Set the thresholds from the images that are labelled good. Returns one dict of metrics for each loader."""
        return self._figures(Trainer.validate, model, dataloaders, ckpt_path, verbose, datamodule)

    def test(
        self,
        model: AnomalyModule | None = None,
        dataloaders: Any = None,
        ckpt_path: _Path | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
    ) -> list[dict[str, float]]:
        """Measure on labelled images. Returns one dict for each loader, such as `{"image_AUROC": 1.0}`."""
        return self._figures(Trainer.test, model, dataloaders, ckpt_path, verbose, datamodule)

    def _figures(
        self,
        run: Callable[..., Any],
        model: AnomalyModule | None,
        dataloaders: Any,
        ckpt_path: _Path | None,
        verbose: bool,
        datamodule: LightningDataModule | None,
    ) -> list[dict[str, float]]:
        known = model or self.model
        trainer = self._trainer_of(known, datamodule)
        found = run(trainer, known, dataloaders, _file(ckpt_path), verbose, datamodule, weights_only=True)
        return [self._measured(one) for one in found]

    def train(
        self,
        model: AnomalyModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        test_dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: _Path | None = None,
    ) -> list[dict[str, float]]:
        """As `fit`, then `test`."""
        self.fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path)
        return self.test(model, test_dataloaders, ckpt_path, datamodule=datamodule)

    def predict(
        self,
        model: AnomalyModule | None = None,
        dataloaders: DataLoader[Any] | list[DataLoader[Any]] | None = None,
        datamodule: LightningDataModule | None = None,
        dataset: Dataset[Any] | None = None,
        return_predictions: bool | None = None,
        ckpt_path: _Path | None = None,
        data_path: _Path | None = None,
    ) -> list[Any] | None:
        """Scores, maps and verdicts: a `Batch` for each batch, in a list for each loader if there are several.

        Give loaders, a data module, a dataset or `data_path`, an image or a folder of them. Images from the last two
        come one by one. A `PredictDataset` without transform and size has those of this engine's last fit.
        `return_predictions=False` returns None.
        """
        known = model or self.model
        several = dataloaders if isinstance(dataloaders, list | tuple) else [dataloaders]
        loaders = [one for one in several if one is not None]
        for one in (dataset, None if data_path is None else PredictDataset(data_path)):
            if one is not None:
                loaders.append(DataLoader(one, collate_fn=getattr(one, "collate_fn", None)))
        if not loaders and datamodule is None:
            raise UsageError("There is nothing to predict. Give dataloaders, datamodule, dataset or data_path.")
        for loader in loaders:
            if isinstance(own := loader.dataset, PredictDataset) and own.transform is None:
                own.transform = self._transform(known, own.image_size)
        trainer = self._trainer_of(known, datamodule)
        found = trainer.predict(
            known, loaders or None, datamodule, return_predictions, _file(ckpt_path), weights_only=True
        )
        if return_predictions is False or found is None:
            return None
        if self.normalization == "min_max" and self.model.image_threshold.isnan():
            warnings.warn(
                "No threshold has been set, so scores are distances, and there are no verdicts. Fit with good images "
                "held out, or validate on some.",
                stacklevel=2,
            )
        return [[self._batch(b) for b in one] if isinstance(one, list) else self._batch(one) for one in found]

    @known_arguments
    def export(
        self,
        model: AnomalyModule,
        export_type: ExportType | str,
        export_root: _Path | None = None,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        compression_type: CompressionType | str | None = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: _Path | None = None,
    ) -> Path:
        """Write a fitted model by its `to_onnx`, `to_openvino` or `to_torch`, and return the path of its file.

        `export_root`: the folder to write to; None: that of the last fit, or `default_root_dir`. The graph has the
        transform of this engine's last fit or, of a checkpoint, the model's own.
        """
        kind = ExportType(export_type)
        if ckpt_path:
            model = type(model).load_from_checkpoint(ckpt_path)
        if export_root is None:
            export_root = self._root if self._trainer is None else self._trainer.default_root_dir
        options: dict[str, Any] = {"input_size": input_size, "datamodule": datamodule}
        if self._data is not None and not ckpt_path:
            options["transform"] = self._transform(model, None)
        if compression_type is not None:
            options["compression_type"] = CompressionType(compression_type).value
        given = {name: value for name, value in options.items() if value is not None}
        write = getattr(model, f"to_{kind.value}")
        takes = inspect.signature(write).parameters
        if left := [name for name in given if name not in takes]:
            raise UsageError(f"{left[0]} has no effect on an export to {kind.value}; leave it out.")
        return Path(write(export_root=export_root, model_file_name=model_file_name, **given))

    def _trainer_of(self, model: AnomalyModule, datamodule: LightningDataModule | None) -> Trainer:
        if self._trainer is None:
            self._trainer = self._made_trainer(model, self._workspace(model, datamodule) / "latest")
        return self._trainer

    def _made_trainer(self, model: AnomalyModule, folder: Path) -> Trainer:
        wanted = model.trainer_arguments
        for name in wanted.keys() & self._arguments.keys():
            if self._arguments[name] not in (None, wanted[name]):
                warnings.warn(
                    f"{name}={self._arguments[name]!r} has no effect: {type(model).__name__} needs {wanted[name]!r}.",
                    stacklevel=3,
                )
        arguments = {**self._arguments, **wanted}
        callbacks = list(self._callbacks)
        saves = arguments.get("enable_checkpointing") is not False and not arguments.get("barebones")
        if saves and not any(isinstance(one, ModelCheckpoint) for one in callbacks):
            callbacks.append(ModelCheckpoint(folder / "weights" / "lightning", "model", auto_insert_metric_name=False))
        return Trainer(**arguments, callbacks=callbacks, default_root_dir=folder)

    def _workspace(self, model: AnomalyModule, data: LightningDataModule | None) -> Path:
        """Where the versions of a model and its dataset are."""
        return self._root / type(model).__name__ / str(getattr(data, "name", "")) / str(getattr(data, "category", ""))

    def _transform(self, model: AnomalyModule, size: tuple[int, int] | None) -> Transform:
        """The transform of images without one: of the size that was asked for, or else as in the last fit."""
        if size is None and isinstance(self._data, ImageDataModule) and self._data.trainer is not None:
            return self._data.transform_of(training=False) or model.configure_transforms()
        return model.configure_transforms(size)

    def _measured(self, found: Mapping[str, float]) -> dict[str, float]:
        return {name: value for name, value in found.items() if name in self._metrics}

    def _batch(self, found: dict[str, Any]) -> Batch:
        batch, model = Batch(found), self.model
        if self.normalization == "min_max" and not model.image_threshold.isnan():
            low, high = float(model.map_min), float(model.map_max)
            for key, threshold in {"pred_scores": model.image_threshold, "anomaly_maps": model.pixel_threshold}.items():
                batch[key] = normalise_by_range(batch[key], float(threshold), low, high)
        return batch


def _chosen(of: str, names: Sequence[str] | str | None) -> set[str]:
    """Which results of `test` were asked for. Errors: UsageError."""
    known = _METRICS[of]
    wanted = known if names is None else [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"{of}_metrics has {name!r}.{nearest_name(name, known)} It takes names from {', '.join(known)}."
            )
    return {f"{of}_{name}" for name in wanted}


def _file(path: _Path | None) -> str | None:
    return str(path) if path else None


def _next_version(folder: Path) -> Path:
    """A new folder `vN` for a fit, with a link `latest` to it where the system has links; one for all processes."""
    if getattr(rank_zero_only, "rank", 0):
        return (folder / "latest").resolve()
    numbers = [int(one.name[1:]) for one in folder.glob("v*") if re.fullmatch(r"v\d+", one.name)]
    version = folder / f"v{max(numbers, default=-1) + 1}"
    version.mkdir(parents=True)
    latest = folder / "latest"
    with contextlib.suppress(OSError):
        latest.unlink(missing_ok=True)
        latest.symlink_to(version.name, target_is_directory=True)
    return version
