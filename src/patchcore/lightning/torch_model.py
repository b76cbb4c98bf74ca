"""PatchcoreModel: backbone, memory bank and scores as one module."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from patchcore import backbones
from patchcore.arguments import known_arguments
from patchcore.errors import NotFittedError, UsageError
from patchcore.lightning.anomaly_map import AnomalyMapGenerator
from patchcore.lightning.batches import Batch
from patchcore.lightning.buffers import DynamicBufferMixin
from patchcore.lightning.sampling import KCenterGreedy
from patchcore.maths import pairwise, scoring
from patchcore.maths.embedding import embed, patches_of, pool_mean
from patchcore.maths.neighbours import squared
from patchcore.memory.bank import Bank
from patchcore.pipeline.workers import in_order
from patchcore.recipe.recipe import Recipe

RECIPE = Recipe.named("lightning")
_loading = ContextVar("_loading", default=False)
_AT_ONCE = 1024  # patches that an overridden `euclidean_dist` is given at a time


class _Searched(NamedTuple):
    """Rows and how they are searched, as `scoring.Rows`."""

    rows: Tensor
    nearest: Callable[[Tensor, int], tuple[Tensor, Tensor]]


class PatchcoreModel(DynamicBufferMixin):
    """Takes normalised images (B, 3, H, W). Gives their patches in training, otherwise a score and a map for each.

    `memory_bank` (M, D) is a buffer: it is saved and moved with the module, and may be assigned.
    Errors: BackboneError, WeightsError, UsageError; NotFittedError if the bank is needed and empty.

    Args:
        layers: Taps: module names in dot notation, or strides. The first gives the grid.
        backbone: `efficientnet_lite0`, `_lite1`, `_lite2` (offline weights), any timm name with or without
            a tag, or `torchvision:NAME`.
        pre_trained: True for pretrained weights, False for random ones, or the path of a local file.
        num_neighbors: b of eq. 7; with 1 the score is the highest patch score.
    """

    memory_bank: Tensor

    @known_arguments
    def __init__(
        self,
        layers: Sequence[str | int],
        backbone: str = "wide_resnet50_2",
        pre_trained: bool | str = True,
        num_neighbors: int = 9,
    ) -> None:
        super().__init__()
        if num_neighbors < 1:
            raise UsageError(f"num_neighbors is {num_neighbors}; it must be at least 1.")
        self.backbone, self.num_neighbors = backbone, num_neighbors
        self.layers = (layers,) if isinstance(layers, str) else tuple(layers)
        built = backbones.build(backbone, weights_of(pre_trained), self.layers, RECIPE.window, RECIPE.seed)
        self.feature_extractor = without_the_rest(built).train()
        self.source = built.source  # the images that the weights expect: mean, std
        self.built = replace(built, state={})  # its tensors would not move with the module
        self._engine: tuple[Any, backbones.Engine] | None = None
        self._making = threading.Lock()
        self.anomaly_map_generator = AnomalyMapGenerator()
        self.register_buffer("memory_bank", torch.empty(0))
        self._searched: tuple[Tensor, int, Bank] | None = None
        self.sampler: Callable[..., KCenterGreedy] = KCenterGreedy  # what chooses the coreset

    @torch.no_grad()
    def forward(self, input_tensor: Tensor) -> Tensor | dict[str, Tensor]:
        """In training, the patches (B*h*w, D); otherwise `anomaly_map` (B, 1, H, W) and `pred_score` (B,)."""
        embedding = self.embed(input_tensor)
        patches = self.reshape_embedding(embedding)
        if self.training:
            return patches
        batch, _, h, w = embedding.shape
        scores, locations = (found.reshape(batch, h * w) for found in self.nearest_neighbors(patches, 1))
        found = {
            "anomaly_map": self.anomaly_map_generator(scores.reshape(batch, 1, h, w), input_tensor.shape[-2:]),
            "pred_score": self.compute_anomaly_score(scores, locations, patches),
        }
        return found if pairwise.recorded() else Batch(found)

    def embed(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W), or (B, 1, H, W), -> their embedding (B, D, h, w), float32.

        On a CPU every image has its own thread. So in training, no bit of a patch depends on the other
        images of a batch, or on the number of threads.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise UsageError(f"Images of shape {tuple(images.shape)}; expected (B, 3, H, W), or (B, 1, H, W).")
        if images.dtype != (dtype := next(self.feature_extractor.parameters()).dtype) and not (
            images.is_floating_point() and torch.is_autocast_enabled(images.device.type)
        ):
            raise UsageError(f"Images of {images.dtype}; expected {dtype}, normalised: (pixels / 255 - mean) / std.")
        images = images.expand(-1, 3, -1, -1)
        self.feature_extractor.eval()
        try:
            if pairwise.recorded() or images.device.type != "cpu" or (len(images) == 1 and not self.training):
                return self._embed(images)
            autocast = torch.is_autocast_enabled("cpu")  # threads do not inherit it
            dtype = torch.get_autocast_dtype("cpu")

            def work(image: Tensor) -> Tensor:
                with torch.autocast("cpu", dtype, enabled=autocast):
                    return self._embed(image)

            return torch.cat(list(in_order(work, images.split(1), None)))
        finally:  # Lightning warns about modules that are left in evaluation mode
            self.feature_extractor.train(self.training)

    @torch.no_grad()
    def _embed(self, images: Tensor) -> Tensor:
        taps = [tap.float() for tap in self.taps(images)]
        # With channels last, pooling is several times faster and gives the same bits.
        pooled = [pool_mean(t.contiguous(memory_format=torch.channels_last), RECIPE.patch_size) for t in taps]
        return self.generate_embedding({str(name): tap for name, tap in zip(self.layers, pooled, strict=True)})

    def taps(self, images: Tensor) -> list[Tensor]:
        """The layers' features, each (B, C, h, w)."""
        return self.feature_extractor(images, stop=False) if pairwise.recorded() else self.network(images)

    @property
    def network(self) -> backbones.Engine:
        """What reads the layers: the engine of `Detector`, rebuilt whenever a weight has changed or moved."""
        tensors = [*self.feature_extractor.parameters(), *self.feature_extractor.buffers()]
        device, dtype = tensors[0].device, tensors[0].dtype
        if dtype != torch.float32 or torch.is_autocast_enabled(device.type):
            return self.feature_extractor
        state = (device, [(id(t), version_of(t)) for t in tensors])
        with self._making, torch.inference_mode(False):
            if self._engine is None or self._engine[0] != state:
                self._engine = (state, backbones.engine(self.built, "torch", "fp32", device))
            return self._engine[1]

    def generate_embedding(self, features: Mapping[str, Tensor]) -> Tensor:
        """Pooled features of each layer, (B, C, h, w) -> (B, D, h, w), on the grid of the first layer."""
        taps = [features[str(layer)] for layer in self.layers]
        return embed(taps, pool="mean", merge="concat", align_mode=RECIPE.align, patch_size=1)

    @staticmethod
    def reshape_embedding(embedding: Tensor) -> Tensor:
        """(B, D, h, w) -> (B*h*w, D): image by image, row by row."""
        return patches_of(embedding)

    def subsample_embedding(self, embedding: Any, sampling_ratio: float) -> None:
        """Keep a coreset of the rows of `embedding` (N, D), a tensor or array, as the memory bank.

        Training calls this with all patches. They are in half precision, mapped from a file if there are many;
        a subclass that overrides it gets them in single precision, in memory.
        """
        with torch.inference_mode(False):  # the bank outlives whatever it is built in
            self.memory_bank = self.sampler(torch.as_tensor(embedding), sampling_ratio).sample_coreset().float()

    def nearest_neighbors(self, embedding: Tensor, n_neighbors: int) -> tuple[Tensor, Tensor]:
        """Patches (N, D) -> distances to the nearest bank rows, and the indices of these rows.

        Both have shape (N,) for one neighbour, otherwise (N, n_neighbors), nearest first. Exact, also near 0. A
        subclass that overrides `euclidean_dist` is searched by that, pair by pair.
        """
        bank = self._rows()
        with torch.autocast(embedding.device.type, enabled=False):
            distances, rows = bank.nearest(embedding.float(), n_neighbors)
        return (distances[:, 0], rows[:, 0]) if n_neighbors == 1 else (distances, rows)

    def compute_anomaly_score(self, patch_scores: Tensor, locations: Tensor, embedding: Tensor) -> Tensor:
        """The image scores (B,) by eq. 7, with b = `num_neighbors`.

        `patch_scores` and `locations` (B, N): the distance of each patch to its nearest bank row, and the
        index of that row; `embedding` (B*N, D): the patches.
        """
        bank, scores, count = self._rows(), patch_scores.float(), patch_scores.shape[1]
        if self.num_neighbors == 1:
            return scores.amax(1)
        top = scores.argmax(1, keepdim=True)
        patches = embedding.float().reshape(-1, count, embedding.shape[-1])
        patch = patches.gather(1, top[..., None].expand(-1, 1, patches.shape[2]))
        with torch.autocast(embedding.device.type, enabled=False):
            around = bank.rows[scoring.neighbourhoods(bank, locations.gather(1, top)[:, 0], self.num_neighbors)]
            distances = self.euclidean_dist(patch, around)[:, 0] if self._measures else squared(around, patch).sqrt()
            return scoring.reweighted(scores.gather(1, top)[:, 0], distances)

    @staticmethod
    def euclidean_dist(x: Tensor, y: Tensor) -> Tensor:
        """Distances (N, M) of the rows of x (N, D) and y (M, D), exact also near 0.

        Every way out of torch takes it: `torch.onnx.export`, `torch.export`, `torch.jit.trace`, OpenVINO.
        """
        return pairwise.distances(x, y)

    @property
    def _measures(self) -> bool:
        """Whether this model has an `euclidean_dist` of its own."""
        return self.euclidean_dist is not _EUCLIDEAN

    def _rows(self) -> scoring.Rows:
        """The memory bank as it is searched here. Errors: NotFittedError."""
        if not (self._measures or pairwise.recorded()):
            return self._bank()
        rows = self.filled().float()
        return _Searched(rows, self._by_own_measure if self._measures else lambda q, k: pairwise.nearest(q, rows, k))

    def _by_own_measure(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rows, parts = self.memory_bank, [queries] if pairwise.recorded() else queries.split(_AT_ONCE)
        found = [self.euclidean_dist(one, rows).topk(min(k, len(rows)), 1, largest=False) for one in parts]
        return torch.cat([one.values for one in found]).float(), torch.cat([one.indices for one in found])

    def filled(self) -> Tensor:
        """The memory bank. Errors: NotFittedError if it is empty."""
        if not self.memory_bank.numel():
            raise NotFittedError(
                "The memory bank is empty. Fit the model, load a checkpoint, or call "
                "subsample_embedding(embedding, sampling_ratio)."
            )
        return self.memory_bank

    def _bank(self) -> Bank:
        """The memory bank, prepared for search; prepared again whenever it was assigned, changed or moved."""
        rows = self.filled()
        version = version_of(rows)
        if self._searched is None or self._searched[0] is not rows or self._searched[1] != version:
            origins, scales = torch.zeros(len(rows), 3, dtype=torch.int32), torch.ones(rows.shape[1])
            self._searched = (rows, version, Bank(rows.float(), origins, scales))
        return self._searched[2]

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and other processes, because the hooks that read the layers belong to this network."""
        return _restored, (type(self), self.layers, self.backbone, self.num_neighbors, self.state_dict(), self.training)


_EUCLIDEAN = PatchcoreModel.euclidean_dist


def _restored(
    kind: type[PatchcoreModel],
    layers: Sequence[str | int],
    backbone: str,
    num_neighbors: int,
    state: dict[str, Any],
    training: bool,
) -> PatchcoreModel:
    with about_to_load():
        model = kind(layers, backbone, True, num_neighbors)
    model.load_state_dict(state)
    return model.to(model.memory_bank.device).train(training)


def version_of(tensor: Tensor) -> int:
    """How often a tensor has been changed in place; 0 for an inference tensor, which does not count."""
    return 0 if tensor.is_inference() else tensor._version


@contextmanager
def about_to_load() -> Iterator[None]:
    """In this context, networks get random weights and fetch none, because loaded weights will replace them."""
    token = _loading.set(True)
    try:
        yield
    finally:
        _loading.reset(token)


def weights_of(pre_trained: bool | str) -> str:
    """The recipe's `weights` for `pre_trained`."""
    if _loading.get():
        return "random"
    if isinstance(pre_trained, str):
        return pre_trained
    return "pretrained" if pre_trained else "random"


def without_the_rest(built: backbones.Backbone) -> nn.Module:
    """The extractor of a backbone, without the modules of the network after the deepest tap."""
    model = built.extractor.model
    dropped: list[str] = []
    needed = built.extractor.used | {key.rpartition(".")[0] for key in built.state}
    for name, _ in list(model.named_modules()):
        if not name or any(name.startswith(f"{other}.") for other in dropped):
            continue
        if name not in needed and not any(other.startswith(f"{name}.") for other in needed):
            model.set_submodule(name, nn.Identity())
            dropped.append(name)
    return built.extractor
