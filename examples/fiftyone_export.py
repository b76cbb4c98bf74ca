"""Results for FiftyOne: regions as COCO, which it imports, and beside them scores and maps.

python examples/fiftyone_export.py parts.patchcore parts/test out

writes out/data (copies of the images), out/labels.json (regions, for `fiftyone.types.COCODetectionDataset`),
out/maps (heat maps as 8-bit PNG, 128 at the pixel threshold) and out/scores.json. `load` makes a dataset of them.
FiftyOne itself is needed only for that.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from patchcore import Detector, Result


def export(results: Iterable[Result], folder: Path) -> int:
    """Write results of image files into a new folder; how many there are."""
    for name in ("data", "maps"):
        (folder / name).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    scores: dict[str, dict[str, Any]] = {}
    for number, result in enumerate(results, 1):
        source, (height, width) = Path(result.name), result.frame.source
        name = f"{number:06d}{source.suffix}"  # images of several folders may have one name
        shutil.copyfile(source, folder / "data" / name)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for region in result.regions:
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": list(region.box),
                    "segmentation": [[value for point in outline for value in point] for outline in region.polygons],
                    "area": region.box[2] * region.box[3],
                    "iscrowd": 0,
                    "score": region.peak,
                }
            )
        heat = np.nan_to_num(result.map) * (128 / result.pixel_threshold if result.pixel_threshold > 0 else 1)
        Image.fromarray(heat.round().clip(0, 255).astype(np.uint8)).save(folder / "maps" / f"{name}.png")
        scores[name] = {
            "source": str(source),
            "score": result.score,
            "decision": result.decision,
            "nearest_image": result.nearest_image and result.nearest_image.name,
        }
    categories = [{"id": 1, "name": "defect", "supercategory": "defect"}]
    labels = {"info": {}, "images": images, "annotations": boxes, "categories": categories}
    for file, content in (("labels.json", labels), ("scores.json", scores)):
        (folder / file).write_text(json.dumps(content, indent=1), "utf-8")
    return len(images)


def load(folder: Path, name: str | None = None) -> Any:
    """The folder as a `fiftyone.Dataset`: fields regions, map, score, verdict and nearest_image."""
    import fiftyone

    dataset = fiftyone.Dataset.from_dir(
        dataset_dir=str(folder),
        dataset_type=fiftyone.types.COCODetectionDataset,
        label_field="regions",
        include_id=True,
        name=name,
    )
    scores = json.loads((folder / "scores.json").read_text("utf-8"))
    for sample in dataset:
        own = Path(sample.filepath).name
        found = scores[own]
        sample["score"], sample["nearest_image"] = found["score"], found["nearest_image"]
        sample["verdict"] = fiftyone.Classification(label=found["decision"])
        sample["map"] = fiftyone.Heatmap(map_path=str((folder / "maps" / f"{own}.png").resolve()))
        sample.save()
    return dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    number = export(Detector.load(options.model).stream(options.images), options.folder)
    print(f"{options.folder}: {number} images")


if __name__ == "__main__":
    main()
