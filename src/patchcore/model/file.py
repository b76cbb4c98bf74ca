"""The model file: what was learned, written and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from patchcore.backbones import registry
from patchcore.errors import MissingExtraError, PatchcoreError, StoreError, UsageError, WeightsError
from patchcore.memory.bank import Bank, check_search
from patchcore.model import check, store
from patchcore.model.album import Album
from patchcore.model.fitted import Fitted, Member
from patchcore.recipe.recipe import Recipe


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
        "data": {"images": len(fitted.images), "sha256": fitted.fingerprint, **_seen(fitted)},
        "versions": dict(store.versions()),
        **({"history": [dict(one) for one in fitted.history]} if fitted.history else {}),
        **_where(fitted),
    }


def _where(fitted: Fitted) -> dict[str, JsonValue]:
    """What was learned of areas, of the place of the part, and of images that do not show it."""
    units: dict[str, JsonValue] = {"area_units": list(fitted.units)} if fitted.units else {}
    units |= {"gate_limit": fitted.gate_limit} if fitted.gate_limit is not None else {}
    if fitted.reference is None:
        return units
    limit = fitted.reference.limit
    return {**units, "reference": {"source": list(fitted.reference.source), "limit": limit}}


def _seen(fitted: Fitted) -> dict[str, JsonValue]:
    """What was measured of the training images."""
    colours: dict[str, JsonValue] = {"red_blue": list(fitted.red_blue)} if fitted.red_blue else {}
    colours |= {"rejected": list(fitted.rejected)} if fitted.rejected else {}
    measured = fitted.measured._asdict()
    return colours | {name: min(value, 1e30) for name, value in measured.items() if value is not None}


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
    tensors = {**learned(fitted), **fitted.past}
    stored: set[str] = set()  # members with the same weights share them
    for number, member in enumerate(fitted.members):
        digest = member.backbone.digest
        if weights and member.backbone.source.architecture != "module" and digest not in stored:
            begin = f"{prefix(fitted.recipe, number)}weights."
            tensors |= {begin + name: tensor for name, tensor in member.backbone.state.items()}
            stored.add(digest)
    return store.write(path, tensors, header(fitted))


def learned(fitted: Fitted) -> dict[str, Tensor]:
    """The tensors of a file but for weights and what belongs to earlier versions."""
    tensors = fitted.album.tensors()
    if fitted.reference is not None:
        tensors["reference.grey"] = fitted.reference.grey
    for number, member in enumerate(fitted.members):
        tensors |= {prefix(fitted.recipe, number) + name: tensor for name, tensor in member.bank.tensors().items()}
    return tensors


def prefix(recipe: Recipe, number: int) -> str:
    """What the names of a member's tensors begin with."""
    return f"members.{number}." if recipe.members else ""


def read(path: str | Path, key: str | Path | None = None) -> tuple[dict[str, Tensor], store.Header, check.Checked]:
    """The tensors and the header of a detector's file, as they are and checked: they belong together.

    With `key`, only if the owner of that public key has signed it. Errors: StoreError (SignatureError).
    """
    tensors, head = store.read(path, key, accept=check.specs)
    with of_file(path):
        checked = check.header(path, head)
        for number, (recipe, about) in enumerate(zip(checked.recipe.each, checked.abouts, strict=True)):
            check.member(about, recipe, _own(checked.recipe, number, tensors), len(checked.images))
        album = Album.read(tensors, len(checked.images))
        check.gate(checked, album)
        reference = check.reference(checked, tensors.get("reference.grey"))
    return tensors, head, checked.model_copy(update={"album": album, "reference": reference})


def _own(recipe: Recipe, number: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a member, by the names that they have in a file of one."""
    begin = prefix(recipe, number)
    return {name.removeprefix(begin): tensor for name, tensor in tensors.items() if name.startswith(begin)}


@contextmanager
def of_file(path: str | Path) -> Iterator[None]:
    """What goes wrong with the contents of a file is an error of that file: StoreError, WeightsError.

    Networks, and what they are built by, may raise nearly anything where a file asks for what they do not do.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except Exception as error:
        kind = type(error) if isinstance(error, StoreError | WeightsError) else StoreError
        text = str(error) or type(error).__name__
        if str(path) in text:
            raise kind(text) from error
        more = "" if isinstance(error, PatchcoreError) else " It may be damaged: copy it again, or fit again."
        raise kind(f"{path}: {text.rstrip('.')}.{more}") from error


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
    tensors, _, checked = read(path, key)
    recipe = checked.recipe
    if recipe.members and network is not None:
        raise UsageError("This file holds an ensemble, whose members have their own backbones; leave `backbone` out.")
    states: dict[str, dict[str, Tensor]] = {}  # by digest
    members = []
    with of_file(path) if network is None else nullcontext():
        for number, (own_recipe, about) in enumerate(zip(recipe.each, checked.abouts, strict=True)):
            own, digest = _own(recipe, number, tensors), about.backbone.sha256
            state = {name.removeprefix("weights."): t for name, t in own.items() if name.startswith("weights.")}
            states.setdefault(digest, state)
            local = own_recipe.weights not in ("pretrained", "random") or not recipe.members
            backbone = registry.rebuild(
                about.source,
                own_recipe.taps,
                own_recipe.seen,
                states[digest],
                digest,
                name=own_recipe.backbone,
                weights=weights if weights and local else own_recipe.weights,
                seed=own_recipe.seed,
                model=network,
            )
            if tuple(backbone.extractor.channels) != about.backbone.channels:
                raise StoreError(
                    f"the taps of its network have {backbone.extractor.channels} channels; its header says "
                    f"{list(about.backbone.channels)}"
                )
            check_search(own_recipe.search, about.bank.rows)
            members.append(Member(own_recipe, backbone, Bank.of(own, own_recipe.search, device), about.unit))
    past = {name: tensor for name, tensor in tensors.items() if name.startswith("past.")}
    return Fitted(
        recipe, tuple(members), checked.calibration, checked.images, checked.fingerprint, checked.red_blue,
        checked.measured, checked.album, checked.history, past, checked.units, checked.reference,
        gate_limit=checked.gate_limit, rejected=checked.rejected,
    )  # fmt: skip
