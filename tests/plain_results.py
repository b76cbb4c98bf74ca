"""What tests of outputs share: results that are stored as a station stores them."""

import hashlib

from patchcore.station.outputs.outbox import enqueue
from patchcore.station.record import inspected, to_dict
from patchcore.station.store.tables import Line, Model


class Results:
    """Stores real results, with what is to be said of them, in one transaction each."""

    def __init__(self, database, result, content):
        self.database, self._result, self._content = database, result, content
        with database.begin() as session:
            model = Model(name="nuts", version=3, sha256="0" * 64, file="m", how="fit", who="test")
            session.add_all([model, Line(name="main", model=model), Line(name="press 2/left", model=model)])

    def store(self, specs, line=1, part="P1", verdict=None, fail=False):
        with self.database.begin() as session:
            row = inspected(self._result, hashlib.sha256(self._content).hexdigest(), "place", name="a.png", part=part)
            row.line, row.model = session.get(Line, line), session.get(Model, 1)
            row.verdict = verdict or row.verdict
            session.add(row)
            session.flush()
            enqueue(session, row, specs)
            if fail:
                raise RuntimeError("no room")
        return to_dict(row)
