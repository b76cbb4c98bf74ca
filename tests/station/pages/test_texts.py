"""Every text is there in every language, is used, and has the same gaps."""

import ast
import json
import re
from pathlib import Path

import pytest

from patchcore.station import pages
from patchcore.station.pages.texts import LANGUAGES, preferred, texts, translator
from patchcore.watch.channel import CHANNELS

ROOT = Path(pages.__file__).parent
SOURCES = {
    path.name: path.read_text("utf-8") for kind in ("templates/*.html", "static/*.js") for path in ROOT.glob(kind)
}
KEY = r"[a-z]+(?:\.[a-z_]+)+"


def named():
    """Keys that sources name in full, and beginnings of those that they put together."""
    keys, beginnings = set(), set()
    for source in SOURCES.values():
        keys |= set(re.findall(rf"[\"'`]({KEY})[\"'`]", source)) & set(texts("en"))
        keys |= {key for key in re.findall(rf"\bt\(\s*[\"']({KEY})[\"']", source)}
        beginnings |= set(re.findall(r"\bt\(\s*'([a-z_.]+\.)' ~", source))
        beginnings |= set(re.findall(r"`([a-z_.]+\.)\$\{", source))
    return keys, beginnings


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_every_text_with_the_same_gaps(language):
    english, other = texts("en"), texts(language)
    assert set(other) == set(english)
    for key, text in other.items():
        assert text.strip() == text != "", key
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", english[key])), key


def test_every_text_that_is_used_is_there():
    keys, beginnings = named()
    assert keys <= set(texts("en"))
    for beginning in beginnings:
        assert any(key.startswith(beginning) for key in texts("en")), beginning


def test_every_text_is_used():
    keys, beginnings = named()
    left = {key for key in texts("en") if key not in keys and not key.startswith(tuple(beginnings))}
    assert left == set()


def codes():
    """Codes of refusals that the station gives, each with what it puts into its text."""
    found = {}
    for path in ROOT.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "coded":
                given, code = {one.arg for one in node.keywords}, node.args[1]
                if isinstance(code, ast.Constant):
                    found[code.value] = given
    written = {
        f"file_{what}": {"name", "why"} for what in ("written", "read", "deleted")
    }  # put together in store/files.py
    elsewhere = {"image": {"name", "why"}, "unreachable": {"where", "why"}, "starting": set()}
    return {**found, **written, **elsewhere}


def test_every_refusal_has_a_text_whose_gaps_it_fills():
    written = {key.removeprefix("refused."): text for key, text in texts("en").items() if key.startswith("refused.")}
    known = codes()
    assert set(written) == set(known)
    for code, text in written.items():
        assert set(re.findall(r"\{(\w+)\}", text)) <= known[code], code


def test_every_alarm_has_a_name_and_an_advice():
    names = {key.removeprefix("alarm.what.") for key in texts("en") if key.startswith("alarm.what.")}
    advice = {key.removeprefix("alarm.advice.") for key in texts("en") if key.startswith("alarm.advice.")}
    assert names == set(CHANNELS)
    assert advice == set(CHANNELS) - {"sharpness"} | {"fails", "sharpness_up", "sharpness_down"}


def test_files_are_sorted_so_that_two_changes_rarely_meet():
    for language in LANGUAGES:
        given = json.loads((ROOT / "texts" / f"{language}.json").read_text("utf-8"))
        assert list(given) == sorted(given)


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr,zh-CN;q=0.7,de;q=0.3", "zh"),
        ("en;q=0.2,de;q=0.5", "de"),
        ("fr", "en"),
        ("de;q=0,en;q=0.1", "en"),
        ("de;q=much, zh", "zh"),
    ],
)
def test_a_browser_gets_the_language_it_prefers(accepted, language):
    assert preferred(accepted) == language


def test_values_stand_where_the_text_has_a_gap():
    assert translator("en")("history.shown", count=3) == "3 results, the newest first"
