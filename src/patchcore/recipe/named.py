"""The named recipes: each states only what differs from the default."""

from __future__ import annotations

from typing import Any

# name: (one line for people, fields of Recipe)
NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("the best balance of accuracy and speed with offline weights", {}),
    "accurate": (
        "accuracy first: three sizes, their scores joined",
        {"members": [{"size": size} for size in (256, 224, 192)]},
    ),
    "few_shot": (
        "for up to some 30 good images: remembers every patch, and those of the mirrored images",
        {"ratio": 1.0, "max_rows": 10_000, "scaling": "none", "augment": ("flip_h",)},
    ),
    "fast": ("the fastest that is still useful: a smaller image and bank", {"size": 192, "ratio": 0.01}),
    "lightning": (
        "the choices of anomalib v1: 256 cropped to 224, layer2 + layer3, eq. 7 (downloads its weights)",
        {
            "backbone": "wide_resnet50_2",
            "resize": "short_side",
            "size": 256,
            "crop": 224,
            "interpolation": "bilinear",
            "exposure": "as_is",
            "ratio": 0.1,
            "scaling": "none",
            "projection": "sparse",
            "projection_from": 1,
            "start": "random",
            "image_score": "reweighted",
            "upsample": "nearest",
            "map_border": "mirror",
        },
    ),
    "inspection": (
        "the choices of patchcore-inspection: 256 cropped to 224, binned patches, squared distances "
        "(downloads its weights)",
        {
            "backbone": "wide_resnet50_2.tv_in1k",
            "resize": "short_side",
            "size": 256,
            "crop": 224,
            "interpolation": "bilinear",
            "exposure": "as_is",
            "ratio": 0.1,
            "pool": "bins",
            "merge": "bins",
            "scaling": "none",
            "projection": "dense",
            "projection_from": 1,
            "start": "mean_of_ten",
            "distance": "squared_l2",
            "image_score": "max",
        },
    ),
}
