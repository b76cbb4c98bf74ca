"""Hosts: those in the own network that the station may send to, as admins have listed them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from patchcore.errors import UsageError
from patchcore.files.text import shown
from patchcore.station.errors import coded
from patchcore.station.people import trail
from patchcore.station.store.database import Database
from patchcore.station.store.kept import kept
from patchcore.station.store.tables import Setting

_SETTING = "hosts"
_HOST = re.compile(r"[\w.:-]{1,253}")


def allowed(database: Database) -> tuple[str, ...]:
    """Names and addresses, for `protection.checked_url`."""
    with database.read() as session:
        found = session.get(Setting, _SETTING)
    return tuple(found.value["hosts"]) if found else ()


def allow(database: Database, who: str, hosts: Iterable[str], *, why: str = "") -> tuple[str, ...]:
    """List these, and no others. Errors: UsageError for what is neither a name nor an address."""
    wanted = sorted({host.strip().removeprefix("[").removesuffix("]").casefold() for host in hosts})
    if bad := [host for host in wanted if not _HOST.fullmatch(host)]:
        text = f"{shown(bad[0])!r} is no host: give a name or an address, without http:// and port."
        raise coded(UsageError(text), "no_host", host=shown(bad[0]))
    with database.begin() as session:
        trail.lock(session)
        row = kept(session, _SETTING, {"hosts": []})
        before, row.value = row.value["hosts"], {"hosts": wanted}
        if before != wanted:
            trail.record(session, who, "hosts.change", why=why, detail={"before": before, "after": wanted})
    return tuple(wanted)
