"""Changes to a fitted detector: `patchcore teach`, `forget`, `undo`, `history` and `compact`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from patchcore.cli.common import (
    check_new,
    check_output,
    command,
    device_option,
    existing_path,
    force_option,
    json_option,
    max_pixels_option,
    model_path,
    print_json,
    say,
    signature_option,
    tell,
    threads_option,
    user,
)
from patchcore.errors import UsageError, counted

if TYPE_CHECKING:
    from patchcore.detector import Detector

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS = {
    "output": click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write."),
    "force": force_option,
    "who": click.option("--who", help="Who makes the change; by default the name of the user."),
    "why": click.option("--why", default="", help="The reason, for the history."),
    "key": click.option("--sign", "key", metavar="KEY", help="Ed25519 private key to sign the new version with."),
    "require_signature": signature_option,
}


def changes(function: F) -> F:
    """Add the options of a change. The command receives `write`, which saves a version, and says what it is: a text for
    people, and more keys for JSON."""

    @functools.wraps(function)
    def run(model: Path, as_json: bool, *args: Any, **given: Any) -> Any:
        own = {name: given.pop(name) for name in _OPTIONS}
        target, key, who = own["output"] or model, own["key"], own["who"]
        from patchcore.model import signing
        from patchcore.model.chain import said

        if key:
            signing.private_key(key)  # fails before the work if the key cannot be used
        if target == model:
            check_output(target, [key])
        else:
            check_new(target, own["force"], [model, key])

        def write(detector: Detector, text: str, told: Mapping[str, Any] | None = None) -> None:
            digest = detector.save(target)
            version = len(detector.fitted.history) + 1
            tell(f"{target}: version {version}. {text}", as_json)
            if key:
                tell(f"Signature: {signing.sign(target, key)}", as_json)
            else:
                _unsigned(target)
            if as_json:
                entry = detector.fitted.history[-1] if detector.fitted.history else {}
                print_json({"path": str(target), **said(entry), **(told or {}), "sha256": digest})

        given |= {"who": who or user(), "why": own["why"], "require_signature": own["require_signature"]}
        return function(model, *args, write=write, **given)

    with_options: Any = run
    for option in reversed(_OPTIONS.values()):
        with_options = option(with_options)
    return with_options


def _unsigned(target: Path) -> None:
    """Remove the signature of what was in a file before, and say so."""
    from patchcore.model import signature

    if (old := signature.signature_of(target)).exists():
        old.unlink()
        say(f"{old} is gone, as it was for another version. Sign this one: patchcore sign {target} --key KEY")


@click.command(epilog="Example: patchcore teach parts.patchcore new/07.jpg --why 'only dust'")
@click.argument("model", type=model_path)
@click.argument("images", nargs=-1, required=True, type=existing_path)
@click.option("--rows", type=click.IntRange(0), help="The most rows that the bank may get; by default what it takes.")
@max_pixels_option
@device_option
@threads_option
@json_option
@changes
@command
def teach(
    model: Path,
    images: tuple[Path, ...],
    rows: int | None,
    max_pixels: int,
    device: str,
    threads: int | None,
    write: Callable[[Detector, str], None],
    who: str,
    why: str,
    require_signature: str | None,
) -> None:
    """Teach a detector good images, without fitting again: they pass from now on.

    IMAGES are good images that it should know, such as parts that were rejected wrongly, or folders of them. MODEL is
    replaced by its next version, unless -o names another file. `patchcore undo` takes it back. Only what is new in an
    image is added to the bank; the thresholds stay.

    JSON keys: path, version, what, who, why, when, images, rows, threshold (each before and after), taught (name, score
    before and after), radius (how far from the bank a good patch is at most, before and after), promise, before, after
    (hashes of what was learned), chain, sha256.
    """
    from patchcore.data.reading import Reading
    from patchcore.data.resolve import resolve
    from patchcore.detector import Detector

    detector = Detector.load(model, device=device, threads=threads, require_signature=require_signature)
    samples = [sample for path in images for sample in resolve(path, learning=True).samples]
    now = detector.teach(samples, who=who, why=why, rows=rows, reading=Reading(max_pixels))
    entry: Any = now.fitted.history[-1]
    for one in entry["taught"]:
        say(f"{one['name']}: score {one['score'][0]:.6g} -> {one['score'][1]:.6g}")
    added = entry["rows"][1] - entry["rows"][0]
    write(
        now, f"{counted(len(entry['taught']), 'image')} learned with {counted(added, 'row')} more. {entry['promise']}"
    )


@click.command(epilog="Example: patchcore recalibrate parts.patchcore new --why 'a new lamp'")
@click.argument("model", type=model_path)
@click.argument("images", nargs=-1, required=True, type=existing_path)
@max_pixels_option
@device_option
@threads_option
@json_option
@changes
@command
def recalibrate(
    model: Path,
    images: tuple[Path, ...],
    max_pixels: int,
    device: str,
    threads: int | None,
    write: Callable[[Detector, str], None],
    who: str,
    why: str,
    require_signature: str | None,
) -> None:
    """Set a detector's thresholds again, with new good images, without fitting again.

    IMAGES are good images that it has not learned, or folders of them, as the line makes them now. The bank and the
    rates stay; MODEL is replaced by its next version, unless -o names another file. `patchcore undo` takes it back.

    JSON keys: as `patchcore teach`; good (images), score (their median, before that of the old ones), failing (of the
    new images, by the threshold before and after), missed (known defects that pass, before and after, if there are any)
    in the place of taught and radius.
    """
    from patchcore.data.reading import Reading
    from patchcore.data.resolve import resolve
    from patchcore.detector import Detector

    detector = Detector.load(model, device=device, threads=threads, require_signature=require_signature)
    samples = [sample for path in images for sample in resolve(path, learning=True).samples]
    now = detector.recalibrate(samples, who=who, why=why, reading=Reading(max_pixels))
    entry: Any = now.fitted.history[-1]
    (before, after), good = entry["failing"], counted(entry["good"], "good image")
    text = f"Of {good}, {before} failed before, and {after} fail now; the threshold was {entry['threshold'][0]:.6g}."
    if known := entry.get("missed"):
        text += f" Known defects that pass: {known[0]} before, {known[1]} now."
    write(now, f"{text} {entry['promise']}")


@click.command(epilog="Example: patchcore forget parts.patchcore 07.jpg --why 'it has a scratch'")
@click.argument("model", type=model_path)
@click.argument("image")
@json_option
@changes
@command
def forget(
    model: Path, image: str, write: Callable[[Detector, str], None], who: str, why: str, require_signature: str | None
) -> None:
    """Take the rows of a training image out of a detector's bank.

    IMAGE is its name, as `patchcore info` and evidence have it, or the end of its path. MODEL is replaced by its next
    version, unless -o names another file.

    JSON keys: as `patchcore teach`; forgotten, lost (rows), now nearest (images whose rows are nearest to those) in the
    place of taught.
    """
    from patchcore.detector import Detector

    now = Detector.load(model, require_signature=require_signature).forget(image, who=who, why=why)
    entry: Any = now.fitted.history[-1]
    before, after = entry["radius"]
    text = (
        f"{entry['forgotten']}: {counted(entry['lost'], 'row')} taken out; a good patch may now be {after:.4g} from "
        f"the bank, before {before:.4g}. {entry['promise']}"
    )
    write(now, text)


@click.command(epilog="Example: patchcore undo parts.patchcore 1")
@click.argument("model", type=model_path)
@click.argument("version", type=click.IntRange(1), required=False)
@json_option
@changes
@command
def undo(
    model: Path,
    version: int | None,
    write: Callable[[Detector, str], None],
    who: str,
    why: str,
    require_signature: str | None,
) -> None:
    """Go back to an earlier version of a detector; without VERSION, to the one before the last change.

    The version that it goes back to becomes the next one, bit for bit, so an undo can be undone.

    JSON keys: as `patchcore teach`; restored (the version that came back) in the place of taught.
    """
    from patchcore.detector import Detector

    now = Detector.load(model, require_signature=require_signature).undo(version, who=who, why=why)
    entry: Any = now.fitted.history[-1]
    write(
        now,
        f"As version {entry['restored']} was: {counted(entry['rows'][1], 'row')}, threshold {entry['threshold'][1]}.",
    )


@click.command(epilog="Example: patchcore history parts.patchcore")
@click.argument("model", type=model_path)
@signature_option
@json_option
@command
def history(model: Path, require_signature: str | None, as_json: bool) -> None:
    """List the versions of a detector: who changed what, when and why.

    JSON keys, for each change: as `patchcore teach` has them for its own.
    """
    from patchcore.changes.history import line
    from patchcore.model import file
    from patchcore.model.chain import said

    checked = file.read(model, require_signature)[2]
    if as_json:
        for entry in checked.history:
            print_json(said(entry))
        return
    if not checked.history:
        click.echo(f"{model}: version 1, as it was fitted.")
    for number, entry in enumerate(checked.history, 2):
        tell(line(entry, number))


@click.command(epilog="Example: patchcore compact parts.patchcore -o small.patchcore")
@click.argument("model", type=model_path)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; by default MODEL."
)
@signature_option
@command
def compact(model: Path, output: Path | None, require_signature: str | None) -> None:
    """Drop from a detector's file what only earlier versions need. They can then no longer be brought back."""
    from patchcore.changes.history import compacted
    from patchcore.detector import Detector

    target = output or model
    check_output(target, [] if target == model else [model])
    detector, size = Detector.load(model, require_signature=require_signature), model.stat().st_size
    if not detector.fitted.past:
        raise UsageError(f"{model}: it holds nothing of earlier versions.")
    Detector.of(compacted(detector.fitted), device="cpu").save(target)
    _unsigned(target)
    tell(f"{target}: {target.stat().st_size / 1e6:.2f} MB, before {size / 1e6:.2f} MB; earlier versions are gone.")
