"""Buffers whose shape is known only when they are loaded, such as a memory bank."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from patchcore.errors import UsageError


class DynamicBufferMixin(nn.Module):
    """A module whose own buffers take the shape of what is loaded into them."""

    def get_tensor_attribute(self, attribute_name: str) -> Tensor:
        """An attribute that is a tensor. Errors: UsageError (a ValueError) if it is something else."""
        attribute = getattr(self, attribute_name)
        if not isinstance(attribute, Tensor):
            raise UsageError(f"The attribute {attribute_name!r} is a {type(attribute).__name__}; expected a tensor.")
        return attribute

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, buffer in list(self.named_buffers(recurse=False)):
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor) and buffer.shape != stored.shape:
                # A new tensor, so that existing views of the old one do not change.
                setattr(self, name, torch.empty_like(stored, device=buffer.device, dtype=buffer.dtype))
        super()._load_from_state_dict(state_dict, prefix, *args)
