"""Promises: `patchcore plan`, `patchcore set`, and the options that state a rate."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from patchcore.cli.changes import changes
from patchcore.cli.common import (
    command,
    data_path,
    existing_path,
    json_option,
    print_json,
    signature_option,
)
from patchcore.cli.parts import part_option, with_parts
from patchcore.errors import DataError, UsageError, counted

if TYPE_CHECKING:
    from patchcore.detector import Detector
    from patchcore.verdict.defects import Defects


class Share(click.ParamType):  # type: ignore[type-arg]
    """A share, given as 0.01 or 1%."""

    name = "SHARE"

    def __init__(self, least: float = 1e-9, most: float = 1 - 1e-9) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = float("nan")
        if not self._least <= share <= self._most:
            range_ = f"{round(self._least, 6):g} and {round(self._most, 6):g}"
            self.fail(f"{text!r} is no share between {range_}; expected for example 0.01 or 1%.", param, ctx)
        return share


share = Share()
rate_option = click.option(
    "--false-reject", "rate", type=share, help="Share of good parts that may fail, for example 1%."
)
confidence_option = click.option(
    "--confidence",
    type=share,
    help="Confidence that this rate is kept, for example 95%; without it, the rate is kept on average.",
)


@click.command(epilog="Example: patchcore plan parts.patchcore --false-reject 0.1% --confidence 95%")
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


@click.command(epilog="Example: patchcore set parts.patchcore --false-reject 1% --why 'too many false alarms'")
@click.argument("model", type=existing_path)
@rate_option
@click.option("--miss-rate", type=share, help="Share of defective parts that may pass, for example 1%; with --defects.")
@click.option(
    "--defects", type=data_path, help="Known defective images, which set how high a score may be and still pass."
)
@part_option
@click.option("--unsure", type=share, help="Confidence of the threshold's interval, inside which verdicts are unsure.")
@confidence_option
@json_option
@changes
@command
def set(
    model: Path,
    rate: float | None,
    miss_rate: float | None,
    defects: Path | None,
    part: re.Pattern[str] | None,
    unsure: float | None,
    confidence: float | None,
    write: Callable[[Detector, str, dict[str, Any]], None],
    who: str,
    why: str,
    require_signature: str | None,
) -> None:
    """Set the rates of a fitted detector, without fitting again: the same good images, another rank.

    MODEL is replaced by its next version, unless -o names another file. `patchcore undo` takes it back.

    With --defects and --miss-rate a second threshold, from below, lets only this share of such defects pass. An image
    passes up to it, fails above the threshold, and is unsure between the two; if it is the higher one, nothing is
    unsure. The promise is for defects of the same kinds, as often as there. --part names their parts in their paths.

    JSON keys: path, version, what, who, why, when, images, rows (each before and after), from, to, false_reject_rate,
    confidence, miss_rate, unsure, threshold, lower_threshold (a score up to it passes), pixel_threshold,
    calibration_enough, missing_defects (that the miss rate needs more), before, after (hashes of what was learned),
    chain, sha256.
    """
    if rate is None and miss_rate is None and unsure is None:
        raise UsageError(
            "Give what to set: --false-reject, for example --false-reject 1%, --miss-rate 1% --defects DIR, or "
            "--unsure 95%."
        )
    if (miss_rate is None) != (defects is None):
        raise UsageError("--miss-rate and --defects belong together: give both, or neither.")

    from patchcore.changes.history import restated
    from patchcore.detector import Detector
    from patchcore.model import file

    before = file.read(model, require_signature)[2].calibration  # says what is missing before a network is built
    if not before.scores:
        raise DataError(f"{model} holds no scores of good images to set a threshold with. Fit with --calibration DIR.")
    found = before if rate is None else before.at_rate(rate, confidence)
    found = found if unsure is None else found.with_unsure(unsure)
    if miss_rate is not None and defects is not None:
        found = found.with_defects(_defects(model, defects, part, require_signature, miss_rate, confidence))
    names = ("false-reject rate", rate), ("miss rate", miss_rate), ("unsure", unsure)
    what = ", ".join(name for name, value in names if value is not None)
    fitted = Detector.load(model, require_signature=require_signature).fitted
    now = restated(fitted, what, found, who=who, why=why)
    more = {
        **cast(dict[str, Any], now.history[-1]["to"]),
        "calibration_enough": found.enough,
        "missing_defects": found.defects.missing if found.defects else None,
    }
    write(Detector.of(now, device="cpu"), f"{found.summary()} It was {before.threshold:.6g}.", more)


def _defects(
    model: Path,
    given: Path,
    part: re.Pattern[str] | None,
    key: str | None,
    miss_rate: float,
    confidence: float | None,
) -> Defects:
    """Known defective images, scored: of labelled data the defective ones, else all; copies count once."""
    from patchcore.data.reading import Reading
    from patchcore.data.resolve import relative, resolve
    from patchcore.data.sample import GOOD, holds_good
    from patchcore.detector import Detector
    from patchcore.pipeline.copies import distinct
    from patchcore.verdict.defects import Defects

    samples = list(resolve(given).samples)
    labelled = [one for one in samples if one.kind is not None]
    unlabelled = [one for one in samples if not holds_good(Path(one.name).parent.name)]
    samples = [one for one in labelled if one.kind != GOOD] if labelled else unlabelled
    if not samples:
        raise DataError(f"{given} holds no defective images. Give a folder of them, or a dataset that has some.")
    samples = list(distinct(with_parts(samples, part), Reading()).values())
    results = list(Detector.load(model, require_signature=key).stream(samples, progress=True))
    names = [result.sample.part or result.name for result in results]
    return Defects.fit(
        [result.score for result in results],
        miss_rate,
        confidence=confidence,
        images=list(relative([result.name for result in results])),
        parts=names,
    )


def _promise(rate: float, confidence: float | None) -> str:
    sure = f" with {confidence:.4g} confidence" if confidence else " on average"
    return f"a false-reject rate of {rate:.3g}{sure}"
