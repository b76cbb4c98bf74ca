"""Inferencers: what runs an exported folder, with the names and paths of `anomalib.deploy.inferencers`."""

from patchcore.lightning.deploy.inferencers.openvino_inferencer import OpenVINOInferencer
from patchcore.lightning.deploy.inferencers.torch_inferencer import TorchInferencer

__all__ = ["OpenVINOInferencer", "TorchInferencer"]
