"""MVTecDataset: images and masks of a folder in the MVTec AD layout, as tensors."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from patchcore.backbones.libraries import IMAGENET_MEAN, IMAGENET_STD
from patchcore.data.images import read, to_tensor
from patchcore.data.masks import read_mask
from patchcore.data.reading import Reading
from patchcore.data.resolve import detect
from patchcore.data.sample import GOOD, Sample, folders_in
from patchcore.errors import DataError, UsageError
from patchcore.maths import resize as frames
from patchcore.pipeline.workers import distinct


class DatasetSplit(Enum):
    """The part of a dataset."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class MVTecDataset(Dataset[dict[str, Any]]):
    """Images below `source/classname`, with their labels and masks, as dicts.

    Keys: `image` (3, H, W) float32; `mask` (1, H, W) float32, 1 inside a defect, resized by nearest; `classname`;
    `anomaly`, the kind of defect or `good`; `is_anomaly`, 0 or 1; `image_name`, the last four parts of the path;
    `image_path`. Errors: DataError, UsageError, ImageError.

    Args:
        source: The dataset's folder.
        classname: The class; None: every class below `source`.
        resize: Shorter side of an image after resizing, which is antialiased.
        imagesize: Side of the square that is then cropped from the centre.
        split: TRAIN: the first share `train_val_split` of `train/good`; VAL: the rest of it; TEST: all
            of `test`. Where it is split, copies of one image count once.
        train_val_split: That share.
        mean, std: Normalise the pixels, which are in [0, 1], for each channel.
        interpolation: Kernel of the resize.
    """

    def __init__(
        self,
        source: str | Path,
        classname: str | None,
        resize: int = 256,
        imagesize: int = 224,
        split: DatasetSplit = DatasetSplit.TRAIN,
        train_val_split: float = 1.0,
        *,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    ) -> None:
        super().__init__()
        if not isinstance(split, DatasetSplit):
            raise UsageError(f"split is {split!r}; expected DatasetSplit.TRAIN, VAL or TEST.")
        if not 0 < train_val_split <= 1:
            raise UsageError(f"train_val_split is {train_val_split}; expected a share above 0 and at most 1.")
        if imagesize > resize:
            raise UsageError(f"imagesize is {imagesize}; expected at most {resize}, the shorter side after resizing.")
        self.source, self.split, self.train_val_split = Path(source), split, train_val_split
        self.classnames_to_use = [classname] if classname is not None else _classes(self.source)
        self.resize, self.imagesize = resize, (3, imagesize, imagesize)
        self.transform_mean, self.transform_std, self.interpolation = mean, std, interpolation
        self.data_to_iterate = [(name, sample) for name in self.classnames_to_use for sample in self._samples(name)]

    def __len__(self) -> int:
        return len(self.data_to_iterate)

    def __getitem__(self, index: int) -> dict[str, Any]:
        classname, sample = self.data_to_iterate[index]
        path = Path(str(sample.image))
        pixels = read(path, str(path))
        frame = frames.short_side_frame(pixels.shape[:2], self.resize, self.imagesize[1:], 1)
        return {
            "image": self._image(pixels, str(path), frame),
            "classname": classname,
            "anomaly": sample.kind,
            "is_anomaly": int(sample.kind != GOOD),
            "image_name": "/".join(path.parts[-4:]),
            "image_path": str(path),
            "mask": self._mask(sample, frame),
        }

    def _samples(self, classname: str) -> list[Sample]:
        found = detect(self.source / classname)
        if self.split is DatasetSplit.TEST:
            return found.test
        train = distinct(found.train, Reading()) if self.train_val_split < 1 else found.train  # no copy on both sides
        kept = int(len(train) * self.train_val_split)
        if self.split is DatasetSplit.TRAIN:
            return train[:kept]
        if kept == len(train):
            raise DataError(
                f"{self.source / classname}: train_val_split={self.train_val_split:g} leaves no image of train/good "
                "for VAL. Use a smaller share, for example 0.8."
            )
        return train[kept:]

    def _image(self, pixels: Any, name: str, frame: frames.Frame) -> Tensor:
        image = frames.place(to_tensor(pixels, name), frame, self.interpolation)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.transform_mean, self.transform_std))
        return (image - mean) / std

    def _mask(self, sample: Sample, frame: frames.Frame) -> Tensor:
        if sample.mask is None:
            return torch.zeros(1, *self.imagesize[1:])
        height, width = frame.resized
        mask = Image.fromarray(read_mask(sample.mask, frame.source)).resize((width, height), Image.Resampling.NEAREST)
        top, left = -frame.offset[0], -frame.offset[1]
        cut = np.asarray(mask, np.float32)[top : top + self.imagesize[1], left : left + self.imagesize[2]]
        return torch.from_numpy(cut.copy())[None]


def _classes(source: Path) -> list[str]:
    found = [folder.name for folder in folders_in(source) if (folder / "train" / GOOD).exists()]
    if not found:
        raise DataError(f"{source} holds no class: expected folders such as {source / 'bottle' / 'train' / 'good'}.")
    return found
