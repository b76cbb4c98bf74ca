"""ExportMixin: `to_onnx`, `to_openvino` and `to_torch` of a model, by `patchcore.export`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torchvision.transforms.v2 import Transform

from patchcore.detector import Detector
from patchcore.errors import UsageError
from patchcore.lightning.conversion import detector_of
from patchcore.lightning.data import ImageDataModule

if TYPE_CHECKING:
    from patchcore.lightning.lightning_model import Patchcore

METADATA = "metadata.json"  # beside the graph, as version 1 has it
_GRAPHS = {"onnx": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}


class ExportMixin:
    """Writes a fitted model as one graph from raw pixels to scores, maps and verdict.

    The graph is `EXPORT_ROOT/weights/FORMAT/model.*`, and everything in that folder belongs to it: a manifest,
    checksums, test vectors and, with thresholds, `metadata.json`, their scale. It is compared with the model first, and
    not kept if it differs. `patchcore_runtime.load(folder)` and the inferencers of `patchcore.lightning.deploy` run it.
    `task` has no effect.
    Errors: NotFittedError, UsageError, MissingExtraError, ExportError.
    """

    def to_torch(
        self,
        export_root: str | Path,
        transform: Transform | None = None,
        task: object = None,
        *,
        model_file_name: str = "model",
    ) -> Path:
        """Write a `torch.export` program. Returns its path."""
        return self._export(export_root, "torch", model_file_name, transform)

    def to_onnx(
        self,
        export_root: str | Path,
        input_size: tuple[int, int] | None = None,
        transform: Transform | None = None,
        task: object = None,
        *,
        model_file_name: str = "model",
    ) -> Path:
        """Write ONNX, for images of `input_size` (height, width) only, or of any size. Returns its path."""
        return self._export(export_root, "onnx", model_file_name, transform, input_size)

    def to_openvino(
        self,
        export_root: str | Path,
        input_size: tuple[int, int] | None = None,
        transform: Transform | None = None,
        compression_type: str | None = None,
        datamodule: ImageDataModule | None = None,
        metric: object = None,
        ov_args: dict[str, Any] | None = None,
        task: object = None,
        *,
        model_file_name: str = "model",
    ) -> Path:
        """Write OpenVINO's files. Returns the path of the `.xml`.

        `compression_type`: `fp16`, or `int8_ptq`, which quantises the network on the good images of `datamodule`.
        """
        if metric is not None or ov_args:
            given = "metric" if metric is not None else "ov_args"
            raise UsageError(f"to_openvino got {given}, which is not supported. Leave it out.")
        precision, images, known = "fp32", None, list[str]()
        if compression_type is not None:
            kind = str(getattr(compression_type, "value", compression_type)).lower()
            if kind not in ("fp16", "int8_ptq"):
                raise UsageError(f"compression_type is {kind!r}; expected 'fp16', 'int8_ptq' or None.")
            precision = kind.removesuffix("_ptq")
        if precision == "int8":
            if not isinstance(datamodule, ImageDataModule):
                raise UsageError(
                    "compression_type='int8_ptq' needs the good images of an ImageDataModule: datamodule=."
                )
            images = [*datamodule.train, *datamodule.calibration]
            known = [one.name for one in datamodule.train] if datamodule.calibration else []
        return self._export(export_root, "openvino", model_file_name, transform, input_size, precision, images, known)

    def _export(
        self,
        root: str | Path,
        format: str,
        name: str,
        transform: Transform | None,
        size: tuple[int, int] | None = None,
        precision: str = "fp32",
        images: list[Any] | None = None,
        known: list[str] | None = None,  # the images in the bank, so that int8 is measured on others
    ) -> Path:
        from patchcore import export

        if isinstance(transform, str) or isinstance(size, str) or name != "model":
            raise UsageError("The graph in an exported folder is always called `model`. Give another export_root.")
        detector = detector_of(cast("Patchcore", self), transform)
        if known:
            detector = Detector.of(replace(detector.fitted, images=tuple(known)), device="cpu")
        folder = Path(root) / "weights" / format
        folder.parent.mkdir(parents=True, exist_ok=True)
        static = None if size is None else (int(size[0]), int(size[1]))
        beside = {METADATA: text} if (text := self._metadata()) else None
        export.save(detector, folder, format=format, precision=precision, static=static, images=images, beside=beside)
        return folder / _GRAPHS[format]

    def _metadata(self) -> str:
        """Thresholds and scale of `Engine.predict` as JSON, for the inferencers; empty without thresholds."""
        model = cast("Patchcore", self)
        limits = {"image_threshold": model.image_threshold, "pixel_threshold": model.pixel_threshold}
        if any(value.isnan() for value in limits.values()):
            return ""
        extremes = {"min": model.map_min.nan_to_num(), "max": model.map_max.nan_to_num()}
        return json.dumps({name: float(value) for name, value in {**limits, **extremes}.items()}, indent=1)
