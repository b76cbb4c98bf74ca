"""Patchcore: PatchCore as a LightningModule."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, Resize, Transform

from patchcore.arguments import known_arguments
from patchcore.errors import NotFittedError, UsageError
from patchcore.lightning import processes
from patchcore.lightning.base import AnomalyModule, LearningType, MemoryBankMixin
from patchcore.lightning.batches import as_batch
from patchcore.lightning.exporting import ExportMixin
from patchcore.lightning.pre_processing import PreProcessor, given, kept, usual
from patchcore.lightning.sampling import check_ratio
from patchcore.lightning.torch_model import RECIPE, PatchcoreModel, about_to_load
from patchcore.memory.patches import PatchStore, spill_limit


class Patchcore(MemoryBankMixin, ExportMixin, AnomalyModule):  # type: ignore[misc] # to_onnx is theirs
    """PatchCore for a stock `lightning.Trainer`. One epoch over good images builds the memory bank.

    Training keeps patches in half precision. What exceeds `memory` (bytes, or a text such as "2GB"; by
    default half of the machine's memory) goes to a temporary file; the bank stays the same.

    Args:
        backbone, layers, pre_trained, num_neighbors: As for `PatchcoreModel`.
        coreset_sampling_ratio: Share of all patches that the bank keeps, at least one.
        pre_processor: A `PreProcessor`, whose transform is then the model's; True: `configure_transforms`.
        precision, post_processor, evaluator, visualizer: Version 2's; only what happens anyway, and others are an error
            or, where nothing depends on them, a warning.
    """

    memory: int | str | None = None
    seed: int = RECIPE.seed  # for choosing the bank
    _transform: PreProcessor | None = None

    @known_arguments
    def __init__(
        self,
        backbone: str = "wide_resnet50_2",
        layers: Sequence[str | int] = ("layer2", "layer3"),
        pre_trained: bool | str = True,
        coreset_sampling_ratio: float = 0.1,
        num_neighbors: int = 9,
        precision: str = "float32",
        pre_processor: Any = True,
        post_processor: Any = True,
        evaluator: Any = True,
        visualizer: Any = False,
    ) -> None:
        super().__init__()
        layers = (layers,) if isinstance(layers, str) else tuple(layers)
        self.save_hyperparameters(ignore=["precision", "pre_processor", "post_processor", "evaluator", "visualizer"])
        _check_version_2(precision, post_processor, evaluator, visualizer)
        own = given(pre_processor)
        self._transform = None if own is None else PreProcessor(own)
        self._prepare(PatchcoreModel(layers, backbone, pre_trained, num_neighbors), coreset_sampling_ratio)

    def _prepare(self, model: PatchcoreModel, coreset_sampling_ratio: float) -> None:
        check_ratio("coreset_sampling_ratio", coreset_sampling_ratio)
        self.coreset_sampling_ratio = coreset_sampling_ratio
        self.model: PatchcoreModel = model
        # Lightning and its strategies for several devices need a parameter to train.
        self.anchor = nn.Parameter(torch.zeros(()))
        self._seen: PatchStore | None = None

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """What torch need not send to other processes before each step: all but the anchor, as nothing changes."""
        return [name for name, _ in (*self.named_parameters(), *self.named_buffers()) if name != "anchor"]

    @property
    def learning_type(self) -> LearningType:
        """One class: it needs only good images."""
        return LearningType.ONE_CLASS

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Suitable arguments for the Trainer, such as one epoch. Other settings work too."""
        return {"gradient_clip_val": 0, "max_epochs": 1, "num_sanity_val_steps": 0}

    def configure_optimizers(self) -> None:
        """None: nothing is trained."""
        # Otherwise Lightning warns about that.
        warnings.filterwarnings("ignore", "`LightningModule.configure_optimizers` returned `None`")

    def configure_transforms(self, image_size: tuple[int, int] | None = None) -> Transform:
        """The transform from images (3, H, W) in [0, 1] to the network's input.

        It resizes to `image_size` (height, width), by default 256 x 256, crops the central 7/8 of each side,
        224 x 224, and normalises with the mean and standard deviation that the weights were trained with. A model with
        a `PreProcessor` has its transform instead, after a resize if `image_size` is given.
        """
        if self._transform is not None:
            own = self._transform.transform
            return own if image_size is None else Compose([Resize(tuple(image_size), antialias=True), own])
        assert isinstance(RECIPE.size, int)
        height, width = image_size or (RECIPE.size, RECIPE.size)
        share = RECIPE.window[0] / RECIPE.size
        source = self.model.source
        return Compose(
            [
                Resize((height, width), antialias=True),
                CenterCrop((int(height * share), int(width * share))),
                Normalize(list(source.mean), list(source.std)),
            ]
        )

    @property
    def pre_processor(self) -> PreProcessor:
        """The model's transform, as version 2 has it."""
        return PreProcessor(self.configure_transforms())

    @staticmethod
    def configure_pre_processor(
        image_size: tuple[int, int] | None = None, center_crop_size: tuple[int, int] | None = None
    ) -> PreProcessor:
        """Version 2's transform, for `pre_processor`: a resize to `image_size` (height, width), by default 256 x 256, a
        crop of the centre if one is asked for, and ImageNet's mean and deviation, whatever the network.
        """
        return usual(image_size, center_crop_size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the transform of a `PreProcessor` among the hyperparameters."""
        if self._transform is not None:
            known = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = {**known, "pre_processor": kept(self._transform.transform)}

    def on_train_start(self) -> None:
        super().on_train_start()
        self._seen = None

    def on_validation_start(self) -> None:
        if self._collecting and self.trainer.state.fn != TrainerFn.FITTING:  # left over from a fit that was interrupted
            self._collecting, self._seen = False, None
        super().on_validation_start()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx and self._collecting and self._seen is None:
            raise UsageError(
                f"The fit resumes at batch {batch_idx} of an epoch, but the checkpoint does not contain the patches of "
                "earlier batches. Fit from the beginning: trainer.fit(model, data), without ckpt_path."
            )

    def training_step(self, batch: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Keep the patches of a batch. Returns them, `embedding` (B*h*w, D), and a `loss` of 0."""
        embedding = self._patches_by_image(as_batch(batch)["image"])
        return {"loss": self.anchor * 0, "embedding": embedding}

    @torch.no_grad()
    def _patches_by_image(self, images: Tensor) -> Tensor:
        embedding = self.model.embed(images)
        grid = (embedding.shape[2], embedding.shape[3])
        patches = self.model.reshape_embedding(embedding)
        further = self._trainer is not None and self._trainer.training and not self._collecting
        if not further:  # epochs after the first add nothing
            if self._seen is None:
                self._seen = PatchStore(spill_limit(self.memory))
            for one in patches.split(grid[0] * grid[1]):
                self._seen.append((one, grid))
        return patches

    def fit(self) -> None:
        """Choose the memory bank from the patches of all processes since the last fit; without any, keep the bank.

        Errors: NotFittedError if there are neither patches nor a bank.
        """
        seen, device = self._seen or PatchStore(), self.device
        if processes.several():
            where = processes.places(self.trainer.train_dataloader if self._trainer else None, len(seen.grids))
            gathered = PatchStore(spill_limit(self.memory))
            processes.gather(seen, gathered, where, device)
            seen = gathered

        def bank() -> Tensor:
            if seen.grids:
                self._subsample(seen)
            elif not self._is_fitted:
                raise NotFittedError(
                    "No training images have been seen. Fit with a Trainer, or call training_step for each batch first."
                )
            return self.model.memory_bank.to(device)

        with torch.inference_mode(False), torch.no_grad():  # the bank outlives a validation in which it is built
            self.model.memory_bank = processes.from_the_first(bank, device)
        self._seen = None
        self._is_fitted.fill_(True)

    def _subsample(self, seen: PatchStore) -> None:
        """Let the model choose its memory bank from what has been seen."""
        model = self.model
        rows = seen.gather(list(range(len(seen.grids))))
        if not seen.spilled and self.device.type != "mps":  # float64 settles what is close, and MPS has none
            rows = rows.to(self.device)
        if getattr(model.subsample_embedding, "__func__", None) is not PatchcoreModel.subsample_embedding:
            rows = rows.float()
        usual, model.sampler = model.sampler, partial(model.sampler, seed=self.seed, empty=seen.empty)
        try:
            model.subsample_embedding(rows, self.coreset_sampling_ratio)
        finally:
            model.sampler = usual

    def validation_step(self, batch: Any, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """The batch with `pred_scores` (B,) and `anomaly_maps` (B, 1, H, W) and, if there are thresholds,
        `pred_labels` (B,) and `pred_masks` (B, 1, H, W). None before there is a bank.
        """
        if not self._is_fitted and self._trainer is not None and self._before_the_bank():
            return None
        known = as_batch(batch)
        return self.with_predictions(known, self(known["image"]))

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> Self:
        """As Lightning's. All weights come from the checkpoint, so no pretrained weights are fetched."""
        with about_to_load():
            return super().load_from_checkpoint(*args, **{"weights_only": True, **kwargs})


def _check_version_2(precision: Any, post_processor: Any, evaluator: Any, visualizer: Any) -> None:
    """Errors: UsageError for what would change scores."""
    if str(getattr(precision, "value", precision)) != "float32":
        raise UsageError(
            f"precision is {precision!r}; a model computes in float32, and keeps patches in half precision anyway. The "
            "Trainer's own precision, Engine(precision='bf16-mixed'), is for the network."
        )
    if post_processor not in (True, None):
        raise UsageError(
            "post_processor is not supported: thresholds come from held-out good images (false_reject_rate). "
            "Engine(normalization='none') gives distances."
        )
    if evaluator not in (True, None):
        warnings.warn(
            "evaluator has no effect: Engine(image_metrics=, pixel_metrics=) chooses what is measured.", stacklevel=4
        )
    if visualizer not in (False, None):
        warnings.warn(
            "visualizer has no effect: testing and predicting draw nothing. ImageVisualizer of "
            "patchcore.lightning.utils.visualization draws what an inferencer returns, patchcore.Result.overlay more.",
            stacklevel=4,
        )
