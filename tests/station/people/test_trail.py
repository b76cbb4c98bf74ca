import csv
import hashlib
import io
import json
import re
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import delete, text, update

from patchcore.station import archive
from patchcore.station.people import trail
from patchcore.station.store.database import Database
from patchcore.station.store.files import Files
from patchcore.station.store.tables import Entry, Person, Role, Setting


def fill(database, count=5):
    for i in range(count):
        with database.begin() as session:
            trail.record(
                session, "anna", "model.activate", f"line {i}", why="better", detail={"from": i, "to": 0.1 + i}
            )


def verify(database, known=None):
    with database.read() as session:
        return trail.verify(session, known)


def test_rows_are_numbered_from_1_and_each_has_the_hash_of_the_one_before(database):
    fill(database, 3)
    with database.begin() as session:  # two in one transaction
        trail.record(session, "anna", "a")
        trail.record(session, "anna", "b")
    rows = [json.loads(line) for page in trail.json_lines(database) for line in page.splitlines()]
    assert [row["number"] for row in rows] == [1, 2, 3, 4, 5]
    before = ""
    for row in rows:  # as docs/station-records.md says it
        stated = row.pop("hash")
        assert row["before"] == before
        content = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        before = hashlib.sha256(content.encode()).hexdigest()
        assert stated == before
    assert verify(database) == trail.Check(5, before)


def test_a_row_is_written_with_what_it_tells_of_or_not_at_all(database):
    fill(database, 1)

    def fails():
        with database.begin() as session:
            trail.record(session, "anna", "a")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fails()
    fill(database, 1)
    assert verify(database).rows == 2


@pytest.mark.parametrize(
    ("spoil", "number", "problem"),
    [
        (update(Entry).where(Entry.number == 3).values(who="berta"), 3, "was edited"),
        (update(Entry).where(Entry.number == 3).values(detail={"from": 2, "to": 2.2}), 3, "was edited"),
        (update(Entry).where(Entry.number == 5).values(why=""), 5, "was edited"),
        (delete(Entry).where(Entry.number == 1), 1, "is missing"),
        (delete(Entry).where(Entry.number == 3), 3, "is missing"),
        (delete(Entry).where(Entry.number > 3), 4, "is missing: there were at least 5 rows"),
        (delete(Entry), 1, "is missing: there were at least 5 rows"),
        (update(Entry).where(Entry.number == 3).values(hash="0" * 64), 3, "was edited"),
    ],
)
def test_what_was_done_to_the_rows_behind_the_station_s_back_is_found(database, spoil, number, problem):
    fill(database)
    with database.begin() as session:
        session.execute(spoil)
    found = verify(database)
    assert found.number == number
    assert found.problem.startswith(problem)


def test_rows_cut_off_at_the_end_are_still_missing_after_the_next_one(database):
    fill(database)
    with database.begin() as session:
        session.execute(delete(Entry).where(Entry.number > 3))
    fill(database, 1)
    assert (verify(database).number, verify(database).problem) == (4, "is missing")


def test_a_row_that_was_edited_together_with_its_hash_no_longer_fits_the_next(database):
    fill(database)
    with database.begin() as session:
        row = session.get(Entry, 3)
        row.who = "berta"
        row.hash = trail.digest(trail.plain(row))
    assert verify(database).number == 4
    assert "one of the two was replaced" in verify(database).problem


def test_a_trail_that_was_written_anew_is_found_only_with_a_hash_that_was_noted_elsewhere(database):
    fill(database)
    noted = verify(database)
    with database.begin() as session:
        session.execute(delete(Entry))
        session.execute(delete(Setting))
    fill(database, 6)
    assert verify(database).problem is None
    found = verify(database, {noted.rows: noted.hash})
    assert (found.number, found.problem) == (5, "is not the one that was noted: the trail was written anew")


def test_two_stations_that_write_at_once_leave_no_gap_and_no_fork(database_url):
    first, second = Database(database_url), Database(database_url)
    threads = [threading.Thread(target=fill, args=(one, 15)) for one in (first, first, second, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (verify(first).rows, verify(first).problem) == (60, None)
    first.close()
    second.close()


def test_any_text_goes_in_and_comes_out(database):
    strange = "a\0b\ud800 \udcfc\u202e\x1b[2J\r\n猫 = ' \" \\"
    detail = {strange: [strange, 1.5, None]}
    with database.begin() as session:
        trail.record(session, strange * 9, strange * 9, strange * 90, why=strange, detail=detail)
    assert verify(database).problem is None
    (row,) = [json.loads(line) for line in "".join(trail.json_lines(database)).splitlines()]
    assert (len(row["who"]), len(row["action"]), len(row["subject"])) == (80, 40, 200)
    assert row["detail"] == detail
    assert "\n" in row["why"]
    assert "\x1b" not in row["why"]


def test_what_has_no_json_is_refused(database):
    with database.begin() as session, pytest.raises(ValueError, match="JSON compliant"):
        trail.record(session, "anna", "a", detail={"score": float("nan")})


def test_the_table_runs_nothing_in_a_spreadsheet(database):
    for bad in ("=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1"):
        with database.begin() as session:
            trail.record(session, bad, bad, bad, why=bad)
    table = list(csv.reader(io.StringIO("".join(trail.csv_lines(database)))))
    assert tuple(table[0]) == trail.FIELDS
    assert len(table) == 6
    assert not [cell for row in table for cell in row if cell[:1] in "=+-@\t" and cell]


def test_pages_of_rows_are_joined(database, monkeypatch):
    monkeypatch.setattr(trail, "_PAGE", 2)
    fill(database)
    assert len("".join(trail.json_lines(database)).splitlines()) == 5
    assert len("".join(trail.csv_lines(database)).splitlines()) == 6


def test_a_writer_waits_for_the_other_and_not_for_ever(database):
    # The lock is the transaction's: nothing is left behind by one that fails.
    with database.begin() as session:
        session.add(Person(name="x", password="", role=Role.admin))
        trail.record(session, "x", "y")
    with database.begin() as session:
        assert session.execute(text("SELECT count(*) FROM entry")).scalar() == 1
        trail.record(session, "x", "z")
    assert verify(database).rows == 2


def test_the_script_of_the_page_checks_a_copy_without_the_station(database, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[3] / "docs" / "station-records.md").read_text("utf-8")
    script = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1].replace("open(", "stack.enter_context(open(")
    script = script.replace('encoding="utf-8")', 'encoding="utf-8"))')
    fill(database)
    rows = "".join(trail.json_lines(database)).splitlines(keepends=True)
    monkeypatch.chdir(tmp_path)

    def run(lines):
        Path("trail.jsonl").write_text("".join(lines), "utf-8")
        with ExitStack() as stack:
            exec(script, {"stack": stack})

    run(rows)
    assert capsys.readouterr().out == f"5 {verify(database).hash}\n"
    for spoilt, said in (
        ([*rows[:2], *rows[3:]], "before row 3 something is missing"),
        ([*rows[:2], rows[2].replace("anna", "berta"), *rows[3:]], "row 3 was edited"),
    ):
        with pytest.raises(AssertionError, match=said):
            run(spoilt)


def test_a_trail_stays_whole_in_a_backup_and_a_damaged_one_is_named(database, tmp_path):
    fill(database)
    files = Files(str(tmp_path / "files"))
    archive.backup(database, files, tmp_path / "a.tar")
    other = Database(f"sqlite:///{tmp_path / 'other.sqlite'}")
    archive.restore(other, files, tmp_path / "a.tar")
    assert verify(other) == verify(database)
    assert archive.check(other, files) == []
    fill(other, 1)
    with other.begin() as session:
        session.execute(update(Entry).where(Entry.number == 2).values(who="berta"))
    assert archive.check(other, files) == ["audit trail: row 2 was edited: its hash is not that of its content"]
    other.close()
