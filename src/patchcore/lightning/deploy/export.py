"""The formats and precisions of exported models, as `anomalib.deploy` names them."""

from __future__ import annotations

from enum import Enum


class ExportType(str, Enum):
    """A format to export to."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    TORCH = "torch"


class CompressionType(str, Enum):
    """How the weights of an OpenVINO model are stored."""

    FP16 = "fp16"
    INT8 = "int8"
    INT8_PTQ = "int8_ptq"
    INT8_ACQ = "int8_acq"
