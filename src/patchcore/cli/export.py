"""`patchcore export` and `patchcore verify`."""

from __future__ import annotations

import math
from pathlib import Path

import click

from patchcore.cli.common import (
    AnyPath,
    BadImages,
    command,
    data_path,
    json_option,
    model_path,
    print_json,
    say,
    signature_option,
    tell,
    threads_option,
    weights_option,
)
from patchcore.cli.promise import Share
from patchcore.errors import counted


@click.command(epilog="Example: patchcore export parts.patchcore -o exported --format openvino")
@click.argument("model", type=model_path)
@click.option("-o", "--output", type=AnyPath(path_type=Path), required=True, help="Folder to write.")
@click.option(
    "--format",
    type=click.Choice(["onnx", "openvino", "torch"]),
    default="onnx",
    show_default=True,
    help="Format of the graph; torch is a torch.export program.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="fp32; fp16: weights and memory bank stored in half precision, computed in fp32; int8: backbone computed in 8 "
    "bits (needs --images).",
)
@click.option(
    "--static",
    type=click.IntRange(1),
    nargs=2,
    metavar="H W",
    help="Accept only images of this height and width; by default any size.",
)
@click.option("--opset", type=click.IntRange(1), default=18, show_default=True, help="ONNX opset.")
@click.option(
    "--images",
    type=data_path,
    help="Good images for int8, and for the self-test beside synthetic ones: anything that `fit` takes.",
)
@click.option("--test", type=data_path, help="int8: labelled images to measure on: anything that `evaluate` takes.")
@click.option(
    "--max-auroc-drop",
    type=Share(0, 1),
    show_default="0.005",
    help="int8: refuse if the image AUROC drops by more.",
)
@click.option(
    "--max-threshold-shift",
    type=Share(0, math.inf),
    show_default="0.05",
    help="int8: refuse if the threshold set from good images moves by a larger share.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be used, and list them.")
@click.option("--sign", "key", metavar="KEY", help="Ed25519 private key (PEM) to sign the folder with.")
@threads_option
@weights_option
@signature_option
@json_option
@command
def export(
    model: Path,
    output: Path,
    format: str,
    precision: str,
    static: tuple[int, int] | None,
    opset: int,
    images: Path | None,
    test: Path | None,
    max_auroc_drop: float | None,
    max_threshold_shift: float | None,
    skip_bad: bool,
    key: str | None,
    threads: int | None,
    weights: str | None,
    require_signature: str | None,
    as_json: bool,
) -> None:
    """Write a detector as one graph that runs without patchcore.

    The graph takes raw pixels of any size and gives score, verdict and heat map. The written files are run and compared
    with the library; if they differ by more than the tolerance, they are removed. An int8 graph is compared before it
    is quantised, and then measured on good images that are not in the memory bank, and on those of --test.

    JSON keys: folder, files, images, score, map, decisions (verdicts that differ), axes (one number for each memory
    bank: axes that the search uses for its bounds, or 0 if it compares all rows), tested_with; quantised (null without
    int8) with calibrated_on, good, defects, auroc, threshold, threshold_shift, verdicts_changed, good_failing,
    defects_passing, largest. Pairs are before and after. skipped: images left out.
    """
    from patchcore.export import folder
    from patchcore.model import signing

    folder.check(output, alone=True)
    if key:
        signing.private_key(key)  # fails before the work if the key cannot be used

    from patchcore.detector import Detector
    from patchcore.export import save
    from patchcore.model import signature

    instead = ", replacing the previous export" if (output / "manifest.json").is_file() else ""
    was_signed = (output / signature.IN_FOLDER).is_file()
    detector = Detector.load(model, device="cpu", threads=threads, weights=weights, require_signature=require_signature)
    bad = BadImages()
    saved = save(
        detector,
        output,
        format=format,
        precision=precision,
        static=static,
        opset=opset,
        images=images,
        test=test,
        max_auroc_drop=max_auroc_drop,
        max_threshold_shift=max_threshold_shift,
        sign=key,
        on_bad=bad if skip_bad else None,
    )
    bad.report("Left out")
    if key:
        tell(f"Signature: {output / signature.IN_FOLDER}", as_json)
    elif was_signed:
        say(f"The previous export was signed, but this one is not. Sign it: patchcore sign {output} --key KEY")
    if as_json:
        found = saved.agreement
        numbers = {"images": found.images, "score": found.score, "map": found.map, "decisions": found.decisions}
        tested = {
            "axes": saved.axes,
            "tested_with": saved.tested_with,
            "quantised": saved.shift and saved.shift.figures(),
            "skipped": [error.name for error in bad.errors],
        }
        print_json({"folder": str(output), "files": saved.sizes, **numbers, **tested})
        return
    size = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sorted(saved.sizes.items()))
    tell(f"Self-test on {saved.tested_with}: {saved.agreement}.")
    if saved.shift:
        tell(f"Quantised with {counted(saved.shift.calibrated_on, 'good image')}, measured on {saved.shift}.")
    axes = ", ".join(f"by bounds along {one} axes" if one else "over all rows" for one in saved.axes)
    tell(f"Exact search {axes}.")
    tell(f"Wrote {output}{instead}: {size}. Check it anywhere with: patchcore verify {output}")


@click.command(epilog="Example: patchcore verify exported --require-signature public.pem")
@click.argument("folder", type=AnyPath(exists=True, file_okay=False, path_type=Path))
@threads_option
@signature_option
@json_option
@command
def verify(folder: Path, threads: int | None, require_signature: str | None, as_json: bool) -> None:
    """Check an exported folder on this machine with its test vectors.

    Compares every file with its SHA-256, and the graph's results with those of the library. The exit code is 1 if they
    differ.

    JSON keys: folder, images, score, map, decisions (verdicts that differ).
    """
    from patchcore import export
    from patchcore.errors import ExportError
    from patchcore.model import signature

    if not (folder / "manifest.json").is_file():
        raise ExportError(f"{folder}: has no manifest.json. Expected a folder that `patchcore export` has written.")
    if require_signature:
        signature.check_signature(folder, require_signature)
    load, run = export.load, export.verify
    import patchcore_runtime

    try:
        model = load(folder, threads=threads)
        found = run(model)
    except patchcore_runtime.ExportError as error:
        raise ExportError(str(error)) from None
    if as_json:
        numbers = {"images": found.images, "score": found.score, "map": found.map, "decisions": found.decisions}
        print_json({"folder": str(folder), **numbers})
    else:
        tell(f"{folder} agrees with {model.manifest.get('reference', 'the library')}. {found}.")
