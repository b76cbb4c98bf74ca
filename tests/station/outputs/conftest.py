"""What the tests of outputs share: a real result, and a database to store it in."""

import pytest
from plain_results import Results

from patchcore.station.store.database import Database


@pytest.fixture(scope="session")
def a_result(detector, hazelnut):
    content = (hazelnut / "test" / "colour" / "00.jpg").read_bytes()
    return detector.predict(content), content


@pytest.fixture
def results(tmp_path, a_result):
    database = Database(f"sqlite:///{tmp_path / 'station.sqlite'}")
    yield Results(database, *a_result)
    database.close()
