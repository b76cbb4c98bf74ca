"""Write a captured graph as files: a torch program, ONNX or OpenVINO."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from patchcore import silence
from patchcore.errors import MissingExtraError, UsageError
from patchcore.export.capturing import LOUD
from patchcore.export.graph import OUTPUTS

FORMATS = {"onnx": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}
PRECISIONS = ("fp32", "fp16", "int8")
OPSET = 18  # the first one with all operators of the graph

_NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino"), "torch": ()}
_HALF_MOST = 65504.0  # the largest number in half precision
_HALF_FROM = 1024  # tensors with fewer values stay in fp32: they hardly add to the size of the file


def check(format: str, precision: str, opset: int) -> None:
    """Check that the format can be written. Errors: UsageError, MissingExtraError."""
    for what, got, known in (("format", format, FORMATS), ("precision", precision, PRECISIONS)):
        if got not in known:
            raise UsageError(f"{what} is {got!r}; expected one of {', '.join(known)}.")
    if format == "torch" and precision != "fp32":
        raise UsageError(
            f"format='torch' with precision={precision!r}: a torch.export program is written in fp32 only. Use fp32, "
            "or format='onnx' or 'openvino'."
        )
    if opset < OPSET:
        raise UsageError(f"opset is {opset}; the graph needs operators of opset {OPSET} or later.")
    for package in _NEEDED[format]:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "export", f"format={format!r}")
    if precision == "int8" and importlib.util.find_spec("nncf") is None:
        raise MissingExtraError("nncf", "int8", "precision='int8'")
    if importlib.util.find_spec("patchcore_runtime") is None:
        raise MissingExtraError("patchcore-runtime", "export", "The self-test of an export")


def write(program: torch.export.ExportedProgram, folder: Path, format: str, precision: str, opset: int) -> None:
    """Write the graph's files. For int8 they are still in fp32 and include the ONNX file, for `quantise`."""
    path = folder / FORMATS[format]
    if format == "torch":
        with silence.logs_and_warnings(*LOUD):
            torch.export.save(program, path)
        return
    onnx_path = folder / FORMATS["onnx"]
    _write_onnx(program, onnx_path, precision, opset)
    if format == "openvino":
        _to_openvino(onnx_path, path)
        if precision != "int8":
            onnx_path.unlink()


def quantise(folder: Path, format: str, change: Callable[[Path], object]) -> None:
    """After `write` for int8: let `change` modify the ONNX file, and make OpenVINO's files from it again."""
    onnx_path, path = folder / FORMATS["onnx"], folder / FORMATS[format]
    change(onnx_path)
    if format == "openvino":
        for old in (path, path.with_suffix(".bin")):
            old.unlink()  # not overwritten: an engine may have mapped it
        _to_openvino(onnx_path, path)
        onnx_path.unlink()


def _write_onnx(program: torch.export.ExportedProgram, path: Path, precision: str, opset: int) -> None:
    names = {"image": {0: "batch", 1: "height", 2: "width", 3: "channels"}, "value_range": None}
    with silence.logs_and_warnings(*LOUD):
        made: Any = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=["image", "value_range"],
            output_names=list(OUTPUTS),
            dynamic_shapes=names,
            verbose=False,
        )
    if (got := made.model.opset_imports[""]) != opset:  # the converter fails without an error
        raise UsageError(f"opset is {opset}; this graph can only be written with opset {got}. Leave the option out.")
    if precision == "fp16":
        _halve(made.model)
    made.save(path, external_data=False)


def _halve(model: Any) -> None:
    """Store large tensors in half precision, and convert them to single precision when they are used."""
    import onnx_ir as ir

    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        matrix = sum(side > 1 for side in tensor.shape) > 1
        if tensor.dtype != ir.DataType.FLOAT or tensor.size < _HALF_FROM or not matrix:
            continue  # vectors stay in fp32: squared lengths of rows may be large, and are compared with each other
        if abs(tensor.numpy()).max() > _HALF_MOST:
            continue
        half = ir.Value(
            name=f"{name}_half",
            type=ir.TensorType(ir.DataType.FLOAT16),
            shape=value.shape,
            const_value=ir.tensor(tensor.numpy().astype("float16"), name=f"{name}_half"),
        )
        cast = ir.Node("", "Cast", [half], [ir.AttrInt64("to", ir.DataType.FLOAT)])
        cast.outputs[0].shape, cast.outputs[0].dtype = value.shape, ir.DataType.FLOAT
        cast.outputs[0].name = f"{name}_single"
        value.replace_all_uses_with(cast.outputs[0])
        del model.graph.initializers[name]
        model.graph.initializers[half.name] = half
        model.graph.insert_before(model.graph[0], cast)


def _to_openvino(source: Path, path: Path) -> None:
    from patchcore_runtime.engines import openvino

    ov = openvino()
    model = ov.Core().read_model(str(source))  # `convert_model` would store the bank again, in fp32
    ov.save_model(model, str(path), compress_to_fp16=False)  # the default compresses all, vectors included
