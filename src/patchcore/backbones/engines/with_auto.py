"""OpenVINO where it is installed, takes the backbone and agrees with torch, else torch."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from patchcore.backbones.engines import Engine, with_openvino, with_torch
from patchcore.backbones.registry import Backbone
from patchcore.errors import BackboneError, PatchcoreError

log = logging.getLogger(__name__)


def check(device: torch.device) -> None:
    """There is always torch."""


def start(backbone: Backbone, precision: str, device: torch.device, threads: int | None) -> Engine:
    """The engine; which one it is shows when the first image of a size comes."""
    plain = with_torch.start(backbone, precision, device, threads)
    try:
        with_openvino.check(device)
    except PatchcoreError as error:
        log.info("engine='auto' takes torch: %s", error)
        return plain
    return _Auto(with_openvino.start(backbone, precision, device, threads), plain)


class _Auto:
    """Never goes back to an engine that was refused, so that images of one stream are scored alike."""

    def __init__(self, fast: Engine, plain: Engine) -> None:
        self._fast, self._plain, self._refused = fast, plain, False

    def __call__(self, images: Tensor) -> list[Tensor]:
        if not self._refused:
            try:
                return self._fast(images)
            except BackboneError as error:
                self._refused = True
                log.info("engine='auto' takes torch: %s", error)
        return self._plain(images)
