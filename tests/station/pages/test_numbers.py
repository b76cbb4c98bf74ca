"""Numbers stand on the pages as the language writes them, whoever has written them: the server or the browser."""

import doctest
import json

import pytest
from playwright.sync_api import expect

from patchcore.station.pages import numbers
from patchcore.station.pages.numbers import localized, number, percent
from patchcore.station.pages.texts import translator
from patchcore.station.store.tables import Inspection, Role

VALUES = (0.0, 0.5, 1234.5678, 0.00012345, 99.995, 123456.0, 7.0, 0.1 + 0.2)


def test_examples():
    assert doctest.testmod(numbers).failed == 0


@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_the_server_writes_numbers_as_a_browser_does(open_page, served, language):
    page = open_page("/login")
    asked = f"""() => {json.dumps(VALUES)}.map((one) => [
        one.toLocaleString("{language}", {{maximumSignificantDigits: 4}}),
        (one / 1000).toLocaleString("{language}", {{style: "percent", maximumSignificantDigits: 3}})])"""
    assert page.evaluate(asked) == [[number(one, language), percent(one / 1000, language)] for one in VALUES]


def test_what_is_no_number_is_a_dash():
    assert [number(one, "en") for one in (None, float("nan"), float("inf"))] == ["\u2013"] * 3


def test_ticks_and_texts_have_the_language_s_marks():
    assert localized("0.5 %", "de") == "0,5\u00a0%"
    assert localized("98 %", "en") == "98%"
    assert translator("de")("history.shown", count=1234) == "1.234 Ergebnisse, die neuesten zuerst"


def test_a_german_page_has_one_decimal_mark(open_page, served):
    page = open_page("/results/1", who=served.person("spricht deutsch", Role.operator, language="de"))
    with served.station.database.read() as session:
        row = session.get_one(Inspection, 1)
    facts = page.locator("dl.facts").first
    expect(facts).to_contain_text(number(row.score, "de"))
    expect(facts).to_contain_text(number(row.p_value, "de"))
    assert "." not in number(row.p_value, "de")
    page.goto("/watch")
    expect(page.locator("#yield svg").first).to_contain_text("100\u00a0%")
