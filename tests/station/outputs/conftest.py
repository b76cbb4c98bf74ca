"""What the tests of outputs share: a database with a line and a model, and results that are stored in it."""

import pytest

from patchcore.station.outputs.outbox import enqueue
from patchcore.station.record import inspected, to_dict
from patchcore.station.store.database import Database
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
            row = inspected(self._result, self._content, "place", name="a.png", part=part)
            row.line, row.model = session.get(Line, line), session.get(Model, 1)
            row.verdict = verdict or row.verdict
            session.add(row)
            session.flush()
            enqueue(session, row, specs)
            if fail:
                raise RuntimeError("no room")
        return to_dict(row)


@pytest.fixture(scope="session")
def a_result(detector, hazelnut):
    content = (hazelnut / "test" / "colour" / "00.jpg").read_bytes()
    return detector.predict(content), content


@pytest.fixture
def results(tmp_path, a_result):
    database = Database(f"sqlite:///{tmp_path / 'station.sqlite'}")
    yield Results(database, *a_result)
    database.close()
