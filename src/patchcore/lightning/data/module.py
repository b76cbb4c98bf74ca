"""Images for a Trainer, from a folder, the MVTec AD layout or a CSV table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from lightning import LightningDataModule
from lightning.fabric.utilities import suggested_max_num_workers
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import Identity, Transform

from patchcore.arguments import known_arguments
from patchcore.data.images import read, to_tensor
from patchcore.data.masks import read_mask
from patchcore.data.reading import Reading
from patchcore.data.resolve import detect
from patchcore.data.sample import GOOD, Sample
from patchcore.data.sample import Dataset as Found
from patchcore.errors import DataError, UsageError
from patchcore.lightning import configuration
from patchcore.lightning.batches import Batch
from patchcore.lightning.data.utils import TaskType
from patchcore.lightning.torch_model import RECIPE
from patchcore.pipeline.copies import distinct
from patchcore.verdict.calibration import hold_out


class ImageDataset(Dataset[Batch]):
    """Samples as dicts by anomalib's names: `image` (3, H, W), `image_path`, `label` (0 good, 1 defective) if all are
    labelled and, if all defective ones have masks, `mask` (H, W). `transform` is applied to image and mask; None:
    neither."""

    def __init__(self, samples: Sequence[Sample], transform: Transform | None = None) -> None:
        self.samples, self.transform = list(samples), transform
        defective = [s for s in self.samples if s.kind not in (GOOD, None)]
        self.labelled = all(s.kind is not None for s in self.samples)
        self.masked = bool(defective) and all(s.mask is not None for s in defective)

    @property
    def task(self) -> TaskType:
        """Whether there are masks."""
        return TaskType.SEGMENTATION if self.masked else TaskType.CLASSIFICATION

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        sample = self.samples[index]
        path = str(sample.image)
        pixels = read(sample.image, path)
        image = tv_tensors.Image(to_tensor(pixels, path).expand(3, -1, -1))
        transform = self.transform or Identity()
        item: dict[str, Any] = {"image_path": path}
        if self.labelled:
            item["label"] = int(sample.kind != GOOD)
        if self.masked:
            size = (pixels.shape[0], pixels.shape[1])
            mask = (
                torch.from_numpy(read_mask(sample.mask, size)) if sample.mask else torch.zeros(size, dtype=torch.bool)
            )
            image, mask = transform(image, tv_tensors.Mask(mask))
            item["mask"] = mask.as_subclass(torch.Tensor)
        else:
            image = transform(image)
        return Batch(image=image.as_subclass(torch.Tensor), **item)


class ImageDataModule(LightningDataModule):
    """Images for training (good), validation (good, held out as by `Detector.fit` to set the thresholds), testing
    (labelled) and predicting (those for testing or, in a plain folder, all). Errors: DataError, ImageError.

    Args:
        root: A folder of good images, a dataset in the MVTec AD layout, or a CSV table.
        train_batch_size, eval_batch_size: Images in a batch for training, and for everything else.
        num_workers: Processes that read images; None: chosen to suit the machine.
        image_size: Argument for the model's `configure_transforms`.
        transform: Applied to images (3, H, W) in [0, 1]; None: the model's `configure_transforms`.
        calibration_share: Share of the good images that is held out for validation; 0: no validation.
            Of copies, pixel for pixel, only the first is used.
        seed: Draws the images to hold out.
    """

    @known_arguments
    def __init__(
        self,
        root: str | Path,
        *,
        train_batch_size: int = 32,
        eval_batch_size: int = 32,
        num_workers: int | None = None,
        image_size: tuple[int, int] | None = None,
        transform: Transform | None = None,
        calibration_share: float = RECIPE.calibration_share,
        seed: int = RECIPE.seed,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.train_batch_size, self.eval_batch_size, self.num_workers = train_batch_size, eval_batch_size, num_workers
        self.image_size, self.transform = image_size, transform
        self._divide(detect(self.root), calibration_share, seed)

    @classmethod
    def from_config(cls, config_path: str | Path, **kwargs: Any) -> Self:
        """The data module of a configuration file, by `class_path` and `init_args`, also in a section `data`.

        `kwargs` replace single arguments: `**{"data.train_batch_size": 8}`. Errors: FileNotFoundError, UsageError.
        """
        name, arguments = configuration.data_of(config_path, kwargs)
        return configuration.kind_of(cls, name, "data")(**arguments)

    def _divide(self, found: Found, calibration_share: float, seed: int) -> None:
        if not 0 <= calibration_share < 1:
            raise UsageError(f"calibration_share is {calibration_share}; it must be at least 0 and less than 1.")
        self.train, self.calibration = found.train, list[Sample]()
        if calibration_share:
            train = distinct(found.train, Reading())
            kept, held_out = hold_out([digest.hex() for digest in train], calibration_share, seed)
            self.train, self.calibration = ([list(train.values())[i] for i in own] for own in (kept, held_out))
        self.test = found.test
        self.everything = found.test or [Sample(s.name, s.image) for s in found.train]

    def setup(self, stage: str | None = None) -> None:
        """Nothing: images are found when this is made, and read when they are needed."""

    def train_dataloader(self) -> DataLoader[Batch]:
        """Good images, ordered by name."""
        if not self.train:
            raise DataError(f"{self.root} has no good images to learn from.")
        return self._loader(self.train, self.train_batch_size, training=True)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Good images that are held out of the bank."""
        return self._loader(self.calibration, self.eval_batch_size) if self.calibration else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Labelled images."""
        if not self.test:
            raise DataError(f"{self.root} has no labelled images to test on; expected test/<kind> folders, or a "
                            "CSV table with a label column.")  # fmt: skip
        return self._loader(self.test, self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The images for testing; without any, as in a plain folder, the good images."""
        return self._loader(self.everything, self.eval_batch_size)

    def transform_of(self, training: bool) -> Transform | None:
        """The transform of images for training, or of all others; None if there is none, and no model yet."""
        if self.transform is not None:
            return self.transform
        configure = getattr(getattr(self.trainer, "lightning_module", None), "configure_transforms", None)
        return None if configure is None else configure(self.image_size)

    def _loader(self, samples: Sequence[Sample], batch_size: int, training: bool = False) -> DataLoader[Batch]:
        transform = self.transform_of(training)
        if transform is None:
            raise UsageError("There is no transform: give one, or pass the data to a Trainer with a Patchcore.")
        workers = self.num_workers
        if workers is None:  # a single worker would only take turns with this process
            workers = min(8, suggested_max_num_workers(self.trainer.num_devices if self.trainer else 1))
            workers = 0 if workers < 2 else workers
        return DataLoader(ImageDataset(samples, transform), batch_size=batch_size, num_workers=workers)
