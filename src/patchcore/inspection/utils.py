"""Seeds, devices, and folders, tables and images of results."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from patchcore.data.images import read
from patchcore.data.masks import read_mask
from patchcore.errors import UsageError
from patchcore.files import appearing
from patchcore.files.text import write_csv
from patchcore.verdict import draw

Array = NDArray[Any]

COLUMNS = ("Instance AUROC", "Full Pixel AUROC", "Full PRO", "Anomaly Pixel AUROC", "Anomaly PRO")


def fix_seeds(seed: int, with_torch: bool = True, with_cuda: bool = True) -> None:
    """Seed Python, NumPy and torch; with CUDA, also make cuDNN use deterministic algorithms."""
    random.seed(seed)
    np.random.seed(seed)
    if with_torch:
        torch.manual_seed(seed)
    if with_cuda:
        torch.cuda.manual_seed_all(seed)
        torch.backends.cudnn.deterministic = True


def set_torch_device(gpu_ids: Sequence[int]) -> torch.device:
    """The first of the GPUs, or the CPU if none is listed."""
    return torch.device(f"cuda:{gpu_ids[0]}" if len(gpu_ids) else "cpu")


def create_storage_folder(
    main_folder_path: str | Path,
    project_folder: str,
    group_folder: str,
    mode: Literal["iterate", "overwrite"] = "iterate",
) -> str:
    """Create main/project/group and return its path; with `iterate`, an existing folder gets a numbered neighbour."""
    if mode not in ("iterate", "overwrite"):
        raise UsageError(f"mode is {mode!r}; expected iterate or overwrite.")
    folder = first = Path(main_folder_path) / project_folder / group_folder
    number = 0
    while mode == "iterate" and folder.exists():
        folder = first.with_name(f"{first.name}_{number}")
        number += 1
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def compute_and_store_final_results(
    results_path: str | Path,
    results: Sequence[Sequence[float]],
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] = COLUMNS,
) -> dict[str, float]:
    """Write results.csv, a row for each of `results` and their mean, and return the means as `mean_<column>`."""
    wrong = [row for row in results if len(row) != len(column_names)]
    if wrong or not len(results):
        raise UsageError(f"results has rows like {wrong[:1]}; expected rows with {len(column_names)} numbers each.")
    if row_names is not None and len(row_names) != len(results):
        raise UsageError(f"{len(row_names)} row_names for {len(results)} results; expected as many.")
    means = [float(mean) for mean in np.mean(np.asarray(results, dtype=float), axis=0)]
    names = row_names or [f"Row {number}" for number in range(len(results))]
    rows = [[name, *row] for name, row in zip(names, results, strict=True)]
    with appearing(Path(results_path) / "results.csv") as temporary:
        write_csv(temporary, [["Row Names", *column_names], *rows, ["Mean", *means]])
    return {f"mean_{name}": mean for name, mean in zip(column_names, means, strict=True)}


def plot_segmentation_images(
    savefolder: str | Path,
    image_paths: Sequence[str],
    segmentations: Sequence[Array],
    anomaly_scores: Sequence[float] | None = None,
    mask_paths: Sequence[str | None] | None = None,
    image_transform: Any = None,
    mask_transform: Any = None,
    save_depth: int = 4,
) -> None:
    """Write a sheet for each image: the image, its mask if it has one, and its map over it.

    All maps share one scale, up to their highest value. `image_transform` and `mask_transform` turn a PIL
    image into pixels (H, W, 3) or (3, H, W) and a mask (H, W) or (1, H, W), as `MVTecDataset` has them; by default both
    are resized to the map. The last `save_depth` parts of an image's path become the name of its sheet.
    """
    from PIL import Image

    Path(savefolder).mkdir(parents=True, exist_ok=True)
    count = len(image_paths)
    scale = max((float(np.max(one)) for one in segmentations), default=1.0) / 1.6  # where the colours end
    scores = [None] * count if anomaly_scores is None else anomaly_scores
    masks = [None] * count if mask_paths is None else mask_paths
    for path, values, score, mask in zip(image_paths, segmentations, scores, masks, strict=True):
        size = (values.shape[1], values.shape[0])
        original = Image.fromarray(draw.to_uint8(read(path, str(path), warnings=[])))
        pixels = _channels_last(image_transform(original) if image_transform else original.resize(size))
        sheet = [pixels.astype(np.uint8)]
        if mask is not None and mask != "-1":
            truth = Image.fromarray(read_mask(Path(mask), (original.height, original.width)))
            truth = mask_transform(truth) if mask_transform else truth.resize(size, Image.Resampling.NEAREST)
            sheet.append(np.repeat(np.asarray(truth).astype(np.uint8).reshape(values.shape)[..., None] * 255, 3, 2))
        sheet.append(np.asarray(draw.overlay(pixels.astype(np.uint8), values, scale)))
        name = "_".join(Path(path).parts[-save_depth:])
        image = Image.fromarray(np.concatenate(sheet, 1))
        with appearing(
            Path(savefolder) / f"{Path(name).stem}{'' if score is None else f'_{score:.4g}'}.png"
        ) as temporary:
            image.save(temporary, "PNG")


def _channels_last(image: Any) -> Array:
    """An image as pixels (H, W, C)."""
    pixels = np.asarray(image)
    return pixels.transpose(1, 2, 0) if pixels.shape[0] in (1, 3) and pixels.shape[-1] not in (1, 3) else pixels
