"""What runs the graph: ONNX Runtime, OpenVINO, or torch where the folder was made for it."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.errors import ExportError

OUTPUTS = ("score", "normalised", "decision", "patch_scores", "rows", "model_map", "map", "coverage")
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}  # with OpenVINO's names

Arrays = dict[str, NDArray[Any]]
Engine = Callable[[NDArray[np.float32], NDArray[np.float32]], Arrays]  # image, value_range -> outputs by name


def engine(folder: Path, manifest: dict[str, Any], threads: int | None, precision: str, streams: int) -> Engine:
    """The engine that a folder was made for, on the CPU; safe to call from several threads. Errors: ExportError."""
    if precision not in PRECISIONS:
        raise ExportError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}.")
    made = {"onnx": _onnxruntime, "openvino": _openvino, "torch": _torch}.get(manifest["engine"])
    if made is None:
        raise ExportError(f"{folder}: made for the engine {manifest['engine']!r}, which this version does not know.")
    if precision != "fp32" and manifest["engine"] != "openvino":
        raise ExportError(
            f"precision is {precision!r}, which is a hint for OpenVINO; {folder} was made for {manifest['engine']}. "
            "Leave it out, or export with --format openvino."
        )
    path = folder / manifest["graph"]
    try:
        return made(path, threads, precision, streams)
    except ExportError:
        raise
    except Exception as error:  # each engine has its own
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ExportError(f"{path}: {manifest['engine']} cannot load it ({reason}). Export again, or here.") from error


def _onnxruntime(path: Path, threads: int | None, precision: str, streams: int) -> Engine:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # unsaid, its builds report to Microsoft from the import on
    ort = _module("onnxruntime", "onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(image: NDArray[np.float32], value_range: NDArray[np.float32]) -> Arrays:
        found = session.run(list(OUTPUTS), {"image": image, "value_range": value_range})
        return dict(zip(OUTPUTS, found, strict=True))

    return run


def _openvino(path: Path, threads: int | None, precision: str, streams: int) -> Engine:
    ov = openvino()
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision]}  # unsaid, bf16 where there is any
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    if streams > 1:
        options["NUM_STREAMS"] = streams
    compiled = ov.Core().compile_model(str(path), "CPU", options)

    own = threading.local()  # a request for each thread, which keeps its memory

    def run(image: NDArray[np.float32], value_range: NDArray[np.float32]) -> Arrays:
        own.request = getattr(own, "request", None) or compiled.create_infer_request()
        given = {"image": image, "value_range": value_range}
        found = own.request.infer(given, share_inputs=True, share_outputs=True)
        return {name: np.array(found[name]) for name in OUTPUTS}

    return run


def _torch(path: Path, threads: int | None, precision: str, streams: int) -> Engine:
    torch = _module("torch", "torch")
    program = torch.export.load(str(path)).module()
    if threads:
        torch.set_num_threads(threads)

    def run(image: NDArray[np.float32], value_range: NDArray[np.float32]) -> Arrays:
        with torch.inference_mode():
            found = program(torch.from_numpy(image), torch.from_numpy(value_range))
        return {name: value.numpy() for name, value in zip(OUTPUTS, found, strict=True)}

    return run


def openvino() -> Any:
    """The package, imported without its telemetry, which would report to a server unless somebody objects."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return _module("openvino", "openvino")
    finally:
        if sys.modules.get("openvino_telemetry", sys) is None:
            sys.modules.pop("openvino_telemetry", None)


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(
            f"This folder needs the package {name!r}, which is not installed. "
            f"Install it with: pip install 'patchcore-runtime[{extra}]'"
        ) from error
