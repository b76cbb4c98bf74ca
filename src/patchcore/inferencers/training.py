"""Train from a configuration: fit, calibrate, measure, save."""

from __future__ import annotations

import json
import logging
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchcore.errors import MissingExtraError, UsageError
from patchcore.files import appearing, targets
from patchcore.inferencers.configuration import DatasetSection, check_kind, section, trainer_arguments, without_effect
from patchcore.inferencers.models import Config, get_model_metadata, model_of, read_config
from patchcore.lightning import ImageDataModule

try:
    from lightning import Trainer, seed_everything
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from omegaconf import OmegaConf
except ImportError:
    raise MissingExtraError("lightning", "lightning", "patchcore.inferencers") from None

log = logging.getLogger(__name__)
SEED = 42  # of the published benchmark


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
    check_kind(sections)
    project = section(sections, "project")
    project["seed"] = seed if seed is not None else SEED if project.get("seed") is None else project["seed"]
    sections = {**sections, "project": project}
    dataset = DatasetSection.of(section(sections, "dataset"))
    root = dataset.root
    arguments, said = trainer_arguments(section(sections, "trainer"))
    for sentence in [*without_effect(sections), *said]:
        log.warning("%s", sentence)
    if not isinstance(project["seed"], int) or not 0 <= project["seed"] < 2**32:
        raise UsageError(f"The seed is {project['seed']!r}; it must be a number between 0 and 2**32 - 1.")
    seed_everything(project["seed"], workers=True, verbose=False)
    data = ImageDataModule(
        root,
        train_batch_size=dataset.train_batch_size,
        eval_batch_size=dataset.eval_batch_size,
        num_workers=dataset.num_workers,
        calibration_share=dataset.calibration_share,
        seed=project["seed"],
    )
    if not data.calibration:
        raise UsageError(
            "No good image is left to set the thresholds: dataset.calibration_share is "
            f"{dataset.calibration_share}, of {len(data.train)} images. Raise it, or give more images."
        )
    name = str(section(sections, "model").get("name", "patchcore"))
    place = Path(project.get("path") or "results") / name / root.resolve().name
    folder = place if output is None else Path(output)
    targets.folder(folder, ["weights/model.ckpt", "meta_data.json", "config.yaml"])
    model = model_of(sections)
    options = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    options["enable_progress_bar"] = sys.stdout.isatty()  # Lightning draws it there
    trainer = _trainer({**options, **model.trainer_arguments, **arguments})
    trainer.fit(model, data)
    if not all(map(math.isfinite, get_model_metadata(model).values())):
        raise UsageError(
            "No good image was looked at to set the thresholds. Leave out trainer.limit_val_batches, fast_dev_run and "
            "what else keeps Lightning from validating."
        )
    metrics = dict(trainer.test(model, data, verbose=False)[0]) if data.test else {}
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    with appearing(folder / "weights" / "model.ckpt") as temporary:
        trainer.save_checkpoint(temporary, weights_only=True)
    with appearing(folder / "meta_data.json") as temporary:
        temporary.write_text(json.dumps(get_model_metadata(model), indent=2, allow_nan=False) + "\n", "utf-8")
    with appearing(folder / "config.yaml") as temporary:
        temporary.write_text(OmegaConf.to_yaml(sections), "utf-8")
    return Trained(folder, {key: float(value) for key, value in metrics.items()})


def _trainer(arguments: dict[str, Any]) -> Trainer:
    """Errors: UsageError for a value that Lightning does not take."""
    try:
        return Trainer(**arguments)
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise UsageError(f"Lightning does not take the section trainer as it is: {error}") from error
