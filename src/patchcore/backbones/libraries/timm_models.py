"""Networks of timm, whose weights come from the Hugging Face hub or its cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from patchcore.backbones.libraries import Library, Source, offline
from patchcore.backbones.weight_files import announce_download, read_state
from patchcore.errors import BackboneError, WeightsError, nearest_name


def _source(name: str) -> Source:
    import timm

    base = name.partition(".")[0]
    if not timm.is_model(name):
        raise BackboneError(
            f"There is no backbone {name!r}.{nearest_name(base, [*offline(), *timm.list_models()])} "
            f"`patchcore backbones` lists those that need no network."
        )
    try:
        config: Any = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:
        tags = timm.list_pretrained(f"{base}.*")
        raise BackboneError(f"timm has no weights {name!r}; it has {', '.join(tags) or 'none'}.") from None
    interpolation: Literal["bilinear", "bicubic"] = "bicubic" if config.interpolation == "bicubic" else "bilinear"
    tag = f"timm {base}.{config.tag}" if config.tag else f"timm {base}"
    return Source(f"timm:{name}", tag, config.license or "see timm", config.mean, config.std, interpolation)


def create(name: str, size: tuple[int, int]) -> nn.Module:
    """A network of timm with random weights, for images of (height, width) pixels where it takes any size."""
    import timm

    variable: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"img_size": size, "strict_img_size": False})
    for options in variable:
        try:
            return timm.create_model(name, pretrained=False, **options)
        except (TypeError, AssertionError):  # not every architecture has that option
            continue
    return timm.create_model(name, pretrained=False)


def _pretrained(name: str, model: nn.Module) -> dict[str, Tensor]:
    import huggingface_hub as hub
    import timm

    config: Any = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if not config.hf_hub_id:
        raise WeightsError(f"timm lists no pretrained weights for {name}")
    # The hub's client retries for most of a minute without a network; asking the cache first, and
    # for a connection next, answers at once.
    for file in ("model.safetensors", "pytorch_model.bin"):
        cached = hub.try_to_load_from_cache(config.hf_hub_id, file)
        if isinstance(cached, str):
            return read_state(Path(cached))
    announce_download(hub.constants.ENDPOINT)
    return read_state(Path(hub.hf_hub_download(config.hf_hub_id, "model.safetensors")))


LIBRARY = Library("timm", _source, create, _pretrained)
