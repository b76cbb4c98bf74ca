"""What runs the graph: ONNX Runtime or OpenVINO, always on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.errors import MissingExtraError, UsageError

Run = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]  # inputs by name -> outputs by name; thread-safe
ENGINES = {"onnx": ("onnxruntime", "openvino"), "openvino": ("openvino",)}  # by format, the first that is installed


def start(graph: Path, made_for: str, engine: str | None, precision: str, threads: int | None) -> tuple[str, Run]:
    """The engine's name, and what runs a graph of the format `made_for`.

    Errors: UsageError for what there is not, MissingExtraError.
    """
    able = ENGINES.get(made_for)
    if able is None:
        raise UsageError(
            f"A folder of format {made_for} is for PyTorch; expected {' or '.join(ENGINES)}. Export it again "
            "(--format onnx), or load it with patchcore."
        )
    if engine is not None and engine not in able:
        raise UsageError(f"engine is {engine!r}; a folder of format {made_for} runs on {' or '.join(able)}.")
    if precision not in ("fp32", "bf16") or (precision == "bf16" and engine != "openvino"):
        raise UsageError(f"precision is {precision!r}; it is fp32, or with engine='openvino' bf16.")
    for name in able if engine is None else (engine,):
        try:
            return name, (_onnxruntime if name == "onnxruntime" else _openvino)(graph, precision, threads)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    missing = engine or able[0]
    raise MissingExtraError(missing, missing, f"A folder of format {made_for}")


def _onnxruntime(graph: Path, precision: str, threads: int | None) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _openvino(graph: Path, precision: str, threads: int | None) -> Run:
    import openvino

    # On a processor that has bf16, OpenVINO would use it unasked.
    options = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision], "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = str(threads)
    compiled = openvino.Core().compile_model(graph, "CPU", options)
    names = [output.get_any_name() for output in compiled.outputs]
    requests = local()  # a request is for one thread

    def run(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if not hasattr(requests, "own"):
            requests.own = compiled.create_infer_request()
        values = requests.own.infer(dict(inputs)).to_tuple()
        return {name: np.array(value) for name, value in zip(names, values, strict=True)}  # the next run reuses them

    return run
