"""Data: images for a Trainer or an Engine, with the names of `anomalib.data`."""

import sys

from patchcore.lightning.data import folders
from patchcore.lightning.data.folders import Folder, MVTec, MVTecAD
from patchcore.lightning.data.module import ImageDataModule, ImageDataset
from patchcore.lightning.data.predict import PredictDataset
from patchcore.lightning.data.predictions import ImageBatch, ImageItem, NumpyImageBatch
from patchcore.lightning.data.utils import TestSplitMode, ValSplitMode

AnomalibDataModule = ImageDataModule  # anomalib's name of the base class

# Their longer paths, of version 1 and of version 2, lead to the module that has the same classes.
_PATHS = ("image", "image.folder", "image.mvtec", "datamodules", "datamodules.image", "datamodules.image.folder")
sys.modules.update({f"{__name__}.{path}": folders for path in (*_PATHS, "datamodules.image.mvtecad")})

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
