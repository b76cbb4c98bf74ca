"""A detector as a file: what goes into the store, and how it comes back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from patchcore import backbones, ensemble, store
from patchcore.calibration import Calibration
from patchcore.embedder import Embedder
from patchcore.errors import NotFittedError, UsageError
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
    fingerprint: str  # SHA-256 over the pixels of the training images, in order


def parts_of(detector: Detector) -> Parts:
    """The parts of a detector. Errors: NotFittedError."""
    if detector.embedder is None or detector.bank is None or detector.calibration is None:
        raise NotFittedError("This detector has not been fitted. Call fit, or use Detector.load(path).")
    return Parts(detector.recipe, detector.embedder, detector.bank, detector.calibration, detector.fingerprint)


def header(parts: Parts) -> dict[str, Any]:
    """What the file says about a detector, in plain JSON values."""
    bank = parts.bank
    if isinstance(bank, ensemble.Banks):
        each = zip(ensemble.members_of(parts.embedder), bank.members, bank.units, strict=True)
        members = [{**_about(embedder, own), "unit": unit} for embedder, own, unit in each]
        about: dict[str, Any] = {"members": members, "bank": {"rows": sum(len(own.rows) for own in bank.members)}}
    else:
        about = _about(parts.embedder, bank)
    about["bank"]["images"] = list(bank.images)
    return {
        "recipe": parts.recipe.to_dict(),
        **about,
        "calibration": parts.calibration.to_dict(),
        "data": {"images": len(bank.images), "sha256": parts.fingerprint},
        "versions": store.versions(),
    }


def _about(embedder: Embedder, bank: Bank) -> dict[str, Any]:
    """A detector of one recipe, or a member of an ensemble."""
    backbone = embedder.backbone
    return {
        "backbone": {
            "source": backbone.source.to_dict(),
            "sha256": backbone.digest,
            "taps": backbone.extractor.taps,
            "channels": backbone.extractor.channels,
        },
        "bank": {"rows": len(bank.rows), "dimensions": bank.rows.shape[1]},
    }


def save(detector: Detector, path: str | Path, *, weights: bool) -> str:
    """Write a detector, with the weights that its taps need or only with their hash; returns its SHA-256."""
    parts = parts_of(detector)
    members = zip(ensemble.members_of(parts.embedder), ensemble.banks_of(parts.bank), strict=True)
    tensors: dict[str, Tensor] = {}
    stored: set[str] = set()  # members with the same weights share them
    for number, (embedder, bank) in enumerate(members):
        own = bank.tensors()
        if weights and detector.network is None and embedder.backbone.digest not in stored:
            own |= {f"weights.{name}": tensor for name, tensor in embedder.backbone.state.items()}
            stored.add(embedder.backbone.digest)
        tensors |= {_name(parts.recipe, number) + name: tensor for name, tensor in own.items()}
    return store.write(path, tensors, header(parts))


def _name(recipe: Recipe, number: int) -> str:
    """What the names of a member's tensors begin with."""
    return f"members.{number}." if recipe.members else ""


def load(path: str | Path, *, device: torch.device, network: nn.Module | None, weights: str | None) -> Parts:
    """Read the parts of a detector back. Errors: StoreError, WeightsError."""
    tensors, head = store.read(path)
    recipe = store.field(path, head, "recipe", lambda data: Recipe(**data))
    images = store.field(path, head, "bank", lambda data: tuple(data["images"]))
    if recipe.members and network is not None:
        raise UsageError("This file holds an ensemble, whose members have their own backbones; leave `backbone` out.")
    abouts = store.field(path, head, "members", list) if recipe.members else [head]
    states: dict[str, dict[str, Tensor]] = {}  # by digest
    embedders, banks = [], []
    for number, (part, about) in enumerate(zip(recipe.parts, abouts, strict=True)):
        begin = _name(recipe, number)
        own = {name.removeprefix(begin): tensor for name, tensor in tensors.items() if name.startswith(begin)}
        digest = about["backbone"]["sha256"]
        state = {name.removeprefix("weights."): t for name, t in own.items() if name.startswith("weights.")}
        states.setdefault(digest, state)
        local = part.weights not in ("pretrained", "random") or not recipe.members
        backbone = backbones.rebuild(
            store.field(path, about, "backbone", lambda data: backbones.Source.from_dict(data["source"])),
            part.taps,
            part.seen,
            states[digest],
            digest,
            name=part.backbone,
            weights=weights if weights and local else part.weights,
            seed=part.seed,
            model=network,
        )
        embedders.append(Embedder(part, backbone, device))
        rows, scales = own["bank.rows"].float().to(device), own["bank.scales"].to(device)
        banks.append(Bank(rows, own["bank.origins"], images, scales, part.search))
    bank, embedder = banks[0], embedders[0]
    if recipe.members:
        units = store.field(path, head, "members", lambda data: [float(one["unit"]) for one in data])
        bank, embedder = ensemble.Banks.of(banks, recipe.parts, units), ensemble.Embedders(*embedders)
    return Parts(
        recipe,
        embedder,
        bank,
        store.field(path, head, "calibration", Calibration.from_dict),
        store.field(path, head, "data", lambda data: str(data["sha256"])),
    )
