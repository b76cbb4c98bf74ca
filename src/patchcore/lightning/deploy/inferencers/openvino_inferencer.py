"""OpenVINOInferencer, of anomalib v1 and v2: runs what `to_openvino` or `to_onnx` has written."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patchcore.arguments import known_arguments
from patchcore.errors import UsageError
from patchcore.lightning.data.predictions import ImageResult, NumpyImageBatch
from patchcore.lightning.data.utils import TaskType
from patchcore.lightning.deploy.inferencers.exported import Exported, Given, on_the_cpu

_DEVICES = ("AUTO", "CPU", "GPU", "NPU", "VPU", "HETERO", "MULTI")


class OpenVINOInferencer:
    """Looks at images with an exported graph of OpenVINO, or of ONNX in ONNX Runtime.

    `path`: `model.xml`, `model.bin` or `model.onnx` in an exported folder, or the folder. `metadata` and `task` are
    version 1's: with either, `predict` gives its `ImageResult`. `metadata`: a file such as the export's own
    `metadata.json`, or a dict, with the thresholds to use; None: the export's own. `device`: `AUTO` or `CPU`; others
    warn, and so does `config`. Errors: patchcore_runtime.ExportError, DataError, UsageError.
    """

    @known_arguments
    def __init__(
        self,
        path: str | Path,
        metadata: str | Path | Mapping[str, Any] | None = None,
        device: str | None = "AUTO",
        task: TaskType | str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(metadata, str) and metadata.upper() in _DEVICES:  # version 2's second argument
            device, metadata = metadata, None
        if not isinstance(path, str | Path):
            raise UsageError(f"path is a {type(path).__name__}; expected the path of a graph in an exported folder.")
        if Path(path).suffix not in ("", ".bin", ".onnx", ".xml"):
            raise UsageError(f"{path}: expected a .xml, .bin or .onnx file, or the folder that it is in.")
        self.device = on_the_cpu(device, _DEVICES)
        if config:
            warnings.warn("config has no effect: the graph runs with OpenVINO's own settings, in fp32.", stacklevel=2)
        if task is not None and TaskType.of("task", task) is TaskType.DETECTION:
            warnings.warn("task is detection: there are no boxes; it is taken as segmentation.", stacklevel=2)
        self._one = metadata is not None or task is not None
        self._exported = Exported(path, ("openvino", "onnx"), metadata)
        self.model, self.metadata = self._exported.model, self._exported.metadata

    def predict(self, image: Given) -> NumpyImageBatch | ImageResult:
        """An image, or a batch of one size, -> arrays; with version 1's arguments, one image -> `ImageResult`.

        A path, a PIL image, an array (H, W, 3) or (3, H, W), or a tensor (3, H, W). Floats are in [0, 1], or, as
        there, up to 255. Scores and maps are as those of `Engine.predict`. Errors: ImageError.
        """
        seen = self._exported.see(image, up_to_255=True)
        return ImageResult.of(seen[0]) if self._one and len(seen) == 1 else NumpyImageBatch.of(seen, image)

    def __call__(self, image: Given) -> NumpyImageBatch | ImageResult:
        """As `predict`."""
        return self.predict(image)
