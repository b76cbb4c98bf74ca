"""int8: quantise the backbone's operators in an ONNX file with NNCF; all others stay as they are."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore import silence
from patchcore.errors import ExportError, PatchcoreError

Inputs = dict[str, NDArray[np.float32]]  # of the graph, by name

MOST = 300  # images at most; more made no difference
KEPT = 3  # this many first operators with weights stay in fp32: their error would affect everything that follows
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_BACKBONE = re.compile(r"members\.\d+\.taps\.network(\.|$)")


def quantise(path: Path, images: Sequence[Any], inputs: Callable[[Any], Inputs]) -> int:
    """Quantise weights (per channel) and activations of the backbone in an ONNX file, in place. Errors: ExportError.

    `inputs` turns an image into the graph's inputs. At most `MOST` images are read, evenly spaced. Returns how many.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # by default its builds report to Microsoft from the import on
    import onnx

    model = onnx.load(path)
    _constants(model)
    kept = single(model)
    chosen = [images[i] for i in np.linspace(0, len(images) - 1, min(len(images), MOST)).round().astype(int)]
    try:
        # NNCF prints its progress on standard output, where a command prints results, and makes torch look for CUDA.
        with silence.logs_and_warnings("nncf", "torch.utils.cpp_extension"), contextlib.redirect_stdout(io.StringIO()):
            nncf = silence.imported("nncf")
            made = nncf.quantize(
                model,
                nncf.Dataset(chosen, inputs),
                subset_size=len(chosen),
                preset=nncf.QuantizationPreset.MIXED,
                ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
                # 7-bit weights: on processors without VNNI, sums of 8-bit products overflow.
                advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
            )
    except PatchcoreError:
        raise  # an image that cannot be read
    except Exception as error:  # NNCF and its engine raise many kinds of errors
        raise ExportError(f"NNCF cannot quantise this backbone: {error} Use fp16 or fp32.") from error
    onnx.save(made, path)
    return len(chosen)


def single(model: Any) -> list[str]:
    """The nodes of an ONNX model that stay in fp32: all outside the backbones, and the first ones in each backbone.

    Errors: ExportError if there are no others.
    """
    constants = {one.name for one in model.graph.initializer}
    weights: dict[str, list[str]] = {}  # of each backbone, in order of use; several scales use them again
    kept = []
    for node in model.graph.node:
        backbone = next((scope for scope in _scopes(node) if _BACKBONE.match(scope)), None)
        if backbone is None:
            kept.append(node.name)
        elif node.op_type in _WEIGHTED and node.input[1] in constants:
            seen = weights.setdefault(backbone, [])
            if node.input[1] not in seen:
                seen.append(node.input[1])
            if node.input[1] in seen[:KEPT]:
                kept.append(node.name)
    if not any(len(seen) > KEPT for seen in weights.values()):
        raise ExportError(
            f"No operator of this backbone can be quantised: the first {KEPT} with weights stay in fp32, and there "
            "are no others. Use fp16 or fp32."
        )
    return kept


def _scopes(node: Any) -> list[str]:
    """The modules that a node comes from, the outermost first."""
    found = [one.value for one in node.metadata_props if one.key == "pkg.torch.onnx.name_scopes"]
    return list(ast.literal_eval(found[0])) if found else []


def _constants(model: Any) -> None:
    """Turn initializers that are cast into constants: NNCF needs their type, and initializers do not have one."""
    from onnx import helper

    initializers = {one.name: one for one in model.graph.initializer}
    for name in {node.input[0] for node in model.graph.node if node.op_type == "Cast"} & set(initializers):
        model.graph.initializer.remove(initializers[name])
        model.graph.node.insert(
            0, helper.make_node("Constant", [], [name], name=f"{name}_kept", value=initializers[name])
        )
