"""Data: images for a Trainer or an Engine, with the names of `anomalib.data`."""

from patchcore.lightning.data.folders import Folder, MVTec, MVTecAD
from patchcore.lightning.data.module import ImageDataModule, ImageDataset
from patchcore.lightning.data.predict import PredictDataset
from patchcore.lightning.data.predictions import ImageBatch, ImageItem, NumpyImageBatch
from patchcore.lightning.data.utils import TestSplitMode, ValSplitMode

AnomalibDataModule = ImageDataModule  # anomalib's name of the base class

__all__ = [
    "AnomalibDataModule",
    "Folder",
    "ImageBatch",
    "ImageDataModule",
    "ImageDataset",
    "ImageItem",
    "MVTec",
    "MVTecAD",
    "NumpyImageBatch",
    "PredictDataset",
    "TestSplitMode",
    "ValSplitMode",
]
