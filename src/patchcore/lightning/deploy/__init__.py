"""Deploy: formats of exported models, and what runs them, with the names of `anomalib.deploy`."""

from patchcore.lightning.deploy.export import CompressionType, ExportType
from patchcore.lightning.deploy.inferencers import OpenVINOInferencer, TorchInferencer

__all__ = ["CompressionType", "ExportType", "OpenVINOInferencer", "TorchInferencer"]
