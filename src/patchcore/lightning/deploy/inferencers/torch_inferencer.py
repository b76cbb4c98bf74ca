"""TorchInferencer, of anomalib v2: runs what `to_torch` has written."""

from __future__ import annotations

from pathlib import Path

import torch

from patchcore.arguments import known_arguments
from patchcore.errors import UsageError
from patchcore.lightning.data.predictions import ImageBatch
from patchcore.lightning.deploy.inferencers.exported import Exported, Given, on_the_cpu

_GRAPH = ".pt2"


class TorchInferencer:
    """Looks at images with an exported torch program.

    `path`: `weights/torch/model.pt2`, as `to_torch` returns it, or its folder; `model.pt`, its name in anomalib, means
    the same where there is no such file: a pickle is never read. `device`: `auto` or `cpu`; others warn.
    Errors: patchcore_runtime.ExportError, UsageError.
    """

    @known_arguments
    def __init__(self, path: str | Path, device: str = "auto") -> None:
        path = Path(path)
        self.device = torch.device(on_the_cpu(device, ("AUTO", "CPU", "CUDA", "GPU", "XPU")))
        if not path.is_dir() and path.suffix != _GRAPH:
            instead = path.with_suffix(_GRAPH)
            if path.exists() or path.suffix not in (".pt", ".pth") or not instead.exists():
                raise UsageError(
                    f"{path}: expected a program that Patchcore.to_torch or Engine.export has written, weights/torch/"
                    f"model{_GRAPH}. A checkpoint is read by Engine.predict(ckpt_path=); a .pt file of anomalib is a "
                    "pickle, which is not read: fit again, and export."
                )
            path = instead
        self._exported = Exported(path, ("torch",), None)
        self.model = self._exported.model

    def predict(self, image: Given) -> ImageBatch:
        """An image, or a batch of one size, -> tensors.

        A path, a PIL image, an array (H, W, 3), or a tensor (3, H, W) in [0, 1]. Scores and maps are as those of
        `Engine.predict`. Errors: ImageError.
        """
        return ImageBatch.of(self._exported.see(image), image)

    def __call__(self, image: Given) -> ImageBatch:
        """As `predict`."""
        return self.predict(image)
