"""The interface of anomalib v0's PatchCore (`anomalib.models.patchcore.model`), on this package's engine.

    from lightning import Trainer
    from patchcore.lightning.v0 import PatchcoreLightning
    model = PatchcoreLightning({"layers": ["layer2", "layer3"], "input_size": (224, 224)})
    Trainer(**model.trainer_arguments).fit(model, ImageDataModule("parts"))

Version 1 is in `patchcore.lightning`. In v0, images are not cropped, layers are aligned to the nearest cell, the score
is a softmax over nine neighbours instead of eq. 7, results are tuples, and large images can be read in tiles.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, Resize, Transform

from patchcore.arguments import known_arguments
from patchcore.backbones import taps_of
from patchcore.errors import UsageError, nearest_name
from patchcore.lightning.buffers import DynamicBufferMixin
from patchcore.lightning.hyperparameters import plain, settings_of, sides
from patchcore.lightning.lightning_model import Patchcore
from patchcore.lightning.torch_model import RECIPE, about_to_load
from patchcore.lightning.torch_model import PatchcoreModel as PatchcoreModelV1
from patchcore.maths.embedding import embed
from patchcore.maths.resize import Frame
from patchcore.maths.softmax_score import softmax_score
from patchcore.maths.tiling import Tiling
from patchcore.pipeline.score import anomaly_map

__all__ = ["AnomalyMapGenerator", "DynamicBufferModule", "PatchcoreLightning", "PatchcoreModel"]

Scores = Tensor | NDArray[Any]
META_DATA = ("image_threshold", "pixel_threshold", "min", "max")


class DynamicBufferModule(DynamicBufferMixin):
    """A module whose own buffers take the shape of what is loaded into them."""


class AnomalyMapGenerator:
    """Computes maps and image scores from the distances of patches to their nearest bank rows.

    `input_size`: (height, width) of the maps, as a tuple or an OmegaConf list; `sigma`: width of the
    Gaussian that smooths them, in pixels.
    """

    @known_arguments
    def __init__(self, input_size: Sequence[int], sigma: float = 4) -> None:
        self.input_size = sides("input_size", input_size)
        self.sigma = sigma
        self._frame = Frame(self.input_size, self.input_size, self.input_size)
        self._recipe = RECIPE.replace(sigma=float(sigma))

    def compute_anomaly_map(self, patch_scores: Scores, feature_map_shape: Sequence[int]) -> Tensor:
        """Distances (B*h*w, k), nearest first -> smoothed maps (B, 1, height, width) of the nearest one.

        `feature_map_shape`: (width, height) of the grid of patches, which are ordered row by row. Each
        cell's value is repeated over its pixels.
        """
        values, (width, height) = self._by_image(patch_scores, feature_map_shape)
        return anomaly_map(self._recipe, values[..., 0].unflatten(1, (1, height, width)), self._frame)

    @staticmethod
    def compute_anomaly_score(patch_scores: Scores) -> Tensor:
        """The image score () from the distances (N, k) of one image's patches; (B,) from (B, N, k).

        It is the highest patch score, times one minus the largest softmax over that patch's k distances.
        """
        values = as_float(patch_scores)
        if values.ndim < 2:
            raise UsageError(
                f"patch_scores has shape {tuple(values.shape)}; expected (patches, neighbours), distances of each "
                "patch to its nearest bank rows."
            )
        return softmax_score(values)

    def __call__(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """`patch_scores=` (B*h*w, k) and `feature_map_shape=` (width, height) -> maps (B, 1, H, W), scores (B,).

        Scores are those of `compute_anomaly_score`, one per image. Errors: UsageError (a ValueError)
        for a keyword that is missing or unknown.
        """
        known = ("patch_scores", "feature_map_shape")
        for name in kwargs:
            if name not in known:
                raise UsageError(
                    f"AnomalyMapGenerator takes no {name!r}.{nearest_name(name, known)} It takes: {', '.join(known)}."
                )
        for name in known:
            if name not in kwargs:
                raise UsageError(f"Expected the keyword {name!r}; got {', '.join(kwargs) or 'none'}.")
        values, _ = self._by_image(kwargs["patch_scores"], kwargs["feature_map_shape"])
        return self.compute_anomaly_map(**kwargs), self.compute_anomaly_score(values)

    def _by_image(self, patch_scores: Scores, feature_map_shape: Sequence[int]) -> tuple[Tensor, tuple[int, int]]:
        """Distances (B, h*w, k), and (width, height)."""
        values, (width, height) = as_float(patch_scores), (int(side) for side in feature_map_shape)
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2 or not len(values) or len(values) % (width * height):
            raise UsageError(
                f"patch_scores has shape {tuple(values.shape)}; expected (patches, neighbours) with a multiple of "
                f"{width} * {height} patches, as feature_map_shape says."
            )
        if (width - height) * (self.input_size[1] - self.input_size[0]) < 0:
            warnings.warn(
                f"feature_map_shape {width, height} is (width, height), but images are of (height, width) "
                f"{self.input_size}. Is it the other way round?",
                stacklevel=4,
            )
        return values.unflatten(0, (-1, width * height)), (width, height)


class PatchcoreModel(DynamicBufferModule, PatchcoreModelV1):
    """Takes normalised images (B, 3, H, W). Gives their patches in training, otherwise the tuple (maps, scores).

    With `apply_tiling`, the network reads one tile at a time, and the features are joined before patches
    are made. Tiles are saved with the model. Errors: BackboneError, WeightsError, UsageError.

    Args:
        layers: Taps; the first gives the grid.
        input_size: Height and width of the images and of their maps.
        backbone: As in version 1, but a name without a tag means torchvision's first weights, if timm has them.
        apply_tiling: Whether images are read in tiles.
        tile_size: Side, or height and width, of a tile.
        tile_stride: Step from one tile to the next; None: the size of a tile.
        pre_trained: As in version 1.
        num_neighbors: Neighbours in the softmax of the score; with 1 every score is 0, which is warned of.
    """

    tiles: Tensor

    @known_arguments
    def __init__(
        self,
        layers: Sequence[str | int],
        input_size: Sequence[int],
        backbone: str = "wide_resnet50_2",
        apply_tiling: bool = False,
        tile_size: int | Sequence[int] | None = None,
        tile_stride: int | Sequence[int] | None = None,
        *,
        pre_trained: bool | str = True,
        num_neighbors: int = 9,
    ) -> None:
        size = sides("input_size", input_size)
        if num_neighbors == 1:
            warnings.warn(
                "num_neighbors is 1: by anomalib v0's formula, one minus a softmax over one distance, every image "
                "score is 0. Take 2 or more; 9 is usual.",
                stacklevel=2,
            )
        tiles = _tiles(size, tile_size, tile_stride) if apply_tiling else torch.zeros(2, 2, dtype=torch.long)
        super().__init__(layers, first_weights(backbone), pre_trained, num_neighbors)
        self.backbone, self.input_size = backbone, size
        del self.anomaly_map_generator  # version 1 has a module here
        self.anomaly_map_generator = AnomalyMapGenerator(size)  # type: ignore[assignment]
        self.register_buffer("tiles", tiles)  # size and stride; zeros without tiles
        self._check_cells()

    @property
    def apply_tiling(self) -> bool:
        """Whether images are read in tiles."""
        return bool(self.tiles.any())

    @property
    def tile_size(self) -> tuple[int, int] | None:
        """(height, width) of a tile, in pixels; None without tiles."""
        return (int(self.tiles[0, 0]), int(self.tiles[0, 1])) if self.apply_tiling else None

    @property
    def tile_stride(self) -> tuple[int, int] | None:
        """The step from one tile to the next, (down, right), in pixels; None without tiles."""
        return (int(self.tiles[1, 0]), int(self.tiles[1, 1])) if self.apply_tiling else None

    def taps(self, images: Tensor) -> list[Tensor]:
        """The layers' features, each (B, C, h, w), read tile by tile with `apply_tiling`."""
        size, stride = self.tile_size, self.tile_stride
        return taps_of(self.network, images, None if size is None or stride is None else (size, stride))

    @torch.no_grad()
    def forward(self, input_tensor: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # type: ignore[override]
        """In training, the patches (B*h*w, D); otherwise maps (B, 1, *input_size) and scores (B,)."""
        embedding = self.embed(input_tensor)
        patches = self.reshape_embedding(embedding)
        if self.training:
            return patches
        distances = self.nearest_neighbors(patches, self.num_neighbors)
        height, width = embedding.shape[-2:]
        return self.anomaly_map_generator(patch_scores=distances, feature_map_shape=(width, height))

    def generate_embedding(self, features: Mapping[str, Tensor]) -> Tensor:
        """Pooled features of each layer, (B, C, h, w) -> (B, D, h, w), each cell of a deeper layer repeated."""
        taps = [features[str(layer)] for layer in self.layers]
        return embed(taps, pool="mean", merge="concat", align_mode="nearest", patch_size=1)

    def nearest_neighbors(self, embedding: Tensor, n_neighbors: int = 9) -> Tensor:  # type: ignore[override]
        """Patches (N, D) -> Euclidean distances (N, n_neighbors) to the nearest bank rows, nearest first.

        Exact, also near 0. A bank with fewer rows than that gives all of them.
        """
        distances, _ = super().nearest_neighbors(embedding, n_neighbors)
        return distances.reshape(len(embedding), -1)

    def _check_cells(self) -> None:
        extractor: Any = self.feature_extractor
        if self.tile_size and self.tile_stride:
            for cell in extractor.strides:
                Tiling(self.input_size, self.tile_size, self.tile_stride).in_cells(cell)

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and other processes, because the hooks that read the layers belong to this network."""
        arguments = (self.layers, self.input_size, self.backbone, self.num_neighbors)
        return _restored, (type(self), arguments, self.state_dict(), self.training)


def _restored(
    kind: type[PatchcoreModel], arguments: tuple[Any, ...], state: dict[str, Any], training: bool
) -> PatchcoreModel:
    layers, size, backbone, num_neighbors = arguments
    with about_to_load():
        model = kind(layers, size, backbone, num_neighbors=num_neighbors)
    model.load_state_dict(state)
    return model.to(model.memory_bank.device).train(training)


class PatchcoreLightning(Patchcore):
    """PatchCore for a stock `lightning.Trainer`, from a configuration.

    `hparams`, a dict, Namespace or OmegaConf object, has either the names of `PatchcoreModel`'s arguments and
    `coreset_sampling_ratio`, `seed`; or sections, as anomalib v0's files have them: `model` (`backbone`, `layers`,
    `input_size`, `coreset_sampling_ratio`, `num_neighbors`, `pre_trained`), `dataset` (`image_size`, if the model has
    no `input_size`; `center_crop`; `tiling` with `apply`, `tile_size`, `stride`) and `project` (`seed`). The default
    backbone is a ResNet-18. Other sections are ignored; an unknown name in `model` or `tiling` is an error.

    Thresholds, and the range that normalises scores, come only from validation images labelled good.
    """

    model: PatchcoreModel

    def __init__(self, hparams: Any) -> None:
        super(Patchcore, self).__init__()  # Patchcore's arguments are not ours
        hparams = plain(hparams)
        settings = settings_of(hparams)
        self.save_hyperparameters(hparams)
        ratio, self.seed = settings.pop("coreset_sampling_ratio", 0.1), settings.pop("seed", RECIPE.seed)
        self.image_size = settings.pop("image_size", None)  # before a crop to the model's `input_size`
        settings.setdefault("backbone", "resnet18")
        self._prepare(PatchcoreModel(**settings), ratio)

    def configure_transforms(self, image_size: Sequence[int] | None = None) -> Transform:
        """The transform from images (3, H, W) in [0, 1] to the network's input.

        It resizes to `image_size`, by default the configuration's, and cuts the centre if that states `center_crop`.
        """
        source, crop = self.model.source, [] if self.image_size is None else [CenterCrop(list(self.model.input_size))]
        size = list(image_size or self.image_size or self.model.input_size)
        return Compose([Resize(size, antialias=True), *crop, Normalize(list(source.mean), list(source.std))])

    def frame(self, size: tuple[int, int]) -> Frame:
        """Where an image of (height, width) lies in the network's input."""
        window = self.model.input_size
        resized = self.image_size or window
        top, left = (round((side - own) / 2) for side, own in zip(resized, window, strict=True))  # as CenterCrop
        return Frame(size, resized, window, (-top, -left))

    def training_step(self, batch: Any, _batch_idx: int = 0) -> dict[str, Tensor]:
        """Keep the patches of a batch. Returns them, `embedding` (B*h*w, D), and a `loss` of 0."""
        return super().training_step(batch)

    def on_validation_start(self) -> None:
        """Choose the memory bank once all training images have been seen."""
        super().on_validation_start()

    def validation_step(self, batch: Any, _: int = 0) -> dict[str, Any] | None:
        """The batch with `pred_scores` (B,) and `anomaly_maps` (B, 1, H, W) and, if there are thresholds,
        `pred_labels` (B,) and `pred_masks` (B, 1, H, W). None before there is a bank.
        """
        return super().validation_step(batch)

    def with_predictions(self, batch: dict[str, Any], output: Any) -> dict[str, Any]:
        """The batch with the model's maps and scores, and with verdicts if there are thresholds."""
        anomaly_maps, scores = output
        return super().with_predictions(batch, {"anomaly_map": anomaly_maps, "pred_score": scores})

    @property
    def meta_data(self) -> dict[str, float]:
        """`image_threshold`, `pixel_threshold`, and `min` and `max` of the maps; NaN before validation."""
        buffers = (self.image_threshold, self.pixel_threshold, self.map_min, self.map_max)
        return dict(zip(META_DATA, map(float, buffers), strict=True))


def as_float(scores: Scores) -> Tensor:
    """An array or tensor as a tensor of float32 or wider."""
    tensor = torch.tensor(scores) if isinstance(scores, np.ndarray) else scores
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _tiles(size: tuple[int, int], tile_size: Any, tile_stride: Any) -> Tensor:
    if tile_size is None:
        raise UsageError("apply_tiling is set, but there is no tile_size. Give a side or (height, width) in pixels.")
    both = [(side, side) if isinstance(side, int) else side for side in (tile_size, tile_stride or tile_size)]
    tile, stride = sides("tile_size", both[0]), sides("tile_stride", both[1])
    Tiling(size, tile, stride)  # raises if they do not fit
    return torch.tensor([tile, stride])


def first_weights(backbone: str) -> str:
    """A backbone's name with the tag of torchvision's first weights, which v0 used, if timm has them."""
    import timm

    if "." in backbone or ":" in backbone or not timm.is_model(backbone):
        return backbone
    return f"{backbone}.tv_in1k" if f"{backbone}.tv_in1k" in timm.list_pretrained(f"{backbone}.*") else backbone
