"""Trail: what was done, by whom and when, in rows that are chained by their hashes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from patchcore.files.text import cell, json_line, shown
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Entry, Setting, now

HEAD = "trail"  # the name of the setting that has the number and the hash of the last row
FIELDS = ("number", "time", "who", "action", "subject", "why", "detail", "before", "hash")
_PAGE = 500  # rows that are read at once
_LOCK = 7203942


@dataclass(frozen=True)
class Check:
    """What `verify` found. `number`: the first row that is wrong, and `problem` what is wrong with it, or None."""

    rows: int
    hash: str  # of the last row
    number: int | None = None
    problem: str | None = None


def lock(session: Session) -> None:
    """Wait until no other transaction writes to the trail, and let none until this one ends.

    Whatever must not happen twice at once, and is recorded, can begin with this. SQLite has one writer anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.flush()  # first, so that all take their locks of rows before this one
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def record(
    session: Session,
    who: str,
    action: str,
    subject: str = "",
    *,
    why: str = "",
    detail: Mapping[str, Any] | None = None,
) -> Entry:
    """Add a row, in the transaction of what it tells of: both are there afterwards, or neither.

    Call it last in the transaction: from here to its end no other one can write to the trail.

    Args:
        session: Of `Database.begin()`.
        who: `Actor.name`, or `station`.
        action: A noun and a verb, such as `model.activate`.
        subject: What it was done to; cut at 200 letters.
        why: What the person said.
        detail: What else is worth knowing, such as the values before and after; as JSON has it, without NaN.
    """
    lock(session)
    head = session.get(Setting, HEAD, populate_existing=True)
    last = session.scalars(select(Entry).order_by(Entry.number.desc()).limit(1)).first()
    # The higher: after rows are cut off at the end, the next one must not close the gap.
    number, before = max(
        (0, ""),
        (head.value["number"], head.value["hash"]) if head else (0, ""),
        (last.number, last.hash) if last else (0, ""),
    )
    entry = Entry(
        number=number + 1,
        time=now(),
        who=shown(who)[:80],
        action=shown(action)[:40],
        subject=shown(subject)[:200],
        why=shown(why, lines=True),
        detail=json.loads(_canonical(detail or {})),
        before=before,
    )
    entry.hash = digest(plain(entry))
    session.add(entry)
    if head is None:
        session.add(head := Setting(name=HEAD))
    head.value = {"number": entry.number, "hash": entry.hash}
    session.flush()
    return entry


def plain(entry: Entry) -> dict[str, Any]:
    """A row as JSON has it, in the order of `FIELDS`."""
    row = {name: getattr(entry, name) for name in FIELDS}
    return row | {"time": _iso(entry.time)}


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def digest(row: Mapping[str, Any]) -> str:
    """The hash of a row: SHA-256, hexadecimal, of all its fields but `hash` as JSON.

    Keys are sorted, there are no spaces, and everything beyond ASCII is escaped.
    """
    return hashlib.sha256(_canonical({name: row[name] for name in FIELDS[:-1]}).encode()).hexdigest()


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def verify(session: Session, known: Mapping[int, str] | None = None) -> Check:
    """Follow the chain from the first row to the last, and name the first that is missing, edited or not its own.

    Args:
        session: Of `Database.read()`.
        known: Numbers and hashes of rows that were noted elsewhere, as from an export. Who can write to the database
            can write another chain, which is right in itself; only these tell it from the former one.
    """
    expected = dict(known or {})
    if head := session.get(Setting, HEAD, populate_existing=True):  # before the rows: more may come meanwhile
        expected.setdefault(head.value["number"], head.value["hash"])
    columns = select(*(getattr(Entry, name) for name in FIELDS)).order_by(Entry.number)
    with session.execute(columns.execution_options(yield_per=_PAGE)) as found:
        return check((dict(row._mapping) | {"time": _iso(row.time)} for row in found), expected)


def check(rows: Iterable[Mapping[str, Any]], expected: Mapping[int, str] | None = None) -> Check:
    """The same of rows from anywhere, such as the lines of an export."""
    count, before = 0, ""
    expected = expected or {}
    for row in rows:
        number = count + 1
        if row["number"] != number:
            return Check(count, before, number, "is missing")
        if row["before"] != before:
            return Check(count, before, number, f"does not follow on row {count}: one of the two was replaced")
        if row["hash"] != digest(row):
            return Check(count, before, number, "was edited: its hash is not that of its content")
        if expected.get(number, row["hash"]) != row["hash"]:
            return Check(count, before, number, "is not the one that was noted: the trail was written anew")
        count, before = number, row["hash"]
    if missing := [number for number in expected if number > count]:
        return Check(count, before, count + 1, f"is missing: there were at least {max(missing)} rows")
    return Check(count, before)


def pages(database: Database) -> Iterator[list[Entry]]:
    """All rows that there are now, some at a time: whoever fetches them slowly holds no transaction open."""
    with database.read() as session:
        last = session.scalar(select(Entry.number).order_by(Entry.number.desc()).limit(1)) or 0
    number = 0
    while number < last:
        with database.read() as session:
            found = list(session.scalars(
                select(Entry).where(Entry.number > number, Entry.number <= last).order_by(Entry.number).limit(_PAGE)
            ))  # fmt: skip
        if not found:
            return
        yield found
        number = found[-1].number


def json_lines(database: Database) -> Iterator[str]:
    """The trail, a row of JSON a line; `check` takes them back, and so does `digest` each."""
    for page in pages(database):
        yield "".join(json_line(plain(entry)) + "\n" for entry in page)


def csv_lines(database: Database) -> Iterator[str]:
    """The trail as a table; what a spreadsheet would run as a formula has an apostrophe before it."""
    head: list[Iterable[object]] = [FIELDS]
    for page in pages(database):
        text_ = io.StringIO()
        rows = [list((plain(entry) | {"detail": _canonical(entry.detail)}).values()) for entry in page]
        csv.writer(text_).writerows([[cell(value) for value in row] for row in head + rows])
        head = []
        yield text_.getvalue()
