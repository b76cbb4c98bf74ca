"""What the commands do with `--cluster`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from patchcore.cli.common import print_json, say, tell
from patchcore.errors import UsageError, counted
from patchcore.files import targets

if TYPE_CHECKING:
    from patchcore.cluster import Looked, Made
    from patchcore.cluster.rows import Row
    from patchcore.data.reading import Reading
    from patchcore.data.sample import Sample
    from patchcore.detector import Detector
    from patchcore.recipe.recipe import Recipe

cluster_option = click.option(
    "--cluster",
    "address",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Work on the Ray cluster at this address (auto, HOST:PORT, ray://HOST:PORT); without one on a Ray over this "
    "machine's cores. Needs patchcore[cluster]. Give it last, or with a =.",
)
workers_option = click.option(
    "--workers", type=click.IntRange(1), help="With --cluster: workers of one core each; by default one for each core."
)


def address_of(given: str | None) -> str | None:
    """`local` stands for a Ray of our own."""
    return None if given == "local" else given


def check_alone(given: Mapping[str, object], name: str) -> None:
    """Errors: UsageError for an option that a cluster has no use for."""
    if other := next((option for option, value in given.items() if value), None):
        raise UsageError(f"{other} does not go with `{name} --cluster`: leave it out, or leave --cluster out.")


def predict(
    model: Path,
    images: tuple[Path, ...],
    results: Path | None,
    address: str,
    workers: int | None,
    max_pixels: int,
    regions: bool,
    load: Callable[[Path], Detector],
    as_json: bool,
) -> Looked:
    """`patchcore predict --cluster`: a row for each image, in a file or on standard output."""
    if results is None and not as_json:
        raise UsageError("Give the file for the results, --results FILE, or --json.")
    if results is not None:
        targets.no_input([results], [model, *images])
    from patchcore import cluster
    from patchcore.data.reading import Reading

    def show(row: Row) -> None:
        if as_json:
            print_json(row)

    samples = _samples(images)
    done = cluster.predict(
        load(model),
        samples,
        out=results,
        address=address_of(address),
        workers=workers,
        reading=Reading(max_pixels),
        regions=regions,
        model=str(model),
        on_row=show,
        progress=not as_json,
    )
    if results is not None:
        before = f"; {done.before} were there before" if done.before else ""
        tell(f"{results}: {counted(done.done, 'row')} written{before}.", as_json)
    if done.bad:
        say(f"Skipped {counted(len(done.bad), 'image')} that could not be used:")
        for error in done.bad:
            say(f"  {error}")
    return done


class One(NamedTuple):
    """How a model is fitted on a cluster."""

    address: str | None
    workers: int | None
    way: Literal["exact", "merge"]
    memory: str | None
    checkpoints: Path | None
    limit: int | None
    thumbnails: bool | None


def fit(
    recipe: Recipe,
    data: Path,
    calibration: Path | None,
    part: re.Pattern[str] | None,
    how: One,
    reading: Reading,
) -> Detector:
    """`patchcore fit --cluster`."""
    from patchcore import cluster
    from patchcore.cli.parts import with_parts
    from patchcore.cluster.urls import samples_of, url_of

    def read(path: Path) -> list[Sample]:
        return list(with_parts(samples_of(url_of(path) or path, learning=True), part))

    others = None if calibration is None else read(calibration)
    return cluster.fit(
        recipe,
        read(data),
        calibration=others,
        address=how.address,
        workers=how.workers,
        way=how.way,
        memory=how.memory,
        checkpoints=how.checkpoints,
        limit=how.limit,
        thumbnails=how.thumbnails,
        reading=reading,
        progress=True,
    )


class Many(NamedTuple):
    """How many models are fitted on a cluster."""

    address: str | None
    workers: int | None
    memory: str | None
    skip_bad: bool
    max_pixels: int


def fit_each(recipe: Recipe, root: Path, models: Path, how: Many, as_json: bool) -> int:
    """`patchcore fit --cluster --models`: the exit code."""
    from patchcore import cluster

    ended = 0

    def told(one: Made) -> None:
        nonlocal ended
        ended += 1
        left_out = f", without {counted(len(one.skipped), 'image')}" if one.skipped else ""
        say(f"[{ended}] {one.category.dataset} {one.category.category}: {one.error or one.path}{left_out}")

    made = cluster.fit_each(
        recipe,
        root,
        models,
        address=how.address,
        workers=how.workers,
        memory=how.memory,
        skip_bad=how.skip_bad,
        max_pixels=how.max_pixels,
        on_end=told,
    )
    failed = [one for one in made if one.error]
    tell(f"{models}: {counted(len(made) - len(failed), 'model')} of {counted(len(made), 'category', 'categories')}.",
         as_json)  # fmt: skip
    for one in made if as_json else ():
        about = {"dataset": one.category.dataset, "category": one.category.category, "path": str(one.path)}
        print_json({**about, "error": one.error} if one.error else {**about, "skipped": list(one.skipped)})
    return 1 if failed else 0


def _samples(images: tuple[Path, ...]) -> list[Sample]:
    """The images of files, folders, tables and URLs, named as `patchcore predict` names them. Errors: DataError."""
    from patchcore.cluster.urls import samples_of, url_of
    from patchcore.data.resolve import resolve
    from patchcore.data.sample import Sample

    found = list[Sample]()
    for image in images:
        if (url := url_of(image)) is not None:
            found += [Sample(f"{url.rstrip('/')}/{one.name}" * (one.name != url) or url, one.image, part=one.part)
                      for one in samples_of(url)]  # fmt: skip
        else:
            found += [Sample(str(one.image), one.image, part=one.part) for one in resolve(image).samples]
    return found
