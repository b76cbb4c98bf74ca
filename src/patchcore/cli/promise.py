"""Promises: `patchcore plan`, `patchcore set`, and the options that state a rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from patchcore.cli.common import (
    check_new,
    command,
    existing_path,
    force_option,
    json_option,
    print_json,
    signature_option,
    tell,
)
from patchcore.errors import DataError, UsageError, counted

if TYPE_CHECKING:
    from patchcore.verdict.calibration import Calibration


class _Share(click.ParamType):  # type: ignore[type-arg]
    """A share between 0 and 1, given as 0.01 or 1%."""

    name = "SHARE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = float("nan")
        if not 0 < share < 1:
            self.fail(f"{text!r} is no share between 0 and 1; expected for example 0.01 or 1%.", param, ctx)
        return share


share = _Share()
rate_option = click.option(
    "--false-reject", "rate", type=share, help="Share of good parts that may fail, for example 1%."
)
confidence_option = click.option(
    "--confidence",
    type=share,
    help="Confidence that this rate is kept, for example 95%; without it, the rate is kept on average.",
)


@click.command()
@click.argument("model", type=existing_path)
@rate_option
@confidence_option
@signature_option
@json_option
@command
def plan(
    model: Path, rate: float | None, confidence: float | None, require_signature: str | None, as_json: bool
) -> None:
    """Say how many good parts a false-reject rate needs, before anything is fitted again.

    Without --false-reject, the model's own rate is taken.

    JSON keys: false_reject_rate, confidence, parts (good ones that have set the threshold), needed, missing,
    lowest_rate (that so many parts can promise), threshold (at the rate asked for; null if parts are missing).
    """
    from patchcore.maths.thresholds import lowest_rate, needed_scores
    from patchcore.model import file

    calibration = file.read(model, require_signature)[2].calibration
    rate = calibration.false_reject_rate if rate is None else rate
    found, needed = calibration.at_rate(rate, confidence), needed_scores(rate, confidence)
    lowest = lowest_rate(found.units, confidence)
    if as_json:
        print_json(
            {
                "false_reject_rate": rate,
                "confidence": confidence,
                "parts": found.units,
                "needed": needed,
                "missing": max(0, needed - found.units),
                "lowest_rate": lowest,
                "threshold": found.threshold if found.enough else None,
            }
        )
        return
    click.echo(f"{_promise(rate, confidence)} needs {counted(needed, 'good part')}.")
    has = f"{model} was calibrated with {found.units}"
    if found.enough:
        click.echo(f"{has}: the threshold would be {found.threshold:.6g} (now {calibration.threshold:.6g}).")
    else:
        click.echo(f"{has}: {needed - found.units} more are needed. They allow {_promise(lowest, confidence)}.")


@click.command()
@click.argument("model", type=existing_path)
@rate_option
@confidence_option
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@signature_option
@force_option
@json_option
@command
def set(
    model: Path,
    rate: float | None,
    confidence: float | None,
    output: Path,
    require_signature: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Set the false-reject rate of a fitted detector, without fitting again: the same good images, another rank.

    The new file keeps what was changed, and the hash of the file that it was made from. It is not signed.

    JSON keys: path, false_reject_rate, confidence, threshold, pixel_threshold, calibration_enough, sha256.
    """
    if rate is None:
        raise UsageError("Give the rate to set: --false-reject, for example --false-reject 1%.")
    check_new(output, force, [model, require_signature])

    from patchcore.model import file, store

    tensors, header, checked = file.read(model, require_signature)
    found = checked.calibration.at_rate(rate, confidence)
    if not found.scores:
        raise DataError(f"{model} holds no scores of good images to set a threshold with. Fit with --calibration DIR.")
    recipe = checked.recipe.replace(false_reject_rate=rate, confidence=confidence)
    before = checked.calibration
    change = {
        "what": "false-reject rate",
        "from": _terms(before),
        "to": _terms(found),
        "sha256": header["sha256"],
    }
    body = {name: value for name, value in header.items() if name not in ("format", "sha256")}
    history = [*header.get("history", []), change]
    digest = store.write(
        output,
        tensors,
        {**body, "recipe": recipe.to_dict(), "calibration": found.to_dict(), "history": history},
    )
    tell(f"{output}: {found.summary()} It was {before.threshold:.6g}.", as_json)
    if as_json:
        print_json(
            {
                "path": str(output),
                "false_reject_rate": rate,
                "confidence": confidence,
                "threshold": found.threshold,
                "pixel_threshold": found.pixel_threshold,
                "calibration_enough": found.enough,
                "sha256": digest,
            }
        )


def _terms(calibration: Calibration) -> dict[str, float | None]:
    return {
        "false_reject_rate": calibration.false_reject_rate,
        "confidence": calibration.confidence,
        "threshold": calibration.threshold,
        "pixel_threshold": calibration.pixel_threshold,
    }


def _promise(rate: float, confidence: float | None) -> str:
    sure = f" with {confidence:.4g} confidence" if confidence else " on average"
    return f"a false-reject rate of {rate:.3g}{sure}"
