"""What is kept for how long."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from patchcore.station.retention import Retention, set_rules
from patchcore.station.store.tables import Inspection, Review, now


@pytest.fixture
def rows(station, hazelnut):
    """A pass, a fail that waits, and a fail that is decided."""
    files = ("train/good/00.jpg", "test/colour/00.jpg", "test/colour/01.jpg")
    futures = [station.inspector.submit((hazelnut / one).read_bytes(), line=1) for one in files]
    numbers = [one.result(timeout=60)["id"] for one in futures]
    with station.database.begin() as session:
        session.get_one(Inspection, numbers[2]).review = Review.confirmed
    return numbers


def kept(station, numbers):
    with station.database.read() as session:
        return [bool(session.get_one(Inspection, number).image) for number in numbers]


def test_without_rules_everything_stays(station, rows):
    assert station.sweeper.sweep(now() + timedelta(days=36500)) == 0
    assert kept(station, rows) == [True, True, True]


def test_what_waits_for_a_person_stays_whatever_the_rules_say(station, rows):
    with station.database.begin() as session:
        set_rules(session, Retention(passed_days=1, other_days=10))
    assert station.sweeper.sweep(now() + timedelta(hours=23)) == 0
    assert station.sweeper.sweep(now() + timedelta(days=2)) == 1
    assert kept(station, rows) == [False, True, True]
    assert station.sweeper.sweep(now() + timedelta(days=11)) == 1
    assert kept(station, rows) == [False, True, False]
    assert len(list(station.files.all("images"))) == 1


def test_files_that_no_row_names_go_once_they_are_old(station, rows):
    station.files.write("images/2020/01/01/left", b"by a crash")
    assert station.sweeper.sweep(now()) == 0
    assert station.sweeper.sweep(now() + timedelta(hours=2)) == 1
    assert not station.files.exists("images/2020/01/01/left")
    assert kept(station, rows) == [True, True, True]


@pytest.mark.parametrize("days", [0, -1, 1e9, float("nan")])
def test_days_are_a_sensible_number(days):
    with pytest.raises(ValidationError):
        Retention(passed_days=days)
