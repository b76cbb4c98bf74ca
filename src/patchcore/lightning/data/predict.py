"""Images to predict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.data import default_collate
from torchvision.transforms.v2 import Transform

from patchcore.arguments import known_arguments
from patchcore.data.resolve import resolve
from patchcore.data.sample import Sample
from patchcore.errors import DataError
from patchcore.lightning.data.module import ImageDataset


class PredictDataset(ImageDataset):
    """The images at a path, a file or a folder with its sub-folders, as dicts of `image` and `image_path`.

    `transform` is applied to images (3, H, W) in [0, 1]; None: an Engine gives the model's, for `image_size` (height,
    width), or for one side of a square; without either, that of its last fit or else the model's own.
    Errors: DataError.
    """

    @known_arguments
    def __init__(
        self,
        path: str | Path,
        transform: Transform | None = None,
        image_size: int | tuple[int, int] | None = None,
    ) -> None:
        path = Path(path)
        if not path.exists():
            raise DataError(f"There is no {path}; expected an image or a folder of images.")
        found = resolve(path).samples
        super().__init__([Sample(one.name, one.image) for one in found], transform)
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else image_size

    @property
    def image_filenames(self) -> list[Path]:
        """The files, in the order of the items."""
        return [Path(str(sample.image)) for sample in self.samples]

    @property
    def collate_fn(self) -> Callable[[list[Any]], Any]:
        """Makes a batch of items: torch's own."""
        return default_collate
