"""Many models: the categories of datasets, or the cells of a benchmark, each by one worker, as one job."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from patchcore.benchmark.cells import Cell
from patchcore.benchmark.journal import Journal, Row
from patchcore.benchmark.measure import measure
from patchcore.benchmark.runner import Outcome, alone
from patchcore.cluster.session import engine, session
from patchcore.data.layouts import Category, categories
from patchcore.data.reading import Reading
from patchcore.data.resolve import detect
from patchcore.detector import Detector
from patchcore.errors import ImageError, PatchcoreError, UsageError, is_wrong_usage
from patchcore.files import appearing
from patchcore.files.targets import folder as check_folder
from patchcore.recipe.recipe import Recipe

T = TypeVar("T")
_TRIES = 2  # more, for a category or a cell whose worker was lost


class Made(NamedTuple):
    """What has become of a category: its model and that file's SHA-256, or why there is none; images left out."""

    category: Category
    path: Path
    sha256: str = ""
    error: str = ""
    skipped: tuple[str, ...] = ()


def fit_each(
    recipe: Recipe | str | None,
    root: str | Path,
    out: str | Path,
    *,
    address: str | None = None,
    workers: int | None = None,
    memory: int | str | None = None,
    skip_bad: bool = False,
    max_pixels: int | None = None,
    on_end: Callable[[Made], object] | None = None,
) -> list[Made]:
    """A model for each category of a dataset, or of a folder of datasets, as `out`/DATASET-CATEGORY.patchcore.

    Each is `Detector.fit` by one worker on one core, with the same result as alone. A category that fails does not
    stop the others. Models that are there already are left alone, so that a run which was stopped goes on.

    Args:
        recipe, address, workers: As for `cluster.fit`.
        root: What `patchcore.data.layouts.categories` takes; every worker must be able to read it.
        out: A folder; it is made.
        memory: Bytes, or a text such as "2GB", that each fit may take beside the model.
        skip_bad: Leave out images that cannot be used, and list them.
        max_pixels: The largest image to decode.
        on_end: Called with each category that ends, as they end.

    Returns:
        One for each category, in order. Errors: DataError, UsageError, MissingExtraError
    """
    recipe = Recipe.of(recipe)
    out = Path(out)
    found = categories(root)
    names = [f"{one.dataset}-{one.category}.patchcore".replace("/", "-") for one in found]
    if len(set(names)) < len(names):
        raise UsageError(f"{root}: two categories have the same name; give the datasets one by one.")
    check_folder(out, names, [root])
    out.mkdir(parents=True, exist_ok=True)
    made = {place: Made(one, out / names[place]) for place, one in enumerate(found)}
    waiting = {place: one for place, one in made.items() if not one.path.exists()}
    reading = Reading() if max_pixels is None else Reading(max_pixels)
    work = [(place, (recipe, str(Path(one.category.path).absolute()), memory, skip_bad, reading)) for place, one in
            waiting.items()]  # fmt: skip
    for place, answer, error in _each(_fit, work, address, workers):
        one = made[place]
        if answer is not None:
            content, digest, skipped, error = answer
            one = one._replace(sha256=digest, skipped=tuple(skipped))
            if not error:
                with appearing(one.path) as temporary:
                    temporary.write_bytes(content)
        made[place] = one._replace(error=error)
        if on_end is not None:
            on_end(made[place])
    return list(made.values())


def _fit(
    recipe: Recipe, path: str, memory: int | str | None, skip_bad: bool, reading: Reading
) -> tuple[bytes, str, list[str], str]:
    """The model's file, its SHA-256, the images left out, or an error."""
    skipped = list[str]()

    def skip(error: ImageError) -> None:
        skipped.append(error.name)

    reading = Reading(reading.max_pixels, skip if skip_bad else None, threads=1)
    try:
        detector = Detector(recipe, device="cpu", threads=1)
        detector.fit(detect(path).train, memory=memory, reading=reading)
        with tempfile.TemporaryDirectory(prefix="patchcore-") as folder:
            file = Path(folder) / "model.patchcore"
            digest = detector.save(file)
            return file.read_bytes(), digest, skipped, ""
    except (PatchcoreError, OSError) as error:
        if isinstance(error, PatchcoreError) and is_wrong_usage(error):
            raise
        return b"", "", skipped, str(error)


def benchmark(
    cells: Sequence[Cell],
    folder: str | Path,
    *,
    address: str | None = None,
    workers: int | None = None,
    on_end: Callable[[Cell, Row], object] | None = None,
) -> Outcome:
    """`benchmark.runner.run` on a cluster: each cell in a process of its own, on one core.

    Cells that have a row in `folder`/results.jsonl are not run again; a failed cell does not stop the others.
    Errors: StoreError, UsageError, MissingExtraError.
    """
    folder = Path(folder)
    with alone(folder):
        journal = Journal(folder / "results.jsonl")
        errors: dict[str, str] = {}
        work = [(place, (cell,)) for place, cell in enumerate(cells) if cell.key not in journal.rows]
        for place, answer, error in _each(_measured, work, address, workers, own_process=True):
            cell = cells[place]
            row: dict[str, Any] = {"error": error} if answer is None else answer
            if "error" in row:
                errors[cell.key] = row["error"]
            else:
                about = {"set": list(cell.assignments), "jobs": 1, "key": cell.key}
                row = journal.append({**cell.names, **row, **about})
            if on_end is not None:
                on_end(cell, row)
        rows = [journal.rows[cell.key] for cell in cells if cell.key in journal.rows]
        return Outcome(rows, [(cell, errors[cell.key]) for cell in cells if cell.key in errors])


def _measured(cell: Cell) -> dict[str, Any]:
    try:
        return measure(cell)
    except (PatchcoreError, OSError) as error:
        return {"error": str(error)}


def _each(
    function: Callable[..., T],
    work: Sequence[tuple[int, tuple[object, ...]]],
    address: str | None,
    workers: int | None,
    own_process: bool = False,
) -> Iterator[tuple[int, T | None, str]]:
    """The answers of a function, as they come, each with its number; or why there is none."""
    if not work:
        return
    with session(address, workers) as count:
        ray = engine()
        options = {"max_retries": _TRIES, "num_cpus": 1} | ({"max_calls": 1} if own_process else {})
        task, left, running = ray.remote(function).options(**options), list(reversed(work)), dict[Any, int]()
        while left or running:
            while left and len(running) < count:
                place, arguments = left.pop()
                running[task.remote(*arguments)] = place
            (done,), _ = ray.wait(list(running), num_returns=1)
            place = running.pop(done)
            try:
                yield place, ray.get(done), ""
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, PatchcoreError):
                    raise error.cause from None
                yield place, None, f"{type(error.cause).__name__}: {error.cause}"
            except ray.exceptions.RayError as error:
                yield place, None, f"its worker was lost {_TRIES + 1} times: {str(error).splitlines()[0]}"
