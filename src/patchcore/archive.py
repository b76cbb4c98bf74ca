"""A detector as a file: what goes into the store, and how it comes back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from patchcore import backbones, store
from patchcore.calibration import Calibration
from patchcore.embedder import Embedder
from patchcore.errors import NotFittedError
from patchcore.memory.bank import Bank
from patchcore.recipe import Recipe

if TYPE_CHECKING:
    from patchcore.detector import Detector


@dataclass(frozen=True)
class Parts:
    """What a fitted detector is made of."""

    recipe: Recipe
    embedder: Embedder
    bank: Bank
    calibration: Calibration
    fingerprint: str  # SHA-256 over the pixels of the training pictures, in order


def parts_of(detector: Detector) -> Parts:
    """The parts of a detector. Errors: NotFittedError."""
    if detector.embedder is None or detector.bank is None or detector.calibration is None:
        raise NotFittedError("This detector has not been fitted. Call fit, or use Detector.load(path).")
    return Parts(detector.recipe, detector.embedder, detector.bank, detector.calibration, detector.fingerprint)


def header(parts: Parts) -> dict[str, Any]:
    """What the file says about a detector, in plain JSON values."""
    backbone = parts.embedder.backbone
    return {
        "recipe": parts.recipe.to_dict(),
        "backbone": {
            "source": backbone.source.to_dict(),
            "sha256": backbone.digest,
            "taps": backbone.extractor.taps,
            "channels": backbone.extractor.channels,
        },
        "bank": {
            "rows": len(parts.bank.rows),
            "dimensions": parts.bank.rows.shape[1],
            "pictures": list(parts.bank.pictures),
        },
        "calibration": parts.calibration.to_dict(),
        "data": {"pictures": len(parts.bank.pictures), "sha256": parts.fingerprint},
        "versions": store.versions(),
    }


def save(detector: Detector, path: str | Path, *, weights: bool) -> str:
    """Write a detector, with the weights that its taps need or only with their hash; returns its SHA-256."""
    parts = parts_of(detector)
    tensors = parts.bank.tensors()
    if weights and detector.network is None:
        tensors |= {f"weights.{name}": tensor for name, tensor in parts.embedder.backbone.state.items()}
    return store.write(path, tensors, header(parts))


def load(path: str | Path, *, device: torch.device, network: nn.Module | None, weights: str | None) -> Parts:
    """Read the parts of a detector back. Errors: StoreError, WeightsError."""
    tensors, head = store.read(path)
    recipe = store.field(path, head, "recipe", lambda data: Recipe(**data))
    backbone = backbones.rebuild(
        store.field(path, head, "backbone", lambda data: backbones.Source.from_dict(data["source"])),
        recipe.taps,
        recipe.seen,
        {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")},
        head["backbone"]["sha256"],
        name=recipe.backbone,
        weights=weights or recipe.weights,
        seed=recipe.seed,
        model=network,
    )
    pictures = store.field(path, head, "bank", lambda data: tuple(data["pictures"]))
    return Parts(
        recipe,
        Embedder(recipe, backbone, device),
        Bank(
            tensors["bank.rows"].float().to(device),
            tensors["bank.origins"],
            pictures,
            tensors["bank.scales"].to(device),
            recipe.search,
        ),
        store.field(path, head, "calibration", Calibration.from_dict),
        store.field(path, head, "data", lambda data: str(data["sha256"])),
    )
