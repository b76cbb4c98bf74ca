"""TorchInferencer: predictions in PyTorch, from a configuration and a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from patchcore.arguments import known_arguments
from patchcore.data.images import ImageLike
from patchcore.errors import NotFittedError, StoreError, UsageError
from patchcore.inferencers.base import Inferencer, read_meta_data
from patchcore.inferencers.models import Config, get_model_metadata, model_of, read_config
from patchcore.inferencers.pre_processor import PreProcessor
from patchcore.lightning.torch_model import about_to_load
from patchcore.lightning.v0 import PatchcoreLightning
from patchcore.maths.maps import image_matrix


class TorchInferencer(Inferencer):
    """Predicts with a fitted `PatchcoreLightning`.

    `config`: the configuration that the model was trained with (path of a YAML file, dict, Namespace or OmegaConf).
    `model_source`: a checkpoint (`.ckpt`), a state dict (`.safetensors`, `.pt`, `.pth`), or a model. `meta_data_path`:
    JSON as `tools/train.py` writes it; None: the model's own meta data. No code in a file is executed, and no
    pretrained weights are fetched. Errors: StoreError, DataError, UsageError, NotFittedError.
    """

    @known_arguments
    def __init__(
        self, config: Config, model_source: str | Path | PatchcoreLightning, meta_data_path: str | Path | None = None
    ) -> None:
        self.config = read_config(config)
        self.model = self.load_model(model_source)
        self.meta_data = self._load_meta_data(meta_data_path)
        self._pre_processor = PreProcessor(self.model.configure_transforms())

    def load_model(self, path: str | Path | PatchcoreLightning) -> PatchcoreLightning:
        """The model in a file, or the given model, ready to predict."""
        if isinstance(path, PatchcoreLightning):
            model = path
        elif isinstance(path, str | Path):
            state = read_state(Path(path))
            with about_to_load():
                model = model_of(self.config)
            try:
                model.load_state_dict(state)
            except RuntimeError as error:
                raise StoreError(
                    f"{path}: its weights are not those of the model that the configuration describes. Give the "
                    f"configuration it was trained with. {error}"
                ) from error
        else:
            raise UsageError(f"model_source is a {type(path).__name__}; expected a path or a PatchcoreLightning.")
        if not model.model.memory_bank.numel():
            raise NotFittedError(f"{'The model' if model is path else path} has no memory bank. Train it first.")
        return model.eval()

    def _load_meta_data(self, path: str | Path | None = None) -> dict[str, Any]:
        """The meta data in a JSON file; without one, those of the model."""
        return get_model_metadata(self.model) if path is None else read_meta_data(path)

    def pre_process(self, image: ImageLike) -> Tensor:
        """An image -> (1, 3, H, W), resized and normalised as for training."""
        return self._pre_processor(image=image)["image"][None].to(self.model.device)

    @torch.no_grad()
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 3, H, W) -> the raw map (1, 1, H, W), and the raw score (1,)."""
        return self.model(image)

    def post_process(
        self, predictions: tuple[Tensor, Tensor], meta_data: Mapping[str, Any] | None = None
    ) -> tuple[NDArray[Any], float]:
        """Result of `forward` -> normalised map and score.

        The map has size `meta_data["image_shape"]`, if given, and is NaN where a crop does not show the image.
        """
        known = self.meta_data if meta_data is None else meta_data
        anomaly_map, score = predictions
        values = anomaly_map.squeeze().cpu()
        if "image_shape" in known:
            frame = self.model.frame(tuple(known["image_shape"]))
            sides = zip(frame.inside, frame.resized, frame.source, frame.offset, strict=True)
            rows, columns = (image_matrix(*side) for side in sides)
            values = rows @ values @ columns.T
        return self._normalize(values, score, known)


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint, a `.safetensors` file, or a file written by torch. Errors: StoreError."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
        return dict(found.get("state_dict", found))
    except Exception as error:  # each reader has its own errors for a bad file
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else type(error).__name__
        raise StoreError(
            f"{path}: cannot be read ({reason}). Expected a checkpoint or state dict with tensors only, such as "
            "tools/train.py writes."
        ) from error
