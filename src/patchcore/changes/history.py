"""History: the versions of a fitted detector, and the way back to each.

The fit is version 1, and each entry of `Fitted.history` one more: who changed what, when and why, with the hashes of
what was there before and is there after it. Entries are chained (`model.chain`): an edited one is found. That all of
them were rewritten, only a signature shows.

What a version has lost of the one before it is in `Fitted.past` until it is compacted: a file grows by what has
changed, not by a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue
from torch import Tensor

from patchcore.backbones.weight_files import digest_of
from patchcore.changes.edit import Edit, Table
from patchcore.errors import StoreError, UsageError
from patchcore.memory.bank import halved
from patchcore.model import file, store
from patchcore.model.album import Album
from patchcore.model.chain import BACK, Entry, link, said
from patchcore.model.fitted import Fitted
from patchcore.recipe.recipe import Recipe
from patchcore.verdict.calibration import Calibration


def tables(fitted: Fitted) -> list[Table]:
    """The bank of each member, and last the training images."""
    found = []
    for number, member in enumerate(fitted.members):
        bank, prefix = member.bank, file.prefix(fitted.recipe, number)
        found.append(Table(f"{prefix}bank.", len(bank.rows), {"rows": bank.rows, "origins": bank.origins}))
    album = {name: column for name, column in vars(fitted.album).items() if column is not None}
    return [*found, Table("images.", len(fitted.images), album, fitted.images)]


def content(fitted: Fitted) -> str:
    """SHA-256 of what a version has learned, without its history and the weights of its network, whose hash it has."""
    said = {name: value for name, value in file.header(fitted).items() if name not in ("history", "versions")}
    return digest_of(file.learned(fitted), store.canonical(said).encode("utf-8", "surrogatepass"))


def edited(fitted: Fitted, edits: Sequence[Edit], **stated: Any) -> Fitted:
    """With each of its tables edited, and other fields as `stated`."""
    found = [edit(table) for edit, table in zip(edits, tables(fitted), strict=True)]
    members = tuple(
        replace(
            member, bank=replace(member.bank, prepared={}, rows=now.columns["rows"], origins=now.columns["origins"])
        )
        if edit.changes(len(member.bank.rows))
        else member
        for member, edit, now in zip(fitted.members, edits, found, strict=False)
    )
    return replace(fitted, members=members, album=Album(**found[-1].columns), images=found[-1].names, **stated)


def changed(
    fitted: Fitted,
    what: str,
    edits: Sequence[Edit],
    *,
    who: str,
    why: str,
    told: Entry | None = None,
    **stated: Any,
) -> Fitted:
    """The next version: its tables edited, other fields as `stated`, and an entry in its history.

    Args:
        fitted: This version.
        what: The kind of change, a word or two.
        edits: One for each of `tables`.
        who, why: As people say it; may be empty.
        told: What else the entry says.
        stated: Fields of `Fitted` that are replaced.
    """
    after, version = edited(fitted, edits, **stated), len(fitted.history) + 2
    past, back = dict(fitted.past), _stated(fitted, after)
    for edit, table in zip(edits, tables(fitted), strict=True):
        way, begin = edit.inverse(table), f"past.{version}.{table.prefix}"
        if way.changes(len(edit.order)):
            past |= {f"{begin}order": way.order.int(), **{begin + name: halved(own) for name, own in way.new.items()}}
            back |= {"names": list(way.names)} if way.names else {}
    entry: dict[str, JsonValue] = {
        "version": version,
        "what": what,
        "who": who,
        "why": why,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": [len(fitted.images), len(after.images)],
        "rows": [fitted.rows, after.rows],
        "threshold": [one if one == one else None for one in (f.calibration.threshold for f in (fitted, after))],
        **(told or {}),
        "before": content(fitted),
        "after": content(after),
    }
    entry["chain"] = link(fitted.history[-1] if fitted.history else None, entry)
    return replace(after, history=(*fitted.history, {**entry, BACK: back}), past=past)


def _stated(fitted: Fitted, other: Fitted) -> dict[str, JsonValue]:
    """What a version states and another one states otherwise."""
    found = [fitted, other]
    before, after = [
        dict[str, JsonValue](
            recipe=one.recipe.to_dict(), calibration=one.calibration.to_dict(), fingerprint=one.fingerprint
        )
        for one in found
    ]
    return {name: value for name, value in before.items() if value != after[name]}


def line(entry: Mapping[str, Any], number: int) -> str:
    """An entry for people, in one line. `number`: of the version that it made, where it does not say so."""
    rows, limits = entry.get("rows"), entry.get("threshold")
    before, after = entry.get("from") or {}, entry.get("to") or {}
    named = [one["name"] for one in entry.get("taught", [])]
    named += [str(entry[name]) for name in ("forgotten", "restored") if name in entry]
    moved = [
        f"{name.replace('_', ' ').replace('false reject', 'false-reject')} {before.get(name)} -> {value}"
        for name, value in after.items()
        if value != before.get(name)
    ]
    parts = [
        f"{entry.get('version', number)}  {entry.get('when', '')}  {entry.get('what')}",
        f"by {entry['who']}" if entry.get("who") else "",
        f"({entry['why']})" if entry.get("why") else "",
        ", ".join([*named, *moved]),
        f"rows {rows[0]} -> {rows[1]}" if rows and rows[0] != rows[1] else "",
        f"threshold {limits[0]} -> {limits[1]}" if limits and limits[0] != limits[1] and not moved else "",
    ]
    return "  ".join(filter(None, parts))


def restated(fitted: Fitted, what: str, calibration: Calibration, *, who: str = "", why: str = "") -> Fitted:
    """The next version, with thresholds that the same images set by other rates. Arguments as for `changed`."""
    told: Entry = {"from": _terms(fitted.calibration), "to": _terms(calibration)}
    rates = {name: getattr(calibration, name) for name in ("false_reject_rate", "confidence", "unsure")}
    nothing = [Edit.keep(table.rows) for table in tables(fitted)]
    stated = {"recipe": fitted.recipe.replace(**rates), "calibration": calibration}
    return changed(fitted, what, nothing, who=who, why=why, told=told, **stated)


def _terms(calibration: Calibration) -> dict[str, JsonValue]:
    return {
        "false_reject_rate": calibration.false_reject_rate,
        "confidence": calibration.confidence,
        "miss_rate": calibration.defects.miss_rate if calibration.defects else None,
        "unsure": calibration.unsure,
        "threshold": calibration.threshold,
        "lower_threshold": calibration.lower_threshold,
        "pixel_threshold": calibration.pixel_threshold,
    }


def undone(fitted: Fitted, to: int | None = None, *, who: str = "", why: str = "") -> Fitted:
    """What an earlier version was, as a new version; the last one before this if `to` is None.

    Errors: UsageError for a version that there is not, StoreError where what is needed for it is gone.
    """
    now = len(fitted.history) + 1
    to = now - 1 if to is None else to
    if not 1 <= to < now:
        there = "It has not been changed since its fit." if now == 1 else f"Give 1 to {now - 1}."
        raise UsageError(f"There is no version {to} to go back to; this is version {now}. {there}")
    earlier, path = fitted, [Edit.keep(table.rows) for table in tables(fitted)]
    for version in range(now, to, -1):
        way = _way(fitted, version, tables(earlier))
        path = [one.then(two, table.rows) for one, two, table in zip(path, way, tables(fitted), strict=True)]
        entry = fitted.history[version - 2]
        earlier = edited(earlier, way, **_fields(entry))
        if content(earlier) != entry["before"]:
            raise StoreError(
                f"Version {version - 1} does not come back as it was: what the file keeps of it has changed."
            )
    told: dict[str, JsonValue] = {"restored": to}
    return changed(fitted, "undo", path, who=who, why=why, told=told, recipe=earlier.recipe,
                   calibration=earlier.calibration, fingerprint=earlier.fingerprint)  # fmt: skip


def _way(fitted: Fitted, version: int, found: Sequence[Table]) -> list[Edit]:
    """The edits of the tables of a version that bring back the one before it."""
    back = fitted.history[version - 2].get(BACK)
    if not isinstance(back, dict):
        raise StoreError(
            f"Version {version - 1} cannot be brought back: `patchcore compact` has dropped what it takes, or an "
            f"earlier patchcore has made version {version}. Use a copy of the file from then."
        )
    edits = []
    for table in found:
        begin = f"past.{version}.{table.prefix}"
        new = {name.removeprefix(begin): own for name, own in fitted.past.items() if name.startswith(begin)}
        order: Tensor | None = new.pop("order", None)
        given = back.get("names") if table.prefix == "images." else None
        names = given if isinstance(given, list) else []
        more = max([len(names), *map(len, new.values())])
        if order is not None and len(order) and not 0 <= int(order.min()) <= int(order.max()) < table.rows + more:
            raise StoreError(f"Version {version - 1} cannot be brought back: what the file keeps of it is damaged.")
        edits.append(Edit.keep(table.rows) if order is None else Edit(order.long(), more, new, tuple(map(str, names))))
    return edits


def _fields(entry: Entry) -> dict[str, Any]:
    """The fields of the version before an entry that it has replaced."""
    back: dict[str, Any] = dict(entry[BACK])  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    if "recipe" in back:
        found["recipe"] = Recipe(**back["recipe"])
    if "calibration" in back:
        found["calibration"] = Calibration.from_dict(back["calibration"])
    if "fingerprint" in back:
        found["fingerprint"] = back["fingerprint"]
    return found


def compacted(fitted: Fitted) -> Fitted:
    """Without what brings earlier versions back; the history still says what they were."""
    return replace(fitted, history=tuple(map(said, fitted.history)), past={})
