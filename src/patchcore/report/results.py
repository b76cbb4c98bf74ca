"""Results: what was inspected, as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from patchcore.model import store
from patchcore.report.images import Card
from patchcore.report.page import environment

VERDICTS = ("pass", "unsure", "fail")


def render(
    title: str,
    about: str,
    rows: Sequence[Mapping[str, Any]],
    cards: Sequence[tuple[Mapping[str, Any], Card]],
    more: int,
) -> str:
    """The HTML of results that a station has stored. It loads nothing.

    Args:
        title, about: What they are.
        rows: All of them, as `station.record.to_dict` gives them.
        cards: Those that are shown with images, each with its row.
        more: How many more failed or are unsure.
    """
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in VERDICTS}
    template = environment().get_template("results.html")
    return str(
        template.render(
            title=title, about=about, rows=rows, cards=cards, more=more, counts=counts, versions=store.versions()
        )
    )
