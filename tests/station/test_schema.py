"""The API as its OpenAPI document describes it: whatever fits the document, no answer is a 500."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from patchcore.station.app import create_app
from patchcore.station.people import keys
from patchcore.station.settings import Settings
from patchcore.station.station import Station
from patchcore.station.store.tables import Line, Role

ENDLESS = ("/events",)  # streams


@pytest.fixture(scope="module")
def served(tmp_path_factory, model_file):
    station = Station(Settings(data=tmp_path_factory.mktemp("schema"), threads=1, hosts=("testserver",)))
    with station.database.begin() as session:
        model = station.models.add(session, model_file.read_bytes(), name="nuts", how="import", who="somebody")
        session.get_one(Line, 1).model_id = model.id
    _, token = keys.make(station.database, "somebody", "fuzz", Role.admin)
    yield create_app(station), token
    station.close()


@pytest.fixture(scope="module")
def schema(served):
    return schemathesis.openapi.from_asgi("/openapi.json", served[0])


def test_no_answer_is_a_server_error(served, schema):
    wrong, seen = [], set()
    calm = settings(max_examples=8, deadline=None, derandomize=True, database=None,
                    suppress_health_check=list(HealthCheck))  # fmt: skip
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.endswith(ENDLESS):
            continue

        @calm
        @given(case=operation.as_strategy())
        def call(case):
            seen.add((case.method, case.path))
            try:
                answer = case.call(headers={"authorization": f"Bearer {served[1]}"})
            except Exception as error:  # which the server answers with 500
                wrong.append(f"{case.method} {case.path}: {error!r}")
            else:
                if answer.status_code == 500:
                    wrong.append(f"{case.method} {case.path}: {answer.text[:300]}")

        call()
    assert not wrong, "\n".join(sorted(set(wrong)))
    assert len(seen) > 30
