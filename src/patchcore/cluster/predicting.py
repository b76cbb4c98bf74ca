"""Predicting: images to rows, by workers that have one model each."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from patchcore.cluster.ledger import NO_MEMORY, REFUSED, Book, bounded, is_no_memory
from patchcore.cluster.rows import Row, rows_at
from patchcore.cluster.session import quiet_data, session
from patchcore.cluster.urls import opened, samples_of
from patchcore.data.reading import Reading
from patchcore.data.resolve import Images
from patchcore.data.sample import Sample
from patchcore.detector import Detector
from patchcore.errors import ImageError, UsageError
from patchcore.files.text import json_line
from patchcore.measure.row import row_of
from patchcore.memory.patches import spill_limit
from patchcore.pipeline.workers import progress_bar

T = TypeVar("T")
Shared = tuple[bytes, tuple[str, str]]  # the file of a detector; engine and precision
_BLOCK = 8  # images that a worker is given at a time
_WRITTEN = 32  # rows that are written at a time


@dataclass
class Looked:
    """What `predict` has done: rows that it wrote, rows that were there before, how many of its images failed, and
    those that could not be used.

    `rows` holds the rows themselves if they were written nowhere.
    """

    done: int = 0
    before: int = 0
    failed: int = 0
    bad: list[ImageError] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def predict(
    detector: Detector | str | Path,
    data: Images,
    *,
    out: str | Path | None = None,
    address: str | None = None,
    workers: int | None = None,
    memory: int | str | None = None,
    reading: Reading | None = None,
    regions: bool = False,
    model: str = "",
    on_row: Callable[[Row], object] | None = None,
    progress: bool = False,
) -> Looked:
    """Look at images on a cluster, and write a row for each, in their order, as soon as it is there.

    Args:
        detector: A fitted detector, or the file of one.
        data: What `Detector.predict` takes; or a URL that fsspec opens (`s3://...`), of a folder, a CSV table or an
            image, which every worker must be able to read.
        out: A file of JSON lines (`.jsonl`), a CSV table (`.csv`) or a folder of Parquet files (`.parquet`). Images
            that have a row there are not looked at again. None: the rows are returned.
        address: Of a running Ray cluster, as `ray.init` takes it. None: a Ray over this machine's cores.
        workers: How many, of one core each; None: one for each core of the cluster.
        memory: Bytes, or a text such as "2GB", that a worker may take beside the model. None: no limit of ours.
        reading: How images are read; `on_bad` is called for those that cannot be used, `threads` has no effect.
        regions: Also the regions of defects, as `patchcore predict --regions`.
        model: What rows call the model.
        on_row: Called with every row once it is written.
        progress: Show a bar.

    Scores are those of `Detector.predict` for a list, bit for bit, on processors of the same kind. An image that cannot
    be used, or that ended three workers, has a row with an `error`.

    Raises:
        NotFittedError, DataError, UsageError, StoreError, MissingExtraError
    """
    looked = Looked()
    shared, digest = _file_of(detector)
    samples = _each_once(samples_of(data))
    if out is not None:
        rows = rows_at(out, digest)
        known = rows.known()
        looked.before = sum(one.name in known for one in samples)
        looked.bad = [ImageError(one.name, known[one.name]) for one in samples if known.get(one.name)]
        samples = [one for one in samples if one.name not in known]
    if not samples:
        return looked
    found = _stream(shared, samples, address, workers, memory, Reading.of(reading), regions, model)
    with closing(found), progress_bar("Looking at images" if progress else None, "image", len(samples)) as advance:
        for some in _in_groups(found, _WRITTEN if out is not None else 1):
            if out is not None:
                rows.add(some)
            else:
                looked.rows += some
            looked.bad += [ImageError(str(row["path"]), str(row["error"])) for row in some if "error" in row]
            looked.failed += sum(row.get("decision") == "fail" for row in some)
            looked.done += len(some)
            if on_row is not None:
                for row in some:
                    on_row(row)
            advance(len(some))
    return looked


def stream(
    detector: Detector | str | Path,
    data: Images,
    *,
    address: str | None = None,
    workers: int | None = None,
    memory: int | str | None = None,
    reading: Reading | None = None,
    regions: bool = False,
    model: str = "",
) -> Generator[Row, None, None]:
    """The rows of images, in their order, as soon as they are there; otherwise as `predict`.

    Workers run ahead only as far as Ray lets results wait; close the iterator to end them.
    """
    shared, _ = _file_of(detector)
    return _stream(shared, samples_of(data), address, workers, memory, Reading.of(reading), regions, model)


def _stream(
    shared: Shared,
    samples: list[Sample],
    address: str | None,
    workers: int | None,
    memory: int | str | None,
    reading: Reading,
    regions: bool,
    model: str,
) -> Generator[Row, None, None]:
    held = None if memory is None else 3 * (spill_limit(memory) or 0)
    bad, reading = reading.on_bad, replace(reading, on_bad=None, threads=None)
    with session(address, workers) as count:
        how = partial(Looker, Book(shared), held, reading, regions, model)
        items = [{"number": number, "sample": pickle.dumps(one)} for number, one in enumerate(samples)]
        blocks = -(-len(items) // _BLOCK)
        with quiet_data() as data:
            looks = data.from_items(items, override_num_blocks=blocks).map_batches(
                _Lazy,
                fn_constructor_args=(how,),
                batch_size=None,
                batch_format="numpy",
                compute=data.ActorPoolStrategy(size=min(count, blocks)),
                num_cpus=1,
            )
            found = iter(looks.iter_rows())
            begun = [next(found)]  # what Ray Data says of itself it says until then
        for one in chain(begun, found):
            row: Row = json.loads(one["row"])
            if bad is not None and "error" in row:
                bad(ImageError(str(row["path"]), str(row["error"])))
            yield row


class _Lazy:
    """What Ray Data calls with batches of samples. It makes its `Looker` when the first one comes."""

    def __init__(self, make: Callable[[], Looker]) -> None:
        self._look = make()

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        found = self._look(zip(map(int, batch["number"]), map(pickle.loads, batch["sample"]), strict=True))
        return {"row": [json_line(row) for row in found]}


class Looker:
    """A worker: one detector, and images one after the other, each on one core.

    `book`: has the model's file; `memory`: bytes that it may take beside what it has when it begins.
    """

    def __init__(self, book: Book, memory: int | None, reading: Reading, regions: bool, name: str) -> None:
        with tempfile.NamedTemporaryFile(prefix="patchcore-", suffix=".patchcore") as file:
            content, runs = book.shared()
            file.write(content)
            file.flush()
            engine, precision = runs
            self._detector = Detector.load(file.name, device="cpu", threads=1, engine=engine, precision=precision)
        self._book, self._reading, self._regions, self._name = book, reading, regions, name
        bounded(memory)

    def __call__(self, samples: Iterable[tuple[int, Sample]]) -> list[Row]:
        rows, ended = list[Row](), None
        for number, sample in samples:
            rows.append(self._row(sample) if self._book.begin(number, ended) else _bad(sample.name, REFUSED))
            ended = number
        if ended is not None:
            self._book.end(ended)
        return rows

    def _row(self, sample: Sample) -> Row:
        try:
            (result,) = self._detector.predict([opened(sample)], reading=self._reading)
            return row_of(result, self._name, regions=self._regions)
        except ImageError as error:
            return _bad(error.name, NO_MEMORY if is_no_memory(error.__cause__ or error) else error.reason)
        except (MemoryError, RuntimeError) as error:
            if not is_no_memory(error):
                raise
            return _bad(sample.name, NO_MEMORY)


def _bad(name: str, why: str) -> Row:
    return {"path": name, "error": why}


def _file_of(detector: Detector | str | Path) -> tuple[Shared, str]:
    """A detector as it is sent, and the SHA-256 of its file. Errors: NotFittedError, StoreError, UsageError."""
    with tempfile.TemporaryDirectory(prefix="patchcore-") as folder:
        path = Path(folder) / "model.patchcore"
        if not isinstance(detector, Detector):
            detector = Detector.load(detector, device="cpu")
        if any(member.backbone.source.architecture == "module" for member in detector.fitted.members):
            raise UsageError(
                "This detector has a network of the caller's own, whose code is in no file, so other machines cannot "
                "load it. Fit with a backbone that has a name."
            )
        digest = detector.save(path)
        return (path.read_bytes(), (detector.engine, detector.precision)), digest


def _each_once(samples: Iterable[Sample]) -> list[Sample]:
    """Those with different names: a row belongs to its name."""
    return list({sample.name: sample for sample in samples}.values())


def _in_groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    while group := list(islice(items, size)):
        yield group
