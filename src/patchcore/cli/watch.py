"""Watching: `patchcore watch`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from patchcore.cli.common import (
    check_output,
    command,
    detector_options,
    existing_path,
    max_pixels_option,
    model_path,
    needs_output,
    print_json,
    say,
)
from patchcore.cli.promise import Share, share
from patchcore.errors import ImageError, UsageError

if TYPE_CHECKING:
    from patchcore.detector import Detector
    from patchcore.result import Result
    from patchcore.watch.monitor import Monitor

_SAVED = 100  # images after which the state is written, if one look finds more


@click.command(epilog="Example: patchcore watch parts.patchcore new --state watch.json")
@click.argument("model", type=model_path)
@click.argument("folder", type=existing_path)
@click.option("--state", type=click.Path(path_type=Path, dir_okay=False), help="File to go on from, after a restart.")
@click.option("--once/--follow", default=False, help="Stop after the images that are there; by default wait for more.")
@click.option("--restart", is_flag=True, help="Compare anew, as after a repair; images seen before are not seen again.")
@click.option("--false-alarm", "rate", type=share, help="The probability that there is ever a false alarm.  [1%]")
@click.option(
    "--defects",
    type=Share(0, 0.2),
    help="Share of images that may be unlike the good ones without an alarm.  [0.1]",
)
@click.option("--every", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Seconds between two looks.")
@max_pixels_option
@detector_options
@command
def watch(
    model: Path,
    folder: Path,
    state: Path | None,
    once: bool,
    restart: bool,
    rate: float | None,
    defects: float | None,
    every: float,
    max_pixels: int,
    load: Callable[[Path], Detector],
) -> None:
    """Watch the images that arrive in a folder: say when they are no longer like those of calibration.

    Prints one JSON object per line, and alarms for people on standard error. An alarm says what has changed, by how
    much, since about which image, and what to do; each is given once. While nothing changes, the probability that there
    is ever one is at most --false-alarm, however long the watch goes on. docs/drift.md says how, and what is not seen.

    JSON keys: event, time; for `begin`: model, folder, seen (images), learning (what has no reference yet, and how
    many images are missing), alarms (what has changed before); for `restart`: why; for `image`: path, number, score,
    decision; for `alarm`: what, before, now, spreads, since, since_number, image, number, advice; for `learned`:
    number; for `unreadable`: path, error; for `end`: seen, alarms.
    """
    needs_output()
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; expected a folder in which images arrive.")
    if state is not None:
        check_output(state, [model])
    from patchcore.watch.monitor import Monitor
    from patchcore.watch.state import State

    detector = load(model)
    found = State.read(state) if state is not None and state.exists() else None
    for option, given, was in (("--false-alarm", rate, "false_alarm_rate"), ("--defects", defects, "defects")):
        if found and not restart and given is not None and given != getattr(found, was):
            raise UsageError(f"{option} is {given}, and {state} was begun with {getattr(found, was)}; add --restart.")
    monitor = Monitor(
        detector,
        false_alarm_rate=rate or (found.false_alarm_rate if found else 0.01),
        defects=(found.defects if found else 0.1) if defects is None else defects,
    )
    if found:
        other = found.reference != monitor.state.reference
        if restart or other:
            monitor.state.mark, monitor.state.waiting = found.mark, found.waiting
            _event("restart", why="the thresholds were set again" if other else "asked for")
        else:
            monitor.state = found
    _event("begin", model=str(model), folder=str(folder), seen=monitor.state.seen, learning=monitor.learning,
           alarms=[one["what"] for one in monitor.state.alarms])  # fmt: skip
    if monitor.learning:
        say(f"No reference yet of {', '.join(monitor.learning)}: the first images are taken as good ones.")
    unsaved = 0
    try:
        for looked in _seen(monitor, detector, folder, once, every, max_pixels):
            unsaved += looked
            if state is not None and unsaved >= (_SAVED if looked else 1):
                monitor.save(state)
                unsaved = 0
    finally:
        if state is not None:
            monitor.save(state)
    _event("end", seen=monitor.state.seen, alarms=[one["what"] for one in monitor.state.alarms])


def _event(event: str, **about: Any) -> None:
    print_json({"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **about})


def _seen(
    monitor: Monitor, detector: Detector, folder: Path, once: bool, every: float, max_pixels: int
) -> Iterator[bool]:
    """Look at all that arrives: True after each image, and False after each look into the folder."""
    from patchcore.data.reading import Reading
    from patchcore.data.sample import Sample
    from patchcore.watch.folder import Arrived, arrived

    until = time.time() if once else None
    while True:
        new, fresh = arrived(folder, monitor.state.mark, until)
        again = [Arrived(Path(name), (0, name)) for name in monitor.state.waiting]
        marks = {str(one.path): one.mark for one in (*again, *new)}

        def bad(error: ImageError, marks: dict[str, tuple[int, str]] = marks) -> None:
            _wait(monitor, error)
            monitor.state.mark = max(monitor.state.mark, marks[error.name])

        samples = [Sample(name, Path(name)) for name in marks]
        for result in detector.stream(samples, reading=Reading(max_pixels, bad)):
            _look(monitor, result)
            monitor.state.mark = max(monitor.state.mark, marks[result.name])
            yield True
        if once and not (fresh or monitor.state.waiting):
            return
        yield False
        time.sleep(every)


def _look(monitor: Monitor, result: Result) -> None:
    """One image: what is said of it, and of the line."""
    from patchcore.watch.folder import TRIES

    tried = monitor.state.waiting.get(result.name, 0)
    if result.warnings and tried + 1 < TRIES:  # perhaps not all of it is there yet
        monitor.state.waiting[result.name] = tried + 1
        return
    learning = bool(monitor.learning)
    try:
        alarms = monitor.see(result)
    except ImageError as error:
        _wait(monitor, error)
        return
    monitor.state.waiting.pop(result.name, None)
    _event("image", path=result.name, number=monitor.state.seen, score=result.score, decision=result.decision)
    for alarm in alarms:
        _event("alarm", **alarm.to_dict())
        say(str(alarm))
    if learning and not monitor.learning:
        _event("learned", number=monitor.state.seen)


def _wait(monitor: Monitor, error: ImageError) -> None:
    """An image that cannot be read: it is tried again, and at last given up."""
    from patchcore.watch.folder import TRIES

    tried = monitor.state.waiting.pop(error.name, 0) + 1
    if tried < TRIES:
        monitor.state.waiting[error.name] = tried
    else:
        _event("unreadable", path=error.name, error=error.reason)
