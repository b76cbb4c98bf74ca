"""Save a detector as a folder that runs without patchcore: the graph, a manifest and test vectors."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
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
from patchcore.export.graph import Graph, check_place
from patchcore.export.shift import MAX_AUROC_DROP, MAX_THRESHOLD_SHIFT, Shift, Trial, split
from patchcore.model import file
from patchcore.model.fitted import Fitted
from patchcore.model.signing import sign as sign_folder
from patchcore.pipeline.surroundings import undisturbed

if TYPE_CHECKING:
    from patchcore_runtime import Agreement, Model

log = logging.getLogger(__name__)
FORMAT = 1


@dataclass(frozen=True)
class Saved:
    """An exported folder, and the result of its self-test."""

    folder: Path
    agreement: Agreement  # with the library, over all images of the self-test
    tested_with: str  # these images, in words
    sizes: dict[str, int]  # bytes of the graph's files
    axes: tuple[int, ...]  # how many axes the search of each bank uses for its bounds; 0: it compares all rows
    shift: Shift | None = None  # effect of quantisation; int8 only


@undisturbed()
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
    beside: Mapping[str, str] | None = None,
) -> Saved:
    """Write a detector as one graph, from raw pixels to scores and maps. The folder appears whole or not at all.

    A self-test compares the written files with the library, on synthetic images and on a dozen of `images`. An int8
    graph is compared before it is quantised, then measured on good images that are not in the memory bank, and on
    `test`. Beyond a tolerance or limit, nothing is left.
    Errors: NotFittedError, UsageError, DataError, ImageError, MissingExtraError, ExportError.

    Args:
        detector: A fitted detector, with engine `torch` and precision `fp32`.
        folder: The folder to write. An earlier export in it is replaced.
        format: `onnx`, `openvino` or `torch`.
        precision: `fp32`, `fp16` (stores weights and bank in half precision) or `int8` (quantises the backbone).
        static: Height and width of all images; None: any.
        opset: ONNX opset.
        images: Good images for the self-test and for int8, which needs them: anything that `fit` takes.
        test: For int8, labelled images to measure on: samples, or a path that `evaluate` takes.
        max_auroc_drop: For int8, largest drop of the image AUROC (0.005).
        max_threshold_shift: For int8, largest move of the threshold set from good images, as a share of it (0.05).
        sign: File of the private key to sign the folder with.
        on_bad: Called with the error of an image that cannot be used; the others go on. None raises it.
        beside: Further text files of the folder, by name.
    """
    formats.check(format, precision, opset)
    folders.check(folder)
    fitted = detector.fitted
    check_place(fitted)
    if (detector.engine, detector.precision) != ("torch", "fp32"):
        raise UsageError("The self-test needs a detector on torch in fp32. Load it without `engine` and `precision`.")
    from patchcore_runtime import Model

    for_int8 = {"--test": test, "--max-auroc-drop": max_auroc_drop, "--max-threshold-shift": max_threshold_shift}
    if precision != "int8" and (unused := [name for name, value in for_int8.items() if value is not None]):
        raise UsageError(f"precision is {precision!r}, but {unused[0]} is for int8 only. Leave it out.")
    with folders.appearing(folder) as place:
        found = None if images is None else list(resolve(images, learning=True).samples)
        labelled = detect(test).test if isinstance(test, str | Path) else test
        if on_bad:
            only = static if precision == "int8" else None  # other self-tests take those of the right size
            found = found and parity.readable(found, only, on_bad)
            labelled = labelled and parity.readable(labelled, only, on_bad)
        given = None if found is None else parity.chosen(*split(found, fitted)[::-1], static)
        trial = Trial.of(found, labelled, fitted, static) if precision == "int8" else None
        graph = _graph(detector, half=format != "torch")
        log.info("Exporting (%s, %s); this may take a minute.", format, precision)
        if fitted.gate:
            log.info("The graph has no gate: it gives an image of another part a verdict by its score.")
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
                f"{tested_as['tolerance']}. Use another format or precision. If good images are nearly identical, or "
                "drawings, their distances can be too small for float32; photographs do not have this problem."
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
        for name, text in (beside or {}).items():
            (place / name).write_text(text, "utf-8")
        _write_manifest(place, manifest)
        if sign:
            sign_folder(place, sign)
    return Saved(Path(folder), agreement, tested, sizes, axes, shift)


def _own(model: Model, manifest: dict[str, Any], batches: list[parity.Batch]) -> list[dict[str, Any]]:
    """A quantised graph's results for each image alone. Errors: ExportError if batches give other results."""
    from patchcore_runtime import Agreement
    from patchcore_runtime.vectors import compare

    wanted = [parity.own(model, batch) for batch in batches]
    each = zip(batches, wanted, strict=True)
    found = sum((compare(model.run(batch), one, manifest) for batch, one in each), Agreement())
    if not found.within:
        raise ExportError(
            f"The quantised graph gives other scores for batches than for single images, so it was not kept. {found}; "
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
        "lower_threshold": limits.get("lower_threshold"),
        "gate": False,  # an image that does not show the part gets a verdict by its score
        "tolerance": parity.TOLERANCE[precision],
        "reference": "the machine that exported it" if precision == "int8" else "the library",  # of the vectors
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
    """Write the manifest, and then the checksums of all files."""
    from patchcore_runtime.folder import MANIFEST, SUMS, sha256

    finite = json.loads(json.dumps(manifest), parse_constant=lambda _: None)  # JSON has no infinity
    (place / MANIFEST).write_text(json.dumps(finite, indent=1, sort_keys=True, allow_nan=False), "utf-8")
    files = sorted(path for path in place.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {path.relative_to(place).as_posix()}\n" for path in files]
    (place / SUMS).write_text("".join(lines), "utf-8", newline="\n")
