"""COCO: the regions of many results as one file that pycocotools, and what labels and trains with COCO, can load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from patchcore.result import Result

_CATEGORY = 1


def image(number: int, result: Result) -> dict[str, Any]:
    """An entry of `images`, whose numbers begin with 1."""
    height, width = result.frame.source
    return {"id": number, "file_name": result.name, "width": width, "height": height, "decision": result.decision}


def boxes(number: int, result: Result) -> list[dict[str, Any]]:
    """The entries of `annotations` for an image, but for their ids: in pixels, whatever the recipe measures in."""
    side = result.recipe.mm_per_pixel or 1.0
    return [
        {
            "image_id": number,
            "category_id": _CATEGORY,
            "bbox": list(one.box),
            "segmentation": [[value for point in polygon for value in point] for polygon in one.polygons],
            "area": round(one.area / side**2),
            "iscrowd": 0,
            "score": one.peak,
        }
        for one in result.regions
    ]


def dataset(images: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], version: str) -> dict[str, Any]:
    """The file."""
    return {
        "info": {"description": f"Defect regions found by patchcore {version}", "version": version},
        "images": list(images),
        "annotations": [{"id": number, **one} for number, one in enumerate(found, 1)],
        "categories": [{"id": _CATEGORY, "name": "defect", "supercategory": "defect"}],
    }
