"""How exactly, and in what, this machine multiplies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def fastest_number(device: torch.device) -> torch.dtype:
    """bfloat16 on a processor that multiplies in it, else float32."""
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return torch.bfloat16 if known.get("avx512_bf16") or known.get("amx_bf16") else torch.float32


def rounding(terms: int) -> float:
    """The relative error of a squared distance that comes from a float32 product of so many terms.

    A dot product of n terms is off by at most n units in the last place of |a||b|, in any order of
    summation; a squared distance needs three of them, and some steps before. The unit is larger
    where the caller has allowed float32 products in fewer bits.
    """
    return 2.0 * (terms + 8) * 2.0 ** -_bits()


def _bits() -> int:
    """How many bits of a float32 the products keep."""
    try:
        return {"highest": 24, "high": 11, "medium": 8}[torch.get_float32_matmul_precision()]
    except RuntimeError:  # set for some kind of device on its own, which torch does not put into one word
        cpu = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
        return min({"tf32": 11, "bf16": 8}.get(p, 24) for p in (cpu, torch.backends.cuda.matmul.fp32_precision))
