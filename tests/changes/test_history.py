"""Versions: every change can be taken back, bit for bit, and an edited history is found."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import TINY, Tiny, noise

from patchcore import Detector, StoreError, UsageError
from patchcore.changes.edit import Edit, Table
from patchcore.changes.history import compacted, content
from patchcore.model import store


@pytest.fixture(scope="module")
def first() -> Detector:
    return Detector(TINY, backbone=Tiny()).fit(noise(6))


@pytest.fixture(scope="module")
def versions(first) -> list[Detector]:
    """Version 1, 2, ... of a detector."""
    second = first.teach(list(noise(2, seed=1)), who="ann", why="scratches are fine")
    third = second.forget("#1", who="bob")
    return [first, second, third, third.teach(list(noise(1, seed=2)))]


def test_every_version_comes_back_bit_for_bit_from_the_last_one(versions):
    for number, version in enumerate(versions[:-1], 1):
        back = versions[-1].undo(number)
        assert content(back.fitted) == content(version.fitted)
        assert torch.equal(back.fitted.members[0].bank.rows, version.fitted.members[0].bank.rows)
        assert back.fitted.images == version.fitted.images
        assert back.fitted.calibration == version.fitted.calibration
        assert [r.score for r in back.predict(noise(3, seed=9))] == [r.score for r in version.predict(noise(3, seed=9))]


def test_an_undo_can_be_undone(versions):
    assert content(versions[-1].undo(1).undo().fitted) == content(versions[-1].fitted)
    assert content(versions[-1].undo().undo().undo(2).fitted) == content(versions[1].fitted)


def test_a_saved_version_goes_back_as_well(versions, tmp_path):
    versions[-1].save(tmp_path / "a.patchcore")
    loaded = Detector.load(tmp_path / "a.patchcore", backbone=Tiny())
    assert content(loaded.fitted) == content(versions[-1].fitted)
    assert loaded.fitted.history == versions[-1].fitted.history
    assert content(loaded.undo(1).fitted) == content(versions[0].fitted)


def test_a_file_grows_by_the_change(versions, tmp_path):
    sizes = []
    for number, version in enumerate(versions):
        version.save(tmp_path / f"{number}")
        sizes.append((tmp_path / f"{number}").stat().st_size)
    assert sizes[-1] < 2 * sizes[0]


def test_entries_say_who_what_and_why(versions):
    taught, forgotten, _ = versions[-1].fitted.history
    assert (taught["version"], taught["what"], taught["who"], taught["why"]) == (
        2,
        "teach",
        "ann",
        "scratches are fine",
    )
    assert (forgotten["who"], forgotten["forgotten"]) == ("bob", "#1")
    assert taught["before"] == content(versions[0].fitted)
    assert taught["after"] == forgotten["before"] == content(versions[1].fitted)
    assert taught["rows"] == [versions[0].fitted.rows, versions[1].fitted.rows]


@pytest.mark.parametrize("change", [{"who": "eve"}, {"why": ""}, {"rows": [1, 2]}, {"chain": "0" * 64}])
def test_an_edited_past_is_found(versions, change, tmp_path):
    history = copy.deepcopy(versions[-1].fitted.history)
    edited = replace(versions[-1].fitted, history=({**history[0], **change}, *history[1:]))
    Detector.of(edited).save(tmp_path / "a.patchcore")
    with pytest.raises(StoreError, match=r"entry [12] of its history is not what it was"):
        Detector.load(tmp_path / "a.patchcore", backbone=Tiny())


def test_a_removed_entry_is_found(versions, tmp_path):
    history = versions[-1].fitted.history
    Detector.of(replace(versions[-1].fitted, history=(history[0], history[2]))).save(tmp_path / "a.patchcore")
    with pytest.raises(StoreError, match="entry 2 of its history"):
        Detector.load(tmp_path / "a.patchcore", backbone=Tiny())


def test_what_is_kept_of_an_earlier_version_is_checked_when_it_is_brought_back(versions):
    fitted = versions[2].fitted
    name = next(name for name in fitted.past if name.startswith("past.3.") and name.endswith("rows"))
    damaged = replace(fitted, past={**fitted.past, name: fitted.past[name] + 1})
    with pytest.raises(StoreError, match="Version 2 does not come back as it was"):
        Detector.of(damaged).undo()


def test_compacting_drops_the_way_back_and_keeps_the_history(versions, tmp_path):
    small = Detector.of(compacted(versions[-1].fitted))
    assert not small.fitted.past
    assert [e["chain"] for e in small.fitted.history] == [e["chain"] for e in versions[-1].fitted.history]
    small.save(tmp_path / "a.patchcore")
    with pytest.raises(StoreError, match="Version 3 cannot be brought back"):
        Detector.load(tmp_path / "a.patchcore", backbone=Tiny()).undo()


@pytest.mark.parametrize(("version", "said"), [(0, "no version 0"), (4, "Give 1 to 3"), (9, "no version 9")])
def test_a_version_that_there_is_not(versions, version, said):
    with pytest.raises(UsageError, match=said):
        versions[-1].undo(version)


def test_the_first_version_has_none_before_it(first):
    with pytest.raises(UsageError, match="It has not been changed since its fit"):
        first.undo()


def test_the_old_detector_is_left_as_it_was(first, versions):
    assert first.fitted.history == ()
    assert content(first.fitted) == versions[1].fitted.history[0]["before"]


def test_a_history_is_json_of_a_file(versions, tmp_path):
    versions[-1].save(tmp_path / "a.patchcore")
    _, header = store.read(tmp_path / "a.patchcore")
    assert json.loads(json.dumps(header["history"])) == [dict(entry) for entry in versions[-1].fitted.history]


def table(values: list[int]) -> Table:
    column = torch.tensor(values, dtype=torch.int32).view(-1, 1)
    return Table("t.", len(values), {"rows": column}, tuple(map(str, values)))


def as_list(found: Table) -> list[int]:
    assert list(found.names) == [str(n) for n in found.columns["rows"][:, 0].tolist()]
    return [int(n) for n in found.columns["rows"][:, 0]]


@st.composite
def edits(draw, rows: int, begin: int) -> Edit:
    """Some rows of so many, and new ones, in any order."""
    more = draw(st.integers(0, 3))
    order = draw(st.lists(st.integers(0, rows + more - 1), unique=True, min_size=1)) if rows + more else []
    new = [begin + n for n in range(more)]
    column = {"rows": torch.tensor(new, dtype=torch.int32).view(-1, 1)} if more else {}
    return Edit(torch.tensor(order, dtype=torch.long), more, column, tuple(map(str, new)))


@given(st.data())
def test_edits_are_what_lists_say_and_can_be_joined_and_turned_round(data):
    old = list(range(data.draw(st.integers(1, 6))))
    one = data.draw(edits(len(old), 100))
    middle = [[*old, *range(100, 100 + one.more)][n] for n in one.order.tolist()]
    assert as_list(one(table(old))) == middle
    assert as_list(one.inverse(table(old))(table(middle))) == old
    two = data.draw(edits(len(middle), 200))
    last = as_list(two(table(middle)))
    assert as_list(one.then(two, len(old))(table(old))) == last
