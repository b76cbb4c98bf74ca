"""`patchcore export` and `patchcore verify`."""

from __future__ import annotations

from pathlib import Path

import click

from patchcore.cli.common import (
    check_replaced,
    command,
    data_path,
    existing_path,
    force_option,
    print_json,
    say,
    signature_option,
    tell,
    threads_option,
    weights_option,
)
from patchcore.errors import counted

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


@click.command()
@click.argument("model", type=existing_path)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option(
    "--format",
    type=click.Choice(["onnx", "openvino", "torch"]),
    default="onnx",
    show_default=True,
    help="What will run it. torch: a program of torch.export.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="fp32; fp16: weights and bank kept at half the size, computed in fp32; int8: the network computed in 8 bits "
    "(needs --images).",
)
@click.option(
    "--static",
    type=click.IntRange(1),
    nargs=2,
    metavar="H W",
    help="Take images of this height and width only; without it, of any.",
)
@click.option("--opset", type=click.IntRange(1), default=18, show_default=True, help="Of ONNX.")
@click.option(
    "--images",
    type=data_path,
    help="Good images for the self-test, beside synthetic ones, and for int8: a folder, or whatever `fit` takes.",
)
@click.option("--test", type=data_path, help="int8: labelled images to measure it on; whatever `evaluate` takes.")
@click.option(
    "--max-auroc-drop",
    type=click.FloatRange(0, 1),
    show_default="0.005",
    help="int8: refuse if the image AUROC drops by more.",
)
@click.option(
    "--max-threshold-shift",
    type=click.FloatRange(0),
    show_default="0.05",
    help="int8: refuse if the threshold that good images set moves by a larger share.",
)
@click.option("--sign", "key", metavar="KEY", help="Ed25519 private key (PEM) to sign the folder with.")
@force_option
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
    key: str | None,
    force: bool,
    threads: int | None,
    weights: str | None,
    require_signature: str | None,
    as_json: bool,
) -> None:
    """Write a detector as one graph that runs without patchcore.

    From raw pixels of any size to score, verdict and heat map. At the end the written files are run and compared with
    the library; where they differ by more than the tolerance, nothing is left. int8 is tested before it is quantised,
    and measured afterwards on good images that the bank has not seen, and on those of --test.

    JSON keys: folder, files, images, score, map, decisions, axes (of the search's bounds, for each bank; 0: all rows
    are looked at), tested_with; quantised (null without int8), with
    calibrated_on, good, defects, auroc, threshold, threshold_shift, verdicts_changed, good_failing, defects_passing,
    largest. Pairs are before and after.
    """
    from patchcore.model import signing

    if key:
        signing.private_key(key)  # one that cannot be used is said before the work
    if (output / "manifest.json").is_file():  # what is no export is not replaced at all
        check_replaced([output], force)

    from patchcore.detector import Detector
    from patchcore.export import save
    from patchcore.model import signature

    instead = ", in the place of the export that was there" if (output / "manifest.json").is_file() else ""
    was_signed = (output / signature.IN_FOLDER).is_file()
    detector = Detector.load(model, device="cpu", threads=threads, weights=weights, require_signature=require_signature)
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
    )
    if key:
        tell(f"Signature: {signing.sign(output, key)}", as_json)
    elif was_signed:
        say(f"The export that was there was signed, and this one is not: patchcore sign {output} --key KEY")
    if as_json:
        found = saved.agreement
        numbers = {"images": found.images, "score": found.score, "map": found.map, "decisions": found.decisions}
        tested = {
            "axes": saved.axes,
            "tested_with": saved.tested_with,
            "quantised": saved.shift and saved.shift.figures(),
        }
        print_json({"folder": str(output), "files": saved.sizes, **numbers, **tested})
        return
    size = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sorted(saved.sizes.items()))
    tell(f"Self-test on {saved.tested_with}: {saved.agreement}.")
    if saved.shift:
        tell(f"Quantised with {counted(saved.shift.calibrated_on, 'good image')}, measured on {saved.shift}.")
    axes = ", ".join(f"by bounds along {one} axes" if one else "through all rows" for one in saved.axes)
    tell(f"Search, exact: {axes}.")
    tell(f"Wrote {output}{instead}: {size}. Check it anywhere with: patchcore verify {output}")


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@threads_option
@signature_option
@json_option
@command
def verify(folder: Path, threads: int | None, require_signature: str | None, as_json: bool) -> None:
    """Run the test vectors of an exported folder on this machine.

    Every file is compared with its SHA-256, and what the graph computes with what the library did. The exit code is 1
    where they differ.

    JSON keys: folder, images, score, map, decisions.
    """
    from patchcore import export
    from patchcore.errors import ExportError, UsageError
    from patchcore.model import signature

    if not (folder / "manifest.json").is_file():
        raise UsageError(
            f"{folder}: expected a folder that `patchcore export` has written, with a manifest.json in it."
        )
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
