"""The model file: what was learned, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from patchcore.backbones import registry
from patchcore.backbones.libraries import Source
from patchcore.errors import UsageError
from patchcore.memory.bank import Bank
from patchcore.model import store
from patchcore.model.fitted import Fitted, Member
from patchcore.recipe.fields import Recipe
from patchcore.verdict.calibration import Calibration


def header(fitted: Fitted) -> dict[str, JsonValue]:
    """What the file says about a model, in plain JSON values."""
    abouts = [_about(member) for member in fitted.members]
    if fitted.recipe.members:
        units = [member.unit for member in fitted.members]
        members: list[JsonValue] = [{**about, "unit": unit} for about, unit in zip(abouts, units, strict=True)]
        about: dict[str, JsonValue] = {"members": members, "bank": {"rows": fitted.rows}}
    else:
        about = abouts[0]
    bank = about["bank"]
    assert isinstance(bank, dict)
    return {
        "recipe": fitted.recipe.to_dict(),
        **about,
        "bank": {**bank, "images": list(fitted.images)},
        "calibration": fitted.calibration.to_dict(),
        "data": {"images": len(fitted.images), "sha256": fitted.fingerprint, **_red_blue(fitted)},
        "versions": dict(store.versions()),
    }


def _red_blue(fitted: Fitted) -> dict[str, JsonValue]:
    return {"red_blue": list(fitted.red_blue)} if fitted.red_blue else {}


def _about(member: Member) -> dict[str, JsonValue]:
    backbone = member.backbone
    return {
        "backbone": {
            "source": backbone.source.to_dict(),
            "sha256": backbone.digest,
            "taps": list(backbone.extractor.taps),
            "channels": list(backbone.extractor.channels),
        },
        "bank": {"rows": len(member.bank.rows), "dimensions": member.bank.rows.shape[1]},
    }


def save(fitted: Fitted, path: str | Path, *, weights: bool) -> str:
    """Write a model, with the weights that its taps need or only with their hash; returns its SHA-256."""
    tensors: dict[str, Tensor] = {}
    stored: set[str] = set()  # members with the same weights share them
    for number, member in enumerate(fitted.members):
        own, digest = member.bank.tensors(), member.backbone.digest
        if weights and member.backbone.source.architecture != "module" and digest not in stored:
            own |= {f"weights.{name}": tensor for name, tensor in member.backbone.state.items()}
            stored.add(digest)
        tensors |= {_prefix(fitted.recipe, number) + name: tensor for name, tensor in own.items()}
    return store.write(path, tensors, header(fitted))


def _prefix(recipe: Recipe, number: int) -> str:
    """What the names of a member's tensors begin with."""
    return f"members.{number}." if recipe.members else ""


def load(
    path: str | Path,
    *,
    device: torch.device,
    network: nn.Module | None = None,
    weights: str | None = None,
    key: str | Path | None = None,
) -> Fitted:
    """Read a model back; with `key`, only if the owner of that public key has signed it.

    Errors: StoreError (SignatureError), WeightsError, UsageError.
    """
    tensors, head = store.read(path, key)
    recipe = store.field(path, head, "recipe", lambda data: Recipe(**data))
    if recipe.members and network is not None:
        raise UsageError("This file holds an ensemble, whose members have their own backbones; leave `backbone` out.")
    abouts = store.field(path, head, "members", list) if recipe.members else [head]
    states: dict[str, dict[str, Tensor]] = {}  # by digest
    members = []
    for number, (own_recipe, about) in enumerate(zip(recipe.each, abouts, strict=True)):
        begin = _prefix(recipe, number)
        own = {name.removeprefix(begin): tensor for name, tensor in tensors.items() if name.startswith(begin)}
        digest = about["backbone"]["sha256"]
        state = {name.removeprefix("weights."): t for name, t in own.items() if name.startswith("weights.")}
        states.setdefault(digest, state)
        local = own_recipe.weights not in ("pretrained", "random") or not recipe.members
        backbone = registry.rebuild(
            store.field(path, about, "backbone", lambda data: Source.from_dict(data["source"])),
            own_recipe.taps,
            own_recipe.seen,
            states[digest],
            digest,
            name=own_recipe.backbone,
            weights=weights if weights and local else own_recipe.weights,
            seed=own_recipe.seed,
            model=network,
        )
        rows, scales = own["bank.rows"].float().to(device), own["bank.scales"].to(device)
        bank = Bank(rows, own["bank.origins"], scales, own_recipe.search)
        unit = store.field(path, about, "unit", float) if recipe.members else 1.0
        members.append(Member(own_recipe, backbone, bank, unit))
    return Fitted(
        recipe,
        tuple(members),
        store.field(path, head, "calibration", Calibration.from_dict),
        store.field(path, head, "bank", lambda data: tuple(data["images"])),
        store.field(path, head, "data", lambda data: str(data["sha256"])),
        store.field(path, head, "data", _read_red_blue),
    )


def _read_red_blue(data: Mapping[str, Any]) -> tuple[float, float] | None:
    if "red_blue" not in data:  # also of an earlier version
        return None
    low, high = map(float, data["red_blue"])
    return low, high
