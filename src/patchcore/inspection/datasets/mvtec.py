"""MVTecDataset: images and masks of a folder in the MVTec AD layout, as tensors."""

from __future__ import annotations

import warnings
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
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
from patchcore.pipeline.copies import distinct


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
        seed, augment: Have no effect, as in patchcore-inspection, whose scripts give them; `augment=True` warns.

    Attributes:
        data_to_iterate: A row for each image: class, kind, path of the image, path of its mask or None.
        imgpaths_per_class: The paths by class and kind.
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
        seed: int | None = None,
        augment: bool = False,
    ) -> None:
        super().__init__()
        if augment:
            warnings.warn("augment has no effect, as in patchcore-inspection: leave it out.", stacklevel=2)
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
        self.imgpaths_per_class, self.data_to_iterate = self.get_image_data()

    def __len__(self) -> int:
        return len(self.data_to_iterate)

    def __getitem__(self, index: int) -> dict[str, Any]:
        classname, kind, image, mask = self.data_to_iterate[index]
        path = Path(image)
        pixels = read(path, image)
        truth = None if mask is None else read_mask(Path(mask), pixels.shape[:2])
        return {
            "image": self._image(pixels, image),
            "classname": classname,
            "anomaly": kind,
            "is_anomaly": int(kind != GOOD),
            "image_name": "/".join(path.parts[-4:]),
            "image_path": image,
            "mask": torch.zeros(1, *self.imagesize[1:]) if truth is None else self._mask(truth),
        }

    def get_image_data(self) -> tuple[dict[str, dict[str, list[str]]], list[list[Any]]]:
        """`imgpaths_per_class` and `data_to_iterate`, as the folders are now. Errors: DataError."""
        paths, rows = dict[str, dict[str, list[str]]](), list[list[Any]]()
        for name in self.classnames_to_use:
            for sample in self._samples(name):
                image, kind, mask = str(sample.image), str(sample.kind), sample.mask
                rows.append([name, kind, image, None if mask is None else str(mask)])
                paths.setdefault(name, {}).setdefault(kind, []).append(image)
        return paths, rows

    def transform_img(self, image: Image.Image) -> Tensor:
        """A PIL image as the network sees it: resized, cropped and normalised, (3, H, W)."""
        return self._image(np.asarray(image.convert("RGB")), "image")

    def transform_mask(self, mask: Image.Image) -> Tensor:
        """A PIL mask, resized by nearest and cropped: (1, H, W), 1 where it is not black."""
        return self._mask(np.asarray(mask.convert("L")) > 0)

    def _samples(self, classname: str) -> list[Sample]:
        found = detect(self.source / classname)
        if self.split is DatasetSplit.TEST:
            return found.test
        train = found.train
        if self.train_val_split < 1:  # no copy on both sides
            train = list(distinct(train, Reading()).values())
        kept = int(len(train) * self.train_val_split)
        if self.split is DatasetSplit.TRAIN:
            return train[:kept]
        if kept == len(train):
            raise DataError(
                f"{self.source / classname}: train_val_split={self.train_val_split:g} leaves no image of train/good "
                "for VAL. Use a smaller share, for example 0.8."
            )
        return train[kept:]

    def _frame(self, size: tuple[int, ...]) -> frames.Frame:
        height, width = size
        return frames.short_side_frame((height, width), self.resize, self.imagesize[1:], 1)

    def _image(self, pixels: Any, name: str) -> Tensor:
        image = frames.place(to_tensor(pixels, name), self._frame(pixels.shape[:2]), self.interpolation)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.transform_mean, self.transform_std))
        return (image - mean) / std

    def _mask(self, mask: NDArray[np.bool_]) -> Tensor:
        frame = self._frame(mask.shape)
        height, width = frame.resized
        resized = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
        top, left = -frame.offset[0], -frame.offset[1]
        cut = np.asarray(resized, np.float32)[top : top + self.imagesize[1], left : left + self.imagesize[2]]
        return torch.from_numpy(cut.copy())[None]


def _classes(source: Path) -> list[str]:
    found = [folder.name for folder in folders_in(source) if (folder / "train" / GOOD).exists()]
    if not found:
        raise DataError(f"{source} holds no class: expected folders such as {source / 'bottle' / 'train' / 'good'}.")
    return found
