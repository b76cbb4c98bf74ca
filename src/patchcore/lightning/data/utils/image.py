"""Image files, by the functions that anomalib's scripts call."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from patchcore.data.images import read, to_tensor
from patchcore.data.reading import EXTENSIONS
from patchcore.data.sample import images_in
from patchcore.errors import DataError, UsageError


def get_image_filenames(path: str | Path, base_dir: str | Path | None = None) -> list[Path]:
    """An image, or those of a folder and its sub-folders, in order. `base_dir`: they have to be in it.

    Errors: DataError, UsageError.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"There is no {path}; expected an image or a folder of images.")
    if base_dir is not None and not path.resolve().is_relative_to(Path(base_dir).resolve()):
        raise UsageError(f"{path} is not in base_dir, {base_dir}.")
    return sorted(images_in(path, recursive=True)) if path.is_dir() else [path]


def generate_output_image_filename(input_path: str | Path, output_path: str | Path) -> Path:
    """Where to write what is drawn of an image: `output_path` or, in a folder, by the image's folder and name.

    A file that is there already is kept: the name gets a number. The folder is made. Errors: UsageError.
    """
    source, target = Path(input_path), Path(output_path)
    if source.resolve() == target.resolve():
        raise UsageError(f"{target} is the image itself; give another path to write to.")
    if target.suffix.lower() not in EXTENSIONS:  # a folder, whatever dots its name has
        target = target / source.parent.name / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    name, number = target, 1
    while name.exists():
        name, number = target.with_stem(f"{target.stem}_{number}"), number + 1
    return name


def read_image(path: str | Path, as_tensor: bool = False) -> NDArray[np.float32] | Tensor:
    """The pixels of a file, RGB in [0, 1]: an array (H, W, 3), or a tensor (3, H, W). Errors: ImageError."""
    pixels = to_tensor(read(path, str(path)), str(path)).expand(3, -1, -1).contiguous()
    return pixels if as_tensor else pixels.permute(1, 2, 0).contiguous().numpy()


def save_image(filename: str | Path, image: NDArray[Any], root: str | Path | None = None) -> None:
    """Write an array (H, W, 3), red, green, blue, uint8 or in [0, 1]. Errors: UsageError for anything else."""
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
        raise UsageError(f"An image of {type(image).__name__}; expected an array (H, W, 3).")
    target = Path(root or "", filename)
    target.parent.mkdir(parents=True, exist_ok=True)
    pixels = image if image.dtype == np.uint8 else (np.asarray(image, np.float32).clip(0, 1) * 255).round()
    Image.fromarray(pixels.astype(np.uint8)).save(target)


def show_image(image: NDArray[Any], title: str = "Image") -> NoReturn:
    """Opens no window. Errors: UsageError."""
    raise UsageError(f"{title}: no window is opened here. Write the image with save_image, or --output.")
