"""PatchCore: fit on good images, score new ones, with patchcore-inspection's interface."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from patchcore.backbones import registry
from patchcore.backbones.weight_files import digest_of
from patchcore.errors import DataError, NotFittedError, StoreError, UsageError, nearest_name
from patchcore.inspection import backbones
from patchcore.inspection.aggregator import NetworkFeatureAggregator
from patchcore.inspection.embedding import Aggregator, Preprocessing
from patchcore.inspection.neighbours import ExactNN, NearestNeighbours
from patchcore.inspection.parameters import Parameters, check_rows
from patchcore.inspection.patch_maker import PatchMaker
from patchcore.inspection.sampler import IdentitySampler
from patchcore.inspection.scorer import NearestNeighbourScorer
from patchcore.inspection.segmentor import RescaleSegmentor
from patchcore.maths.embedding import align, embed, patches_of
from patchcore.memory.patches import PatchStore, spill_limit
from patchcore.model.file import of_file

Array = NDArray[Any]

_SWALLOWED = "anomaly_scorer_num_nn"  # its name in patchcore-inspection's command line and files
_UNUSED = "spade_nn"  # patchcore-inspection's own tests give it


class PatchCore(nn.Module):
    """Finds defects in images after seeing good ones: `load` configures it, `fit` learns, `predict` scores.

    Images are tensors (B, 3, H, W) or (B, 1, H, W), which the caller has resized to `input_shape` and normalised, as
    `datasets.mvtec.MVTecDataset` does; or a loader of such batches, or of dicts with the key `image`.

    `training_pass`: a network in training mode, as timm makes it, reads an image of ones when it is loaded, as in
    patchcore-inspection, whose scores depend on it (`NetworkFeatureAggregator.training_pass`).
    """

    def __init__(self, device: torch.device | str, *, training_pass: bool = True) -> None:
        super().__init__()
        self.training_pass = training_pass
        self.device = torch.device(device)

    def load(
        self,
        backbone: nn.Module,
        layers_to_extract_from: Sequence[str],
        device: torch.device | str,
        input_shape: Sequence[int],
        pretrain_embed_dimension: int,
        target_embed_dimension: int,
        patchsize: int = 3,
        patchstride: int = 1,
        anomaly_score_num_nn: int = 1,
        featuresampler: Any = None,
        nn_method: NearestNeighbours | None = None,
        **kwargs: Any,
    ) -> None:
        """Configure the model. Errors: UsageError, BackboneError.

        Args:
            backbone: The network.
            layers_to_extract_from: Names of layers; the first one gives the grid of patches.
            device: Where to compute.
            input_shape: (3, H, W) of the images.
            pretrain_embed_dimension: Values per layer.
            target_embed_dimension: Values per patch.
            patchsize, patchstride: Side of a neighbourhood and step between patches, in cells.
            anomaly_score_num_nn: Number of nearest rows whose squared distances are averaged.
            featuresampler: Chooses the patches to keep; None: IdentitySampler().
            nn_method: The search; None: ExactNN(device).
            kwargs: Only `anomaly_scorer_num_nn`, the same number as patchcore-inspection's command line
                passes it. Its `load` ignores that keyword; here it counts. And `spade_nn`, which has no effect.
        """
        wrong = [name for name in kwargs if name not in (_SWALLOWED, _UNUSED)]
        if wrong:
            known = [*self.load.__code__.co_varnames[1 : self.load.__code__.co_argcount], _SWALLOWED]
            raise UsageError(f"load has no argument {wrong[0]!r}.{nearest_name(wrong[0], known)}")
        if _UNUSED in kwargs:
            warnings.warn(f"{_UNUSED} has no effect, as in patchcore-inspection: leave it out.", stacklevel=2)
        if _SWALLOWED in kwargs:
            warnings.warn(
                f"{_SWALLOWED}={kwargs[_SWALLOWED]} is taken as anomaly_score_num_nn. patchcore-inspection ignores "
                "this keyword and always uses 1: leave it out to get its scores.",
                UserWarning,
                stacklevel=2,
            )
            anomaly_score_num_nn = kwargs[_SWALLOWED]
        shape = tuple(int(side) for side in input_shape)
        if len(shape) != 3 or shape[0] != 3 or min(shape) < 1:
            raise UsageError(f"input_shape is {tuple(input_shape)}; expected (3, height, width).")
        device, as_made = torch.device(device), backbone.training
        aggregator = NetworkFeatureAggregator(backbone, layers_to_extract_from, device)
        if self.training_pass and as_made:
            aggregator.training_pass(shape)
        dimensions = aggregator.feature_dimensions(shape)
        preprocessing = Preprocessing(dimensions, pretrain_embed_dimension)
        preadapt = Aggregator(target_embed_dimension)
        maker = PatchMaker(patchsize, patchstride)
        scorer = NearestNeighbourScorer(anomaly_score_num_nn, ExactNN(device) if nn_method is None else nn_method)

        # Assigned last, so that a wrong argument leaves the model as it was.
        self.device, self.input_shape = device, shape
        self.backbone = aggregator.backbone
        self.layers_to_extract_from = aggregator.layers_to_extract_from
        self.forward_modules = nn.ModuleDict(
            {"feature_aggregator": aggregator, "preprocessing": preprocessing, "preadapt_aggregator": preadapt}
        )
        self.patch_maker = maker
        self.featuresampler = IdentitySampler() if featuresampler is None else featuresampler
        self.anomaly_scorer = scorer
        self.anomaly_segmentor = RescaleSegmentor(device, target_size=shape[-2:])

    def embed(self, data: Any) -> list[Any]:
        """The patches of a tensor, a list of rows (target_embed_dimension,), image by image and row by row.

        For a loader, a list of such lists, one for each batch.
        """
        if isinstance(data, Tensor):
            return self._embed(data)
        return [self._embed(images) for images, _ in self._batches(data)]

    def _embed(self, images: Tensor, detach: bool = True, provide_patch_shapes: bool = False) -> Any:
        patches, grids = self._patches(self._checked(images))
        rows = list(patches.cpu().numpy()) if detach else patches
        return (rows, [list(grid) for grid in grids]) if provide_patch_shapes else rows

    @torch.no_grad()
    def _patches(self, images: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
        """(B, 3, H, W) -> patches (B*h*w, D), and the grid of each layer; the first grid is that of the patches."""
        aggregator, preprocessing, preadapt = self._stages()
        features = aggregator(images)
        layers = [features[name] for name in self.layers_to_extract_from]
        grids = [self.patch_maker.grid(layer) for layer in layers]
        if type(preprocessing) is Preprocessing and type(preadapt) is Aggregator:
            # Binning works on the values of a patch and aligning on positions, so their order does not
            # matter. The engine bins first, on each layer's own, smaller grid.
            embedding = embed(
                layers,
                pool="bins",
                merge="bins",
                align_mode="bilinear",
                patch_size=self.patch_maker.patchsize,
                stride=self.patch_maker.stride,
                tap_bins=preprocessing.output_dim,
                bins=preadapt.target_dim,
            )
            return patches_of(embedding), grids
        aligned = [self._aligned(layer, grid, grids[0]) for layer, grid in zip(layers, grids, strict=True)]
        return preadapt(preprocessing(aligned)), grids

    def _aligned(self, layer: Tensor, own: tuple[int, int], grid: tuple[int, int]) -> Tensor:
        """(B, C, h, w) -> its patches (B*h'*w', C, p, p) on the grid of the first layer, for the caller's modules."""
        patches = self.patch_maker.patchify(layer)
        planes = patches.flatten(2).transpose(1, 2).unflatten(2, own)
        return patches_of(align(planes, grid, "bilinear")).unflatten(1, patches.shape[2:])

    def fit(self, training_data: Iterable[Any]) -> None:
        """Learn from a loader of good images, replacing any earlier fit. Errors: DataError, UsageError.

        Patches are kept in half precision. Those that exceed half of the machine's memory go to a temporary file.
        """
        self._loaded()
        patches = PatchStore(spill_limit(None))
        for images, _ in self._batches(training_data, "Reading good images"):
            rows, grids = self._patches(images)
            for own in rows.split(grids[0][0] * grids[0][1]):
                patches.append((own, grids[0]))
        if not patches.grids:
            raise DataError("There are no good images to learn from. Give a loader that has some.")
        kept = patches.gather(list(range(len(patches.grids))))
        features = kept.numpy() if patches.spilled else kept.float().numpy()
        self.anomaly_scorer.fit([self.featuresampler.run(features)])

    def predict(self, data: Any) -> tuple[Any, ...]:
        """For a tensor, (scores, masks): a number and an anomaly map (H, W) for each image.

        For a loader, (scores, masks, labels_gt, masks_gt). The last two come from the keys `is_anomaly` and
        `mask` of its dicts, and are empty without them. The image score is the largest patch score, before
        the map is smoothed. Errors: NotFittedError, UsageError.
        """
        if isinstance(data, Tensor):
            return self._predict(self._checked(data))
        self._loaded()
        scores: list[Any] = []
        masks: list[Array] = []
        labels_gt: list[int] = []
        masks_gt: list[Array] = []
        for images, batch in self._batches(data, "Looking at images"):
            found, maps = self._predict(images)
            scores.extend(found)
            masks.extend(maps)
            if "is_anomaly" in batch:
                labels_gt.extend(torch.as_tensor(batch["is_anomaly"]).tolist())
            if "mask" in batch:
                masks_gt.extend(torch.as_tensor(batch["mask"]).numpy())
        return scores, masks, labels_gt, masks_gt

    def _predict(self, images: Tensor) -> tuple[list[Any], list[Array]]:
        if not len(images):
            return [], []
        patches, grids = self._patches(images)
        scores = self.anomaly_scorer.predict([patches])[0]
        of_images = self.patch_maker.unpatch_scores(scores, len(images))
        maps = self.anomaly_segmentor.convert_to_segmentation(of_images.reshape(len(images), *grids[0]))
        return list(self.patch_maker.score(of_images)), maps

    def save_to_path(self, save_path: str | Path, prepend: str = "") -> None:
        """Write `{prepend}nnscorer_search_index` and `{prepend}patchcore_params.json` into a folder, and create that.

        They have the backbone's name and a hash of its weights, but no weights. A small `.faiss` file lies beside an
        index that is none of FAISS's, for scripts that count those files. `detector_of(model).save(path)` writes
        everything into one file. Errors: NotFittedError, StoreError.
        """
        described = self.described()
        Path(save_path).mkdir(parents=True, exist_ok=True)
        self.anomaly_scorer.save(save_path, save_features_separately=False, prepend=prepend)
        described.write(save_path, prepend)

    def described(self) -> Parameters:
        """The parameters of the model, as `save_to_path` writes them. Errors: NotFittedError for an empty model."""
        self._loaded()
        aggregator, preprocessing, preadapt = self._stages()
        return Parameters.model_construct(
            backbone=getattr(self.backbone, "name", None),
            layers=tuple(self.layers_to_extract_from),
            input_shape=self.input_shape,
            pretrain_embed_dimension=preprocessing.output_dim,
            target_embed_dimension=preadapt.target_dim,
            patchsize=self.patch_maker.patchsize,
            patchstride=self.patch_maker.stride,
            neighbours=self.anomaly_scorer.n_nearest_neighbours,
            digest=digest_of(aggregator.extractor(self.input_shape).needed_state()),
        )

    def load_from_path(
        self,
        load_path: str | Path,
        device: torch.device | str,
        nn_method: NearestNeighbours | None = None,
        prepend: str = "",
        *,
        backbone: nn.Module | None = None,
        weights: str = "pretrained",
    ) -> None:
        """Read what `save_to_path` has written, or a model that patchcore-inspection has saved.

        A `.pkl` file is read without running any code in it; a `.faiss` file must come from a trusted source.
        Errors: StoreError, WeightsError, BackboneError.

        Args:
            load_path: The folder.
            device: Where to compute.
            nn_method: The search; None: ExactNN(device).
            prepend: Prefix of the file names.
            backbone: The network, if the file names none.
            weights: `pretrained`, or a local file with the weights of the network that the file names.
        """
        parameters = Parameters.read(load_path, prepend)
        if backbone is None and parameters.backbone is None:
            raise StoreError(
                f"{load_path}: the model was saved with a network of the caller's own. Give it again: "
                "load_from_path(..., backbone=network)."
            )
        search = ExactNN(device) if nn_method is None else nn_method
        scorer = NearestNeighbourScorer(parameters.neighbours, search)
        scorer.load(load_path, prepend)
        check_rows(load_path, search, parameters)
        with of_file(load_path) if backbone is None else nullcontext():
            if backbone is None:
                name, size = str(parameters.backbone), parameters.input_shape[-2:]
                registry.check_size(backbones.NAMES.get(name, name), parameters.layers, size)
                backbone = backbones.load(name, weights, size=size)
            if parameters.digest is not None:  # which tells whether there was a pass
                aggregator = NetworkFeatureAggregator(backbone, parameters.layers, device)
                aggregator.find_weights(parameters.digest, parameters.input_shape)
            self.load(
                backbone=backbone,
                layers_to_extract_from=parameters.layers,
                device=device,
                input_shape=parameters.input_shape,
                pretrain_embed_dimension=parameters.pretrain_embed_dimension,
                target_embed_dimension=parameters.target_embed_dimension,
                patchsize=parameters.patchsize,
                patchstride=parameters.patchstride,
                nn_method=search,
            )
        self.anomaly_scorer = scorer
        if parameters.neighbours > 1 and parameters.digest is None:
            warnings.warn(
                f"The model was saved with {_SWALLOWED}={parameters.neighbours}, and is loaded with it. "
                "patchcore-inspection loads it with 1: set model.anomaly_scorer.n_nearest_neighbours = 1 for that.",
                UserWarning,
                stacklevel=2,
            )

    def _stages(self) -> tuple[Any, Any, Any]:
        aggregator, preprocessing, preadapt = self.forward_modules.values()
        return aggregator, preprocessing, preadapt

    def _loaded(self) -> None:
        if "forward_modules" not in self._modules:
            raise NotFittedError("This model is empty. Call load(...) and fit(...), or load_from_path(folder, device).")

    def _batches(self, data: Iterable[Any], title: str | None = None) -> Iterator[tuple[Tensor, Mapping[str, Any]]]:
        """The images of each batch of a loader, and the batch itself if it is a dict."""
        if isinstance(data, Tensor):
            data = [data]
        elif not isinstance(data, Iterable) or isinstance(data, str | Path | Mapping):
            raise UsageError(f"got {type(data).__name__}; expected a tensor (B, 3, H, W) or a loader of such batches.")
        for batch in tqdm(data, desc=title, leave=False, disable=None if title and sys.stderr else True):
            if isinstance(batch, Mapping):
                if "image" not in batch:
                    raise UsageError(f"a batch has the keys {', '.join(map(str, batch))}; expected `image` among them.")
                yield self._checked(batch["image"]), batch
            else:
                yield self._checked(batch[0] if isinstance(batch, tuple | list) else batch), {}

    def _checked(self, images: Any) -> Tensor:
        """Images (B, 3, H, W), float32, on the device; grey becomes three channels. Errors: UsageError."""
        self._loaded()
        if not isinstance(images, Tensor):
            raise UsageError(f"got {type(images).__name__}; expected a tensor (B, 3, H, W).")
        height, width = self.input_shape[-2:]
        expected = f"expected (B, 3, {height}, {width}), float, normalised, as given to load"
        if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2:] != (height, width):
            raise UsageError(f"images of shape {tuple(images.shape)}; {expected}.")
        if not images.is_floating_point():
            raise UsageError(f"images of {images.dtype}; {expected}.")
        if not images.isfinite().all():
            raise UsageError("images with NaN or infinite values; they cannot be scored.")
        return images.to(self.device, torch.float32).expand(-1, 3, -1, -1)
