import re
from datetime import timedelta
from typing import Annotated

import pytest
from fastapi import Depends, Form, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import select, update

from patchcore.station.people import accounts, keys, sessions
from patchcore.station.people.access import Actor, identify, need, safe_next
from patchcore.station.store.tables import Login, Role, now

PAGE = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def doors(app):
    """The app, with a route for each role, a form, and a page."""
    for role in Role:

        @app.get(f"/api/v1/{role}")
        @app.post(f"/api/v1/{role}")
        def door(actor: Annotated[Actor, Depends(need(role))]) -> str:
            return actor.name

    @app.post("/form")
    def form(actor: Annotated[Actor, Depends(need(Role.operator))], value: Annotated[str, Form()]) -> str:
        return value

    @app.post("/plain")
    async def plain(actor: Annotated[Actor, Depends(need(Role.operator))], request: Request) -> str:
        return (await request.body()).decode()

    @app.get("/review", response_class=HTMLResponse)
    def review(actor: Annotated[Actor, Depends(need(Role.operator))]) -> str:
        return "<p>"

    return app


def test_nobody_is_told_to_log_in_and_a_browser_is_sent_there(doors, browser):
    nobody = browser(None)
    answer = nobody.get("/api/v1/operator", headers=PAGE)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "Log in" in answer.json()["detail"]
    assert nobody.get("/review").status_code == 401
    answer = nobody.get("/review?part=7&x=%2F%2Fevil", headers=PAGE)
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/login?next=/review%3Fpart%3D7%26x%3D%252F%252Fevil",
    )
    assert nobody.post("/form", headers=PAGE).headers["location"] == "/login?next=/"


@pytest.mark.parametrize(
    ("given", "goes"),
    [
        ("/review?part=7#x", "/review?part=7#x"),
        ("/", "/"),
        ("", "/"),
        (None, "/"),
        ("//evil.example", "/"),
        ("///evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: x=1", "/"),
        ("/\t/evil.example", "/"),
        ("review", "/"),
        ("/login", "/"),
        ("/logout", "/"),
    ],
)
def test_after_the_login_one_goes_to_a_place_of_the_station_only(given, goes):
    assert safe_next(given) == goes


def test_each_role_opens_its_doors_and_those_of_the_lower_ones(doors, browser, person):
    for i, role in enumerate(Role):
        there = browser(person(f"p{i}", role))
        codes = [there.request(method, f"/api/v1/{one}").status_code for one in Role for method in ("GET", "POST")]
        assert codes == [200] * 2 * (i + 1) + [403] * 2 * (2 - i)
    assert browser(person("x")).get("/api/v1/admin").json() == {"detail": "This needs the role admin; x is operator."}


def test_a_role_that_is_taken_away_is_gone_at_once(doors, browser, person, database):
    person("other", Role.admin)
    anna = person("anna", Role.admin)
    there = browser(anna)
    assert there.get("/api/v1/admin").status_code == 200
    accounts.change(database, "other", anna.id, role=Role.operator)
    assert there.get("/api/v1/admin").status_code == 401
    assert browser(anna).get("/api/v1/admin").status_code == 403


def test_nothing_is_changed_without_the_token_of_the_session(doors, browser, person):
    anna, other = browser(person("anna")), browser(person("berta"))
    right = anna.headers.pop("x-csrf-token")
    assert anna.get("/api/v1/operator").status_code == 200
    for wrong in ({}, {"x-csrf-token": ""}, {"x-csrf-token": "x"}, {"x-csrf-token": other.headers["x-csrf-token"]}):
        answer = anna.post("/api/v1/operator", headers=wrong)
        assert answer.status_code == 403
        assert "CSRF" in answer.json()["detail"]
    assert anna.post("/api/v1/operator", headers={"x-csrf-token": right}).status_code == 200
    assert anna.post("/api/v1/operator", json={"csrf": right}).status_code == 403


def test_a_form_may_have_the_token_as_a_field(doors, browser, person):
    anna = browser(person("anna"))
    right = anna.headers.pop("x-csrf-token")
    assert anna.post("/form", data={"value": "a", "csrf": right}).json() == "a"
    assert anna.post("/form", data={"value": "a", "csrf": right}, files={"x": b"y"}).json() == "a"
    assert anna.post("/plain", data={"value": "a"}).status_code == 403
    assert (
        anna.post("/form", data={"value": "a", "csrf": "\ud800x".encode("utf-8", "surrogatepass")}).status_code == 403
    )
    assert anna.post("/form", data={"value": "a"}, files={"csrf": right.encode()}).status_code == 403


def test_a_machine_with_a_key_needs_no_token_and_a_wrong_key_is_nobody(doors, browser, person, database):
    made, key = keys.make(database, "x", "press", Role.engineer)
    machine = browser(None)
    machine.headers["authorization"] = f"Bearer {key}"
    assert machine.post("/api/v1/engineer").json() == "key:press"
    assert machine.post("/api/v1/admin").status_code == 403
    anna = browser(person("anna"))
    for wrong in ("Bearer pc_x", "Bearer ", f"Basic {key}", key, f"Bearer {made.token}", "Bearer \xff"):
        assert anna.get("/api/v1/operator", headers={"authorization": wrong.encode("latin-1")}).status_code == 401
    keys.revoke(database, "x", made.id)
    assert machine.get("/api/v1/operator").status_code == 401


def test_whoever_has_a_password_that_was_made_for_them_changes_it_first(doors, browser, person):
    anna = browser(person("anna", Role.admin, must_change=True))
    assert anna.get("/api/v1/operator").status_code == 403
    assert anna.post("/api/v1/operator").status_code == 403
    assert anna.get("/review", headers=PAGE).headers["location"] == "/password?next=/review"
    assert anna.get("/api/v1/me").json()["must_change"] is True
    assert anna.post("/logout").status_code == 303


def test_a_stream_learns_that_its_session_has_ended_and_does_not_keep_it_alive(app, browser, person, database):
    seen = []

    @app.get("/stream")
    def stream(request: Request) -> None:
        seen.append(identify(request, touch=False))
        sessions.log_out(database, request.cookies["station-8000"])
        seen.append(identify(request, touch=False))

    there, long_ago = browser(person("anna", Role.engineer)), now() - timedelta(minutes=10)
    with database.begin() as session:
        session.execute(update(Login).values(seen=long_ago))
    there.get("/stream")
    assert (seen[0].name, seen[1]) == ("anna", None)
    with database.read() as session:
        assert session.scalars(select(Login.seen)).one() == long_ago


def test_a_browser_s_own_idea_of_a_session_is_none(doors, browser):
    there = browser(None)
    for token in ("", "x", "0" * 64, "' OR 1=1 --", "../../etc/passwd"):
        there.cookies.set("station-8000", token)
        assert there.get("/api/v1/operator").status_code == 401


def test_the_names_of_cookies_tell_stations_apart(tmp_path):
    from patchcore.station.people.access import cookie_name
    from patchcore.station.settings import Settings

    assert cookie_name(Settings(data=tmp_path, port=8001)) == "station-8001"
    assert re.match("__Host-", cookie_name(Settings(data=tmp_path, tls=True)))
