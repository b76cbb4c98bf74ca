"""Train from a configuration: fit, calibrate, measure, save."""

from __future__ import annotations

import inspect
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchcore.errors import MissingExtraError, UsageError, nearest_name
from patchcore.files import appearing, targets
from patchcore.inferencers.models import Config, get_model, get_model_metadata, read_config
from patchcore.lightning import ImageDataModule
from patchcore.lightning.hyperparameters import OF_TOOLS

try:
    from lightning import Trainer, seed_everything
    from omegaconf import OmegaConf
except ImportError:
    raise MissingExtraError("lightning", "lightning", "patchcore.inferencers") from None

log = logging.getLogger(__name__)
SEED = 42  # of the published benchmark

_OURS = {"calibration_share", "category", "image_size", "num_workers", "path", "test_batch_size", "train_batch_size"}
# Names in anomalib v0's files that have no effect: layout and masks are detected, thresholds set by good images.
_THEIRS = {"create_validation_set", "format", "name", "task", "transform_config"}


@dataclass(frozen=True)
class Trained:
    """The result of a training: its folder, and the metrics on test images, if there are labelled ones."""

    folder: Path
    metrics: dict[str, float]

    @property
    def benchmark(self) -> str:
        """One line with the three metrics of the published tables. F1 is at the best threshold for the test set."""
        names = {"image AUROC": "image_AUROC", "pixel AUROC": "pixel_AUROC", "image F1": "image_F1Max"}
        figures = ((title, self.metrics.get(name)) for title, name in names.items())
        return " | ".join(f"{title} {'-' if value is None else f'{value:.3f}'}" for title, value in figures)


def train(config: Config, *, output: str | Path | None = None, seed: int | None = None) -> Trained:
    """Train the model of a configuration on its dataset, and save it.

    The dataset is at `dataset.path`, or at `dataset.category` in it: in the MVTec AD layout, a folder of
    good images, or a CSV table. The share `dataset.calibration_share` (0.2) of the good training images
    is held out of the memory bank to set the thresholds, `min` and `max`. Test images are only measured.

    Writes `weights/model.ckpt`, `meta_data.json` and `config.yaml`, each whole or not at all, to `output`,
    by default `project.path`/`model.name`/dataset's name. `seed`: for all random choices; by default
    `project.seed`, or 42. Errors: DataError, UsageError, BackboneError.
    """
    sections = read_config(config)
    dataset, project = dict(sections.get("dataset") or {}), dict(sections.get("project") or {})
    project["seed"] = seed if seed is not None else project.get("seed", SEED)
    sections = {**sections, "project": project}
    root = _root(dataset)
    arguments = _trainer_arguments(sections.get("trainer") or {})
    if unused := _without_effect(sections):
        log.warning("These names of the configuration have no effect here: %s.", ", ".join(unused))
    if not 0 <= project["seed"] < 2**32:
        raise UsageError(f"The seed is {project['seed']}; it must be between 0 and 2**32 - 1.")
    seed_everything(project["seed"], workers=True, verbose=False)
    data = ImageDataModule(
        root,
        train_batch_size=dataset.get("train_batch_size", 8),
        eval_batch_size=dataset.get("test_batch_size", 8),
        num_workers=dataset.get("num_workers"),
        calibration_share=dataset.get("calibration_share", 0.2),
        seed=project["seed"],
    )
    if not data.calibration:
        raise UsageError(
            "No good image is left to set the thresholds: dataset.calibration_share is "
            f"{dataset.get('calibration_share', 0.2)}, of {len(data.train)} images. Raise it, or give more images."
        )
    name = str((sections.get("model") or {}).get("name", "patchcore"))
    folder = Path(output) if output is not None else Path(project.get("path", "results")) / name / root.resolve().name
    targets.folder(folder, ["weights/model.ckpt", "meta_data.json", "config.yaml"])
    model = get_model(sections)
    options = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    options["enable_progress_bar"] = sys.stdout.isatty()  # Lightning draws it there
    trainer = Trainer(**{**options, **model.trainer_arguments, **arguments})
    trainer.fit(model, data)
    metrics = dict(trainer.test(model, data, verbose=False)[0]) if data.test else {}
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    with appearing(folder / "weights" / "model.ckpt") as temporary:
        trainer.save_checkpoint(temporary, weights_only=True)
    with appearing(folder / "meta_data.json") as temporary:
        temporary.write_text(json.dumps(get_model_metadata(model), indent=2, allow_nan=False) + "\n", "utf-8")
    with appearing(folder / "config.yaml") as temporary:
        temporary.write_text(OmegaConf.to_yaml(sections), "utf-8")
    return Trained(folder, {key: float(value) for key, value in metrics.items()})


def _root(dataset: Mapping[str, Any]) -> Path:
    """Where the dataset is. Errors: UsageError."""
    known = _OURS | {"tiling"}
    for key in dataset:
        if key not in known | _THEIRS:
            raise UsageError(f"The section dataset has an unknown name {key!r}.{nearest_name(key, known)}")
    if not dataset.get("path"):
        raise UsageError("The configuration names no data: give dataset.path, or --data.")
    root = Path(dataset["path"], dataset.get("category") or "")
    if not root.exists():
        raise UsageError(
            f"There is no dataset at {root}. Expected the MVTec AD layout, {root / 'train' / 'good'}, {root / 'test'} "
            "and so on, or a folder of good images. Put it there, or give its path: --data PATH, or dataset.path "
            "and dataset.category in the configuration."
        )
    return root


def _trainer_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    known = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    for key in given:
        if key not in known:
            raise UsageError(
                f"The section trainer has {key!r}, which lightning.Trainer does not take.{nearest_name(key, known)}"
            )
    return {key: value for key, value in given.items() if value is not None}  # as v0 left them to Lightning


def _without_effect(sections: Mapping[str, Any]) -> list[str]:
    """What a configuration states and nothing here reads."""
    unused = {"dataset": _THEIRS - {"name"}, "model": OF_TOOLS - {"name"}}
    unused["project"] = set(sections.get("project") or {}) - {"path", "seed"}
    stated = [
        f"{section}.{name}"
        for section, names in unused.items()
        for name in names
        if (sections.get(section) or {}).get(name) is not None
    ]
    return sorted([*stated, *(set(sections) - {*unused, "trainer"})])
