"""What runs the graph: ONNX Runtime, OpenVINO, or torch where the folder was made for it."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime.errors import ExportError

OUTPUTS = ("score", "normalised", "decision", "patch_scores", "rows", "model_map", "map", "coverage")
_MOST = 4096  # threads: a process that is given too many dies of it
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}  # with OpenVINO's names

Arrays = dict[str, NDArray[Any]]
Engine = Callable[[NDArray[np.float32], NDArray[np.float32]], Arrays]  # image, value_range -> outputs by name


def engine(folder: Path, manifest: dict[str, Any], threads: int | None, precision: str, streams: int) -> Engine:
    """The engine that a folder was made for, on the CPU; safe to call from several threads. Errors: ExportError."""
    if precision not in PRECISIONS:
        raise ExportError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}.")
    for what, number in (("threads", threads), ("streams", streams)):
        if number is not None and (not hasattr(number, "__index__") or not 1 <= number <= _MOST):
            raise ExportError(f"{what} is {number!r}; it must be a whole number, at least 1 and at most {_MOST}.")
    name = manifest["engine"]
    made = {"onnx": _onnxruntime, "openvino": _openvino, "torch": _torch}.get(name)
    if made is None:
        raise ExportError(f"{folder}: made for the engine {name!r}, which this version does not know.")
    if precision != "fp32" and name != "openvino":
        raise ExportError(
            f"precision is {precision!r}, which is a hint for OpenVINO; {folder} was made for {name}. "
            "Leave it out, or export with --format openvino."
        )
    path = folder / manifest["graph"]
    with _named(f"{path}: {name} cannot load it", "Export again, or here."):
        run = made(path, threads, precision, streams)
    home, alone = os.getpid(), name == "torch" or (name == "onnx" and threads == 1)

    def checked(image: NDArray[np.float32], value_range: NDArray[np.float32]) -> Arrays:
        if os.getpid() != home and not alone:  # fork copies no thread, and who waits for one waits forever
            raise ExportError(
                f"{folder}: loaded in process {home}, and this is {os.getpid()}, forked from it: the engine's threads "
                "have stayed there. Load it in each process, after the fork, or start processes with the method 'spawn'"
                + ("." if name == "openvino" else ", or load it with threads=1.")
            )
        count, height, width, _ = image.shape
        with _named(f"{path}: {name} cannot run it on {count} x {height} x {width} pixels", "Export again, or here."):
            found = run(image, value_range)
        if wrong := _wrong(found, (count, height, width)):
            raise ExportError(f"{path}: its output {wrong} is none of an exported graph. Export again.")
        return found

    return checked


@contextmanager
def _named(what: str, advice: str) -> Iterator[None]:
    """Every error of an engine, of which each has its own, as an ExportError of one line."""
    try:
        yield
    except ExportError:
        raise
    except Exception as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ExportError(f"{what} ({reason}). {advice}") from error


def _wrong(found: Arrays, size: tuple[int, int, int]) -> str:
    """The first output that is not what a graph says of (N, height, width) pixels; empty if all are."""
    shapes = {"score": size[:1], "normalised": size[:1], "decision": size[:1], "coverage": size[:1], "map": size}
    axes = {"patch_scores": 3, "model_map": 3, "rows": 4}
    for name, shape in shapes.items():
        if found[name].shape != shape:
            return name
    for name, number in axes.items():
        if found[name].ndim != number or len(found[name]) != size[0]:
            return name
    return "" if np.isin(found["decision"], (0, 1, 2)).all() else "decision"


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
    if threads:
        torch.set_num_threads(threads)
    _leave_threads_behind(torch)
    program = torch.export.load(str(path)).module()

    def run(image: NDArray[np.float32], value_range: NDArray[np.float32]) -> Arrays:
        _leave_threads_behind(torch)
        with torch.inference_mode():
            found = program(*(torch.from_numpy(np.require(one, requirements="W")) for one in (image, value_range)))
        return {name: value.numpy() for name, value in zip(OUTPUTS, found, strict=True)}

    return run


_torch_home = 0  # the process that has torch's threads


def _leave_threads_behind(torch: Any) -> None:
    """In a process that was forked off, torch is to use one thread: it would wait for those of the first forever."""
    global _torch_home
    _torch_home = _torch_home or os.getpid()
    if _torch_home != os.getpid():
        torch.set_num_threads(1)


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
