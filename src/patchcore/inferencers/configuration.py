"""A configuration of anomalib v0: what its sections say here, and what of it has no effect.

Nothing that a configuration states is passed over in silence: it is honoured, or an error, or named in a warning that
says what happens instead. A value that asks for what happens anyway, such as `logger: false`, is honoured.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from patchcore.errors import UsageError, nearest_name, validated

_THEIRS: Any = Field(None, exclude=True)


class DatasetSection(BaseModel):
    """The section `dataset`. What frames the images is the model's: image_size, center_crop, normalization, tiling."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="a dict of them")

    path: str | None = None
    category: str | None = None
    train_batch_size: int = Field(8, ge=1)
    eval_batch_size: int = Field(8, ge=1, description="Of all images but those for training; also: test_batch_size.")
    num_workers: int | None = Field(None, ge=0)
    calibration_share: float = 0.2
    image_size: Any = _THEIRS
    center_crop: Any = _THEIRS
    normalization: Any = _THEIRS
    tiling: Any = _THEIRS
    test_split_mode: Literal["from_dir"] = Field("from_dir", description="Test images are those of the dataset.")
    transform_config: None = Field(
        None,
        description="Leave it out: transforms of albumentations are not read. Images are resized to image_size; in "
        "Python, ImageDataModule(transform=) takes a transform of torchvision.",
    )
    create_validation_set: Any = _THEIRS
    format: Any = _THEIRS
    label_format: Any = _THEIRS
    name: Any = _THEIRS
    task: Any = _THEIRS
    test_split_ratio: Any = _THEIRS
    url: Any = _THEIRS
    val_split_mode: Any = _THEIRS
    val_split_ratio: Any = _THEIRS

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> DatasetSection:
        """Errors: UsageError for an unknown name, or a value of the wrong kind."""
        stated = {
            name: value
            for name, value in given.items()
            if not (value is None or (isinstance(value, Mapping) and _idle(value)))
        }
        folder = sorted(_FOLDER & set(given))
        if folder:
            raise UsageError(
                f"Section dataset: {folder[0]!r} describes a folder of one's own kind, which is not read so. Give "
                "dataset.path: a folder of good images, the MVTec AD layout, or a CSV table with the columns path, "
                "label and mask (docs/datasets.md)."
            )
        if "test_batch_size" in stated:
            stated.setdefault("eval_batch_size", stated["test_batch_size"])
        stated.pop("test_batch_size", None)
        return validated(cls, stated, "Section dataset")

    @property
    def root(self) -> Path:
        """Where the dataset is. Errors: UsageError."""
        if not self.path:
            raise UsageError("The configuration names no data: give dataset.path, or --data.")
        root = Path(self.path, self.category or "")
        if not root.exists():
            raise UsageError(
                f"There is no dataset at {root}. Expected the MVTec AD layout, {root / 'train' / 'good'}, "
                f"{root / 'test'} and so on, or a folder of good images. Put it there, or give its path: --data PATH, "
                "or dataset.path and dataset.category in the configuration."
            )
        return root


# How anomalib v0 describes what it calls the format `folder`.
_FOLDER = {"abnormal", "abnormal_dir", "extensions", "mask", "mask_dir", "normal", "normal_dir", "normal_test_dir",
           "root", "split_ratio"}  # fmt: skip

# What happens in place of some names, and the values that ask for no more than that; `...`: there are none.
_WITHOUT_EFFECT: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "layout, labels and masks are found in the files at dataset.path",
        dict.fromkeys((f"dataset.{name}" for name in ("format", "label_format", "name", "task", "url")), ...),
    ),
    (
        "thresholds come from good training images held out of the bank, whose share is dataset.calibration_share; "
        "test images are only measured",
        {
            "dataset.create_validation_set": ...,
            "dataset.test_split_ratio": ...,
            "dataset.val_split_mode": ...,
            "dataset.val_split_ratio": ...,
            "metrics.threshold": ...,
            "model.threshold": ...,
        },
    ),
    (
        "image AUROC, pixel AUROC and image F1 are measured, whatever is asked for",
        {"metrics.image": ..., "metrics.pixel": ..., "model.metric": ...},
    ),
    (
        "scores are normalised by the inferencer, 0.5 at the threshold; its forward() gives raw ones",
        {"model.normalization_method": "min_max", "model.normalize_scores": True},
    ),
    (
        "training draws no images; tools/inference.py does",
        {"logging.log_images_to": None, "project.log_images_to": None, "visualization": None},
    ),
    (
        "nothing is logged: tools/train.py prints the figures, and train() returns them",
        {"logging": None, "project.logger": None, "project.save_to_csv": None},
    ),
    (
        "weights/model.ckpt is written, and nothing is exported",
        {"model.weight_file": "weights/model.ckpt", "optimization": None},
    ),
    ("there is one epoch", {"model.early_stopping": None}),
)
_READ = {"project": {"path", "seed"}}  # of sections that may have further names
_CHECKED = {"dataset", "model", "trainer"}  # in others every name is one of the above or unknown

# Arguments of Lightning 1, with the values that are no more than what Lightning 2 does here.
_LIGHTNING_1: dict[str, tuple[Any, ...]] = {
    "amp_backend": ("native",),
    "amp_level": ("O2",),  # of the other backend
    "auto_lr_find": (False,),
    "auto_scale_batch_size": (False,),
    "auto_select_gpus": (False,),
    "distributed_backend": (),
    "flush_logs_every_n_steps": (100,),
    "ipus": (),
    "log_gpu_memory": (),
    "move_metrics_to_cpu": (False,),
    "multiple_trainloader_mode": ("max_size_cycle",),
    "num_processes": (1,),
    "prepare_data_per_node": (True,),
    "process_position": (0,),
    "resume_from_checkpoint": (),
    "stochastic_weight_avg": (False,),
    "terminate_on_nan": (False,),
    "tpu_cores": (),
    "track_grad_norm": (-1,),
    "truncated_bptt_steps": (),
    "weights_save_path": (),
}


def section(sections: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A section of a configuration; empty without one. Errors: UsageError."""
    found = sections.get(name)
    if found is not None and not isinstance(found, Mapping):
        raise UsageError(f"The section {name} is {found!r:.100}; expected names with values, such as {name}: {{...}}.")
    return dict(found or {})


def check_kind(sections: Mapping[str, Any]) -> None:
    """Errors: UsageError for a configuration of another program of anomalib's."""
    model = sections.get("model")
    if "data" in sections or (isinstance(model, Mapping) and "class_path" in model):
        raise UsageError(
            "This is a configuration of anomalib's command line (`data`, `class_path`, `init_args`). Expected one of "
            "its tools/train.py, with the sections dataset, model, project and trainer: write data's init_args as "
            "dataset (root is dataset.path), and the model's as model."
        )


def without_effect(sections: Mapping[str, Any]) -> list[str]:
    """A sentence for each reason why some of what a configuration states has no effect here."""
    named: dict[str, list[str]] = {}
    for name, value in _unread(sections):
        reason, enough = _instead(name)
        if not (_idle(value) if enough is None else value == enough):
            named.setdefault(reason, []).append(name)
    return [
        f"{', '.join(names)} {'have' if len(names) > 1 else 'has'} no effect: {reason}."
        for reason, names in named.items()
    ]


def _unread(sections: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The dotted names, and the values, of what a configuration states and nothing reads."""
    known = {name for _, names in _WITHOUT_EFFECT for name in names}
    for title, content in sections.items():
        if content is not None and not isinstance(content, Mapping):
            yield title, content
            continue
        for key, value in (content or {}).items():
            name = f"{title}.{key}"
            stated = value is not None or name == "model.normalization_method"  # whose null is a choice
            if stated and key not in _READ.get(title, ()) and (title not in _CHECKED or name in known):
                yield name, value


def _instead(name: str) -> tuple[str, Any]:
    """What happens in place of a name, and the value that asks for no more; None: any that asks for nothing."""
    for reason, names in _WITHOUT_EFFECT:
        for known, enough in names.items():
            if known in (name, name.partition(".")[0]):
                return reason, enough
    return "nothing reads it", ...


def _idle(value: Any) -> bool:
    """Whether a value is null, false, an empty list, or has no more than these inside."""
    return (
        value is None
        or value is False
        or value == []
        or (isinstance(value, Mapping) and all(map(_idle, value.values())))
    )


def trainer_arguments(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Arguments for Lightning's Trainer from a section `trainer`, and sentences about what has no effect.

    Names and values of Lightning 1 get those of Lightning 2; a name without a value is Lightning's default.
    Errors: UsageError for an unknown name.
    """
    from lightning import Trainer

    stated = {name: value for name, value in given.items() if value is not None}
    known = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    for name in set(stated) - known - set(_RENAMED) - set(_LIGHTNING_1):
        raise UsageError(
            f"The section trainer has {name!r}, which lightning.Trainer does not take.{nearest_name(name, known)}"
        )
    arguments = {name: value for name, value in stated.items() if name in known - set(_RENAMED)}
    for name, renamed in _RENAMED.items():
        if name in stated:
            arguments = {**renamed(stated[name]), **arguments}
    said = []
    old = [name for name, enough in _LIGHTNING_1.items() if name in stated and stated[name] not in enough]
    if old:
        said.append(
            f"{', '.join(f'trainer.{name}' for name in old)}: Lightning 2 has no such argument. It has accelerator, "
            "devices, strategy and precision."
        )
    if arguments.pop("enable_checkpointing", True) is False:
        said.append("trainer.enable_checkpointing has no effect: weights/model.ckpt is always written.")
    return arguments, said


def _gpus(value: Any) -> dict[str, Any]:
    """Lightning 1's `gpus`; anomalib v0 takes the processor where there is no GPU."""
    if value in (0, "0", [], "") or not torch.cuda.is_available():
        return {"accelerator": "cpu" if value in (0, "0", [], "") else "auto", "devices": 1}
    return {"accelerator": "gpu", "devices": value}


def _accelerator(value: Any) -> dict[str, Any]:
    """Lightning 1 took strategies for accelerators too."""
    return {"strategy": value} if str(value).startswith(("ddp", "dp")) else {"accelerator": value}


_RENAMED: dict[str, Any] = {
    "accelerator": _accelerator,
    "checkpoint_callback": lambda value: {"enable_checkpointing": value},
    "gpus": _gpus,
    "progress_bar_refresh_rate": lambda value: {"enable_progress_bar": value != 0},
    "reload_dataloaders_every_epoch": lambda value: {"reload_dataloaders_every_n_epochs": int(value)},
    "replace_sampler_ddp": lambda value: {"use_distributed_sampler": value},
    "weights_summary": lambda value: {"enable_model_summary": True},
}
