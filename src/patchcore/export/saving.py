"""Saving a detector as a folder that runs without patchcore: the graph, what it is, and proof that it agrees."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from patchcore.data.reading import OnBad
from patchcore.data.resolve import Images, detect, resolve
from patchcore.data.sample import Sample
from patchcore.detector import Detector
from patchcore.errors import ExportError, UsageError, counted
from patchcore.export import folder as folders
from patchcore.export import formats, parity
from patchcore.export.capturing import capture
from patchcore.export.graph import Graph
from patchcore.export.shift import MAX_AUROC_DROP, MAX_THRESHOLD_SHIFT, Shift, Trial, split
from patchcore.model import file
from patchcore.model.fitted import Fitted
from patchcore.model.signing import sign as sign_folder

if TYPE_CHECKING:
    from patchcore_runtime import Agreement, Model

log = logging.getLogger(__name__)
FORMAT = 1


@dataclass(frozen=True)
class Saved:
    """An exported folder: where it is, and how its self-test went."""

    folder: Path
    agreement: Agreement  # with the library, over all images of the self-test
    tested_with: str  # what they were
    sizes: dict[str, int]  # bytes of the graph's files
    axes: tuple[int, ...]  # of the bounds that each bank is searched by; 0: all of its rows are looked at
    shift: Shift | None = None  # what quantising did; with int8 only


def save(
    detector: Detector,
    folder: str | Path,
    *,
    format: str = "onnx",
    precision: str = "fp32",
    static: tuple[int, int] | None = None,
    opset: int = formats.OPSET,
    images: Images | None = None,
    test: str | Path | Sequence[Sample] | None = None,
    max_auroc_drop: float | None = None,
    max_threshold_shift: float | None = None,
    sign: str | Path | None = None,
    on_bad: OnBad | None = None,
) -> Saved:
    """Write a detector as one graph, from raw pixels to scores and maps; the folder appears whole or not at all.

    `format` is `onnx`, `openvino` or `torch`; `precision` is `fp32`, or `fp16`, which keeps weights and
    bank in half precision and computes in single. `static`: the (height, width) of the only
    images that it will be given; without it, any. `images` (what `fit` takes): good ones for the
    self-test, which runs the written files against the library, on synthetic images too: a dozen, of those that
    set the threshold before those that are in the bank. Above the tolerance nothing is left.

    `int8` quantises the backbone alone, on `images`, which it needs. The graph is tested before, as in
    fp32, and measured afterwards on those of them that the bank has not seen, and on `test`, labelled
    images (samples, or a path that `evaluate` takes). Where the image AUROC has dropped by more than
    `max_auroc_drop` (0.005), or the threshold that these good images would set has moved by more than
    `max_threshold_shift` (0.05) of itself, nothing is left.

    `sign`: file of the private key to sign the folder with. `on_bad`: called with the error of an image that cannot be
    used; the others go on. None raises it. Errors: NotFittedError, UsageError, StoreError, DataError, ImageError,
    MissingExtraError, ExportError.
    """
    formats.check(format, precision, opset)
    folders.check(folder)
    fitted = detector.fitted
    if (detector.engine, detector.precision) != ("torch", "fp32"):
        raise UsageError(
            "The self-test compares with torch in fp32. Load the detector without `engine` and `precision`."
        )
    from patchcore_runtime import Model

    for_int8 = {"--test": test, "--max-auroc-drop": max_auroc_drop, "--max-threshold-shift": max_threshold_shift}
    if precision != "int8" and (unused := [name for name, value in for_int8.items() if value is not None]):
        raise UsageError(f"precision is {precision!r}, and {unused[0]} is for int8 only. Leave it out.")
    found = None if images is None else list(resolve(images, learning=True).samples)
    labelled = detect(test).test if isinstance(test, str | Path) else test
    if on_bad:
        only = static if precision == "int8" else None  # other self-tests take those of the right size
        found = found and parity.readable(found, only, on_bad)
        labelled = labelled and parity.readable(labelled, only, on_bad)
    given = None if found is None else parity.chosen(*split(found, fitted)[::-1], static)
    trial = Trial.of(found, labelled, fitted, static) if precision == "int8" else None
    with folders.appearing(folder) as place:
        graph = _graph(detector, half=format != "torch")
        log.info("Exporting (%s, %s); this may take a minute.", format, precision)
        program = capture(graph, static)
        made_up = parity.synthetic(fitted.recipe.seed, fitted.recipe.value_range, static)
        wanted = [parity.expected(detector, one) for one in made_up]
        axes = tuple(graph.axes)
        manifest = {**_manifest(fitted, format, precision, static, opset), "search_axes": list(axes)}
        first = "fp32" if trial else precision
        formats.write(program, place, format, precision, opset)
        del program
        tested_as = {**manifest, "precision": first, "tolerance": parity.TOLERANCE[first]}
        agreement = _self_test(detector, place, tested_as, zip(made_up, wanted, strict=True), given)
        if not agreement.within:
            raise ExportError(
                f"The exported graph does not agree with the library, so it was not kept. {agreement}; allowed are "
                f"{tested_as['tolerance']}. Use another format or precision. Where good images are all but the "
                "same, or drawn, distances can be too small for float32: photographs have no such trouble."
            )
        tested = f"{len(made_up)} batches of synthetic images"
        tested += f" and {counted(len(given), 'given one')}, whole and in parts" if given else ""
        tested += ", before it was quantised" if trial else ""
        manifest["parity"] = {**asdict(agreement), "tested_with": tested}
        shift = None
        if trial:
            log.info("Quantising on %s, measuring on %s.", *trial.counts)
            formats.quantise(place, format, trial.quantise)
            model = Model(place, manifest)
            shift = trial.measure(detector, model)
            shift.check(
                MAX_AUROC_DROP if max_auroc_drop is None else max_auroc_drop,
                MAX_THRESHOLD_SHIFT if max_threshold_shift is None else max_threshold_shift,
            )
            manifest["quantised"] = shift.figures()
            wanted = _own(model, manifest, made_up)
        sizes = {one.name: one.stat().st_size for one in place.iterdir()}
        origins = fitted.members[0].bank.origins
        np.save(place / "origins.npy", origins.cpu().numpy().astype(np.int32))
        parity.write_vectors(place / "vectors", made_up, wanted)
        _write_manifest(place, manifest)
        if sign:
            sign_folder(place, sign)
    return Saved(Path(folder), agreement, tested, sizes, axes, shift)


def _own(model: Model, manifest: dict[str, Any], batches: list[parity.Batch]) -> list[dict[str, Any]]:
    """What a quantised graph says about each image alone. Errors: ExportError if batches give something else."""
    from patchcore_runtime import Agreement
    from patchcore_runtime.vectors import compare

    wanted = [parity.own(model, batch) for batch in batches]
    each = zip(batches, wanted, strict=True)
    found = sum((compare(model.run(batch), one, manifest) for batch, one in each), Agreement())
    if not found.within:
        raise ExportError(
            f"The quantised graph gives batches other scores than single images, so it was not kept. {found}; "
            f"allowed are {manifest['tolerance']}. Use another format or precision."
        )
    return wanted


@torch.inference_mode(False)
@torch.no_grad()
def _graph(detector: Detector, half: bool) -> Graph:
    return Graph(detector.fitted, detector.embedders, half).eval()


def _manifest(
    fitted: Fitted, format: str, precision: str, static: tuple[int, int] | None, opset: int
) -> dict[str, Any]:
    recipe, calibration = fitted.recipe, fitted.calibration
    about, limits = file.header(fitted), calibration.to_dict()
    return {
        "format": FORMAT,
        "kind": "patchcore-export",
        "engine": format,
        "precision": precision,
        "graph": formats.FORMATS[format],
        "opset": None if format == "torch" else opset,
        "static": list(static) if static else None,
        "value_ranges": parity.value_ranges(recipe.value_range),
        "check_float": recipe.value_range is None,
        "threshold": limits["threshold"],
        "pixel_threshold": limits["pixel_threshold"],
        "tolerance": parity.TOLERANCE[precision],
        "reference": "the machine that exported it" if precision == "int8" else "the library",  # whose the vectors are
        "floor": parity.floor(fitted),
        "recipe": about["recipe"],
        "bank": about["bank"],
        "data": about["data"],
        "versions": about["versions"],
    }


def _self_test(
    detector: Detector, place: Path, manifest: dict[str, Any], vectors: Iterator[Any], images: list[Sample] | None
) -> Agreement:
    from patchcore_runtime import Agreement
    from patchcore_runtime.model import Model
    from patchcore_runtime.vectors import compare

    model = Model(place, manifest)
    total = Agreement()
    for batch, outputs in vectors:
        total += compare(model.run(batch), outputs, manifest)
    if images is not None:
        static = manifest["static"]
        for batch in parity.real(images, static and (static[0], static[1])):
            total += compare(model.run(batch), parity.expected(detector, batch), manifest)
    return total


def _write_manifest(place: Path, manifest: dict[str, Any]) -> None:
    """The manifest, and the sums of all files, which come last."""
    from patchcore_runtime.folder import MANIFEST, SUMS, sha256

    finite = json.loads(json.dumps(manifest), parse_constant=lambda _: None)  # JSON has no infinity
    (place / MANIFEST).write_text(json.dumps(finite, indent=1, sort_keys=True, allow_nan=False), "utf-8")
    files = sorted(path for path in place.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {path.relative_to(place).as_posix()}\n" for path in files]
    (place / SUMS).write_text("".join(lines), "utf-8", newline="\n")
