"""int8: which operators are quantised, and that NNCF reports to nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from patchcore import ExportError, export
from patchcore.export.quantisation import single

onnx = pytest.importorskip("onnx")
pytest.importorskip("nncf")


def test_only_the_backbone_behind_its_first_operators_is_quantised(int8: export.Saved) -> None:
    graph = onnx.load(int8.folder / "model.onnx").graph
    made_by = {name: node for node in graph.node for name in node.output}

    def from_int8(node: Any) -> bool:
        return any(made_by[name].op_type == "DequantizeLinear" for name in node.input[:2] if name in made_by)

    convolutions = [from_int8(node) for node in graph.node if node.op_type == "Conv"]
    assert convolutions == [False] * 3 + [True] * 3
    assert not any(from_int8(node) for node in graph.node if node.op_type == "MatMul")
    weights = [one for one in graph.initializer if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 4]
    assert len(weights) == 3
    for one in weights:  # 7 bits, which no processor's sums overflow
        assert abs(onnx.numpy_helper.to_array(one).astype(int)).max() <= 64


def test_a_network_with_nothing_left_to_quantise_is_refused(folder: Path) -> None:
    with pytest.raises(ExportError, match=r"the first 3 with weights stay in fp32, and there are no others"):
        single(onnx.load(folder / "model.onnx"))
