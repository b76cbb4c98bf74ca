"""NetworkFeatureAggregator: the feature maps of some layers of a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from patchcore.backbones import Extractor
from patchcore.backbones.weight_files import digest_of
from patchcore.errors import UsageError, WeightsError


class NetworkFeatureAggregator(nn.Module):
    """Images (B, 3, H, W) -> {layer: (B, C, h, w)}. The network is run up to the deepest of the layers.

    `layers_to_extract_from`: module names in dot notation, of any depth and in any order. `backbone` is
    changed: it is moved to `device`, put in evaluation mode, and its gradients are switched off.
    Errors: UsageError, BackboneError for a layer that the network does not have.
    """

    def __init__(self, backbone: nn.Module, layers_to_extract_from: Sequence[str], device: torch.device | str) -> None:
        super().__init__()
        if isinstance(layers_to_extract_from, str) or not layers_to_extract_from:
            raise UsageError(
                f"layers_to_extract_from is {layers_to_extract_from!r}; expected a list of names, for example "
                "['layer2', 'layer3']."
            )
        self.layers_to_extract_from = list(layers_to_extract_from)
        if len(set(self.layers_to_extract_from)) < len(self.layers_to_extract_from):
            raise UsageError(f"layers_to_extract_from is {self.layers_to_extract_from}; expected each layer only once.")
        self.device = torch.device(device)
        self.backbone = backbone.to(self.device).eval().requires_grad_(False)
        self._extractor: list[Extractor] = []  # in a list, so that its weights are not registered twice

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        taps = self.extractor(images.shape[1:])(images)
        return dict(zip(self.layers_to_extract_from, taps, strict=True))

    def feature_dimensions(self, input_shape: Sequence[int]) -> list[int]:
        """The number of channels of each layer for images of (channels, height, width)."""
        return self.extractor(input_shape).channels

    @torch.no_grad()
    def training_pass(self, input_shape: Sequence[int]) -> None:
        """Read an image of ones (channels, height, width) in training mode, up to the deepest of the layers.

        That moves the running statistics of batch normalisations once. patchcore-inspection finds `feature_dimensions`
        so, with networks as timm makes them, and every model of it was fitted with what comes of that.
        """
        extractor = self.extractor(input_shape)
        before = self._statistics()
        self.backbone.train()
        try:
            extractor(torch.ones(1, *input_shape, device=self.device))
        except ValueError:  # of one value there are no statistics
            self.backbone.load_state_dict(before, strict=False)
        finally:
            self.backbone.eval()

    def find_weights(self, digest: str, input_shape: Sequence[int]) -> None:
        """Have the weights of a digest: those that the network has, or has after a pass. Errors: WeightsError."""
        extractor = self.extractor(input_shape)
        if (found := digest_of(extractor.needed_state())) == digest:
            return
        before = self._statistics()
        self.training_pass(input_shape)
        if digest_of(extractor.needed_state()) != digest:
            self.backbone.load_state_dict(before, strict=False)
            raise WeightsError(
                f"The network's weights are not those that the model was saved with: SHA-256 {found[:12]}..., expected "
                f"{digest[:12]}... Give the right ones: backbone=network, or weights=PATH."
            )

    def _statistics(self) -> dict[str, Tensor]:
        """All that a pass in training mode changes, as it is now."""
        return {name: tensor.clone() for name, tensor in self.backbone.named_buffers()}

    def extractor(self, input_shape: Sequence[int]) -> Extractor:
        """What reads the layers. The first call looks for them, with an image of (channels, height, width)."""
        if not self._extractor:
            channels, height, width = input_shape
            self._extractor.append(Extractor(self.backbone, self.layers_to_extract_from, (height, width), channels))
        return self._extractor[0]
