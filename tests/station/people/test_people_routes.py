import json
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from patchcore.station.people import passwords, sessions
from patchcore.station.people.attempts import Attempts
from patchcore.station.store.tables import Entry, Person, Role

OPEN = {("POST", "/login")}  # for everybody
FASTAPI = ("/openapi.json", "/docs", "/redoc", "/docs/oauth2-redirect")


@pytest.fixture(scope="module")
def stored():
    return passwords.hashed("correct horse")


@pytest.fixture
def stopped(app):
    """Time stands still for those who try to log in."""
    app.state.attempts = Attempts(lambda: 0.0)


@pytest.fixture
def anna(database, stored):
    with database.begin() as session:
        session.add(person := Person(name="anna", password=stored, role=Role.operator))
    return person


def log_in(client, name="anna", password="correct horse", **more):
    answer = client.post("/login", data={"name": name, "password": password, **more})
    assert answer.status_code == 303
    place = urlsplit(answer.headers["location"])
    return place.path, {key: value[0] for key, value in parse_qs(place.query).items()}


def cookie(client):
    return client.cookies.get("station-8000")


def test_a_login_goes_where_it_was_to_go_with_a_cookie_that_scripts_and_other_sites_cannot_use(browser, anna):
    client = browser(None)
    answer = client.post("/login", data={"name": " ANNA ", "password": "correct horse", "next": "/review?x=1"})
    assert answer.headers["location"] == "/review?x=1"
    parts = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")}
    assert {"httponly", "samesite=strict", "path=/"} <= parts
    assert "secure" not in parts
    assert client.get("/api/v1/me").json()["name"] == "anna"


def test_behind_tls_the_cookie_is_secure(app, anna):
    app.state.station.settings = app.state.station.settings.model_copy(update={"tls": True})
    client = TestClient(app, base_url="https://127.0.0.1", follow_redirects=False)
    answer = client.post("/login", data={"name": "anna", "password": "correct horse"})
    assert answer.headers["set-cookie"].startswith("__Host-station-8000=")
    assert "; secure" in answer.headers["set-cookie"].lower()
    assert "domain" not in answer.headers["set-cookie"].lower()


def test_a_login_that_fails_says_so_without_saying_which_names_there_are(browser, anna):
    client = browser(None)
    wrong = log_in(client, "anna", "x", next="/review")
    assert wrong == log_in(client, "nobody", "x", next="/review") == ("/login", {"error": "wrong", "next": "/review"})
    assert log_in(client, "a\0\r\nb", "x" * 900) == ("/login", {"error": "wrong", "next": "/"})
    assert cookie(client) is None


def test_a_login_sends_nobody_elsewhere_and_into_no_header(browser, anna):
    client = browser(None)
    for bad in ("https://evil.example", "//evil.example", "/x\r\nSet-Cookie: a=b"):
        answer = client.post("/login", data={"name": "anna", "password": "correct horse", "next": bad})
        assert answer.headers["location"] == "/"
        assert "a=b" not in str(answer.headers)


def test_guessing_is_slowed_down_for_the_account_whatever_the_address_and_also_when_right(app, browser, anna, stopped):
    client = browser(None)
    assert [log_in(client, "Anna", "x")[1]["error"] for _ in range(5)] == ["wrong"] * 5
    assert log_in(client, "anna", "correct horse") == ("/login", {"error": "wait", "seconds": "1", "next": "/"})
    with app.state.station.database.read() as session:
        assert len(session.scalars(select(Entry).where(Entry.action == "login.fail")).all()) == 5


def test_behind_a_proxy_the_address_is_the_last_one_it_names(app, browser, stopped):
    app.state.station.settings = app.state.station.settings.model_copy(update={"tls": True})
    client = browser(None)
    for i in range(20):
        app.state.attempts.begin(f"n{i}", "10.1.1.1")
    client.headers["x-forwarded-for"] = "1.2.3.4, 10.1.1.1"
    assert log_in(client)[1]["error"] == "wait"
    client.headers["x-forwarded-for"] = "10.1.1.1, 10.1.1.2"
    assert log_in(client)[1]["error"] == "wrong"


def test_a_session_that_was_put_into_a_browser_is_not_the_one_after_the_login(browser, anna, person, database):
    thief = person("thief")
    with database.begin() as session:
        planted = sessions.begin(session, thief)
    client = browser(None)
    for value in ("chosen-by-somebody", planted):
        client.cookies.clear()
        client.cookies.set("station-8000", value, domain="127.0.0.1", path="/")
        log_in(client)
        assert cookie(client) not in (value, None)
        assert client.get("/api/v1/me").json()["name"] == "anna"
    assert sessions.find(database, planted) is None


def test_logging_out_ends_the_session_and_not_only_the_cookie(browser, anna):
    client = browser(anna)
    token = cookie(client)
    assert client.post("/logout").headers["location"] == "/login"
    client.cookies.clear()
    client.cookies.set("station-8000", token, domain="127.0.0.1")
    assert client.get("/api/v1/me").status_code == 401


def test_a_stolen_cookie_is_worthless_after_the_password_changed(browser, anna, database):
    thief, client = browser(anna), browser(anna)
    for wrong, status in (({"old": "x", "new": "a better password"}, 409), ({"old": "correct horse", "new": "x"}, 422)):
        assert client.post("/api/v1/me/password", json=wrong).status_code == status
    before = cookie(client)
    answer = client.post("/api/v1/me/password", json={"old": "correct horse", "new": "a better password"})
    assert answer.status_code == 204
    assert cookie(client) != before
    assert thief.get("/api/v1/me").status_code == 401
    assert client.get("/api/v1/me").status_code == 200
    assert client.put("/api/v1/me/language", json={"language": "de"}).status_code == 403  # another token now
    client.headers["x-csrf-token"] = client.get("/api/v1/me").json()["csrf"]
    assert client.put("/api/v1/me/language", json={"language": "de"}).status_code == 204
    assert client.get("/api/v1/me").json()["language"] == "de"
    assert log_in(browser(None), password="a better password")[0] == "/"


def test_the_old_password_cannot_be_guessed_with_a_stolen_session(browser, anna, stopped):
    client = browser(anna)
    guess = {"old": "x", "new": "a better password"}
    codes = [client.post("/api/v1/me/password", json=guess).status_code for _ in range(6)]
    assert codes == [409] * 5 + [429]


def test_an_admin_looks_after_people(browser, person, database):
    admin = browser(person("root", Role.admin))
    made = admin.post("/api/v1/people", json={"name": "Berta", "role": "engineer", "why": "new here"})
    assert made.status_code == 201
    assert made.json()["name"] == "berta"
    number = made.json()["id"]
    client = browser(None)
    assert log_in(client, "berta", made.json()["secret"], next="/x") == ("/password", {"next": "/x"})
    listed = {one["name"]: one for one in admin.get("/api/v1/people").json()}
    assert listed["berta"]["sessions"] == 1
    assert "password" not in json.dumps(listed).replace("must_change", "")
    assert admin.post("/api/v1/people", json={"name": "berta", "role": "admin"}).status_code == 409
    assert admin.post("/api/v1/people", json={"name": "key:x", "role": "admin"}).status_code == 422
    assert admin.post("/api/v1/people", json={"name": "carla", "role": "god"}).status_code == 422
    assert admin.post("/api/v1/people", json={"name": "carla", "role": "admin", "active": True}).status_code == 422
    assert admin.patch(f"/api/v1/people/{number}", json={"role": "operator"}).json()["role"] == "operator"
    assert client.get("/api/v1/me").status_code == 401
    assert admin.post(f"/api/v1/people/{number}/password", json={}).json()["secret"] != made.json()["secret"]
    assert admin.post(f"/api/v1/people/{number}/logout", json={}).json()["sessions"] == 0
    assert admin.patch(f"/api/v1/people/{number}", json={"active": False, "why": "left"}).json()["active"] is False
    assert admin.patch("/api/v1/people/999", json={"active": False}).status_code == 404
    assert admin.patch("/api/v1/people/1", json={"active": False}).status_code == 409
    assert admin.request("DELETE", f"/api/v1/people/{number}").status_code == 405
    done = [(row["who"], row["action"], row["subject"], row["why"]) for row in admin.get("/api/v1/trail").json()]
    assert done[0] == ("root", "person.change", "berta", "left")
    assert ("root", "person.make", "berta", "new here") in done


def test_an_admin_looks_after_keys(browser, person):
    admin = browser(person("root", Role.admin))
    made = admin.post("/api/v1/keys", json={"name": "press 1", "role": "operator"}).json()
    machine = browser(None)
    machine.headers["authorization"] = f"Bearer {made['secret']}"
    told = machine.get("/api/v1/me").json()
    assert (told["name"], told["role"], told["machine"], told["csrf"]) == ("key:press 1", "operator", True, None)
    assert machine.put("/api/v1/me/language", json={"language": "de"}).status_code == 403
    assert machine.post("/api/v1/me/password", json={"old": "", "new": "a better password"}).status_code == 403
    (listed,) = admin.get("/api/v1/keys").json()
    assert made["secret"] not in str(listed)
    assert listed["used"]
    assert admin.post(f"/api/v1/keys/{made['id']}/revoke", json={"why": "lost"}).json()["revoked"]
    assert machine.get("/api/v1/me").status_code == 401
    assert admin.post("/api/v1/keys/99/revoke", json={}).status_code == 404
    assert admin.post("/api/v1/keys", json={"name": "press 1", "role": "operator"}).status_code == 409


def test_an_admin_reads_checks_and_exports_the_trail(browser, person):
    admin = browser(person("root", Role.admin))
    for i in range(5):
        admin.post("/api/v1/keys", json={"name": f"press {i}", "role": "operator", "why": "=1+1"})
    rows = admin.get("/api/v1/trail", params={"limit": 2}).json()
    assert [row["number"] for row in rows] == [5, 4]
    assert [row["number"] for row in admin.get("/api/v1/trail", params={"before": 4}).json()] == [3, 2, 1]
    assert len(admin.get("/api/v1/trail", params={"action": "key.", "who": "root"}).json()) == 5
    assert len(admin.get("/api/v1/trail", params={"subject": "press 3"}).json()) == 1
    assert admin.get("/api/v1/trail", params={"who": "\0", "action": "%", "subject": "\0"}).json() == []
    assert admin.get("/api/v1/trail/check").json() == {
        "ok": True, "rows": 5, "hash": rows[0]["hash"], "number": None, "problem": None,
    }  # fmt: skip
    assert admin.get("/api/v1/trail/check", params={"number": 5, "hash": "0" * 64}).json()["number"] == 5
    answer = admin.get("/api/v1/trail/export")
    exported = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["number"] for row in exported] == [1, 2, 3, 4, 5, 6]
    assert exported[-1]["action"] == "trail.export"
    assert answer.headers["content-disposition"].startswith('attachment; filename="trail-6.jsonl"')
    answer = admin.get("/api/v1/trail/export", params={"form": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert ",'=1+1," in answer.text


def walked(app):
    """Every method and path of an app, also of what its OpenAPI document leaves out."""
    found = set()
    for route in app.routes:
        inner = route.effective_route_contexts() if hasattr(route, "effective_route_contexts") else [route]
        found |= {(method, one.path) for one in inner for method in one.methods}
    found = sorted((method, path.replace("{number}", "1")) for method, path in found if path not in FASTAPI)
    assert len(found) > 15
    return found


def test_no_route_answers_somebody_unknown_but_those_listed(app, browser):
    nobody = browser(None)
    for method, path in walked(app):
        answer = nobody.request(method, path, json={} if method not in ("GET", "HEAD") else None)
        if (method, path) not in OPEN:
            assert answer.status_code == 401, (method, path)
            assert nobody.request(method, path, headers={"cookie": "station-8000=x"}).status_code == 401


def test_no_route_of_admins_answers_anybody_else(app, browser, person, database):
    mine = {"/login", "/logout", "/api/v1/me", "/api/v1/me/language", "/api/v1/me/password"}
    for client in (browser(person("e", Role.engineer)), browser(person("o", Role.operator))):
        for method, path in walked(app):
            if path not in mine:
                body = {} if method not in ("GET", "HEAD") else None
                assert client.request(method, path, json=body).status_code == 403, (method, path)
                full = {"name": "mallory", "role": "admin", "active": True}
                assert client.request(method, path, json=full if body is not None else None).status_code == 403
    with database.read() as session:
        assert {(one.name, one.role) for one in session.scalars(select(Person))} == {
            ("e", "engineer"),
            ("o", "operator"),
        }


def test_the_api_is_documented(app):
    paths = app.openapi()["paths"]
    for path, methods in paths.items():
        for method, about in methods.items():
            assert about["description"], (method, path)
            if path.startswith("/api/"):
                assert {"401", "403"} <= set(about["responses"]), (method, path)
