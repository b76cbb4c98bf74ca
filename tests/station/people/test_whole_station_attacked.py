import csv
import gzip
import io
import re
import struct
import zipfile
import zlib

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from patchcore.station.app import create_app
from patchcore.station.people import keys, sessions, trail
from patchcore.station.people.access import Need
from patchcore.station.settings import Settings
from patchcore.station.station import Station
from patchcore.station.store.tables import Login, Person, Role

HERE = "http://127.0.0.1"

# Whoever adds a route says here that everybody, or every operator, may use it. All others are of engineers and admins.
FOR_EVERYBODY = {
    "HEAD /openapi.json",
    "GET /openapi.json",
    "GET /api/v1/health",
    "POST /login",
    "GET /login",
    "GET /static/{state}/{name}",
}
CHANGED_BY_OPERATORS = {
    "POST /api/v1/inspect",
    "POST /api/v1/inspect/path",
    "POST /api/v1/inspect/batch",
    "POST /api/v1/results/{number}/review",
    "POST /api/v1/lines/{name}/switch",
    "POST /api/v1/lines/{name}/shoot",
    "POST /api/v1/results/{number}/teach",
    "POST /api/v1/results/{number}/unteach",
    "POST /api/v1/models/{number}/promise",  # asks, and changes nothing
    "POST /logout",
    "PUT /api/v1/me/language",
    "POST /api/v1/me/password",
}
OF_ADMINS = ("/api/v1/people", "/api/v1/keys", "/api/v1/hosts", "/api/v1/trail")


@pytest.fixture(scope="module")
def station(tmp_path_factory, model_file):
    folder = tmp_path_factory.mktemp("station")
    (folder / "images").mkdir()
    settings = Settings(data=folder, upload=3_000_000, pixels=1_000_000, roots=(folder / "images",))
    station = Station(settings)
    yield station
    station.close()


@pytest.fixture(scope="module")
def app(station, model_file):
    app = create_app(station)
    client = TestClient(app, base_url=HERE)
    _, key = keys.make(station.database, "x", "setup", Role.engineer)
    client.headers["authorization"] = f"Bearer {key}"
    model = client.post("/api/v1/models", data={"name": "nut"}, files={"file": model_file.read_bytes()}).json()
    assert client.post(f"/api/v1/models/{model['id']}/activate", json={"line": "main"}).status_code == 200
    return app


@pytest.fixture(scope="module")
def clients(app, station):
    """A browser in which nobody is logged in, and one for each role."""
    found = {None: TestClient(app, base_url=HERE, follow_redirects=False)}
    for role in Role:
        client = found[role] = TestClient(app, base_url=HERE, follow_redirects=False)
        with station.database.begin() as session:
            session.add(person := Person(name=f"the {role}", password="none", role=role))
            session.flush()
            token = sessions.begin(session, person)
            client.headers["x-csrf-token"] = session.get_one(Login, sessions.token_hash(token)).csrf
        client.cookies.set("station-8000", token, domain="127.0.0.1")
    return found


def walked(app):
    """Every method and path of an app, also what its OpenAPI document leaves out, and the role that it needs."""
    found = {}
    for route in app.routes:
        for one in route.effective_route_contexts() if hasattr(route, "effective_route_contexts") else [route]:
            needs = [need.role for need in needed(getattr(one, "dependant", None))]
            for method in getattr(one, "methods", None) or ["GET"]:
                found[f"{method} {one.path}"] = max(needs, key=list(Role).index, default=None)
    return found


def needed(dependant):
    for one in dependant.dependencies if dependant else ():
        yield from [one.call] if isinstance(one.call, Need) else ()
        yield from needed(one)


def ask(client, door, **more):
    method, path = re.sub(r"{[a-z_]+}", "1", door).split(" ")
    return client.request(method, path, **more)


def test_every_route_needs_a_role_but_those_that_are_listed(app):
    doors = walked(app)
    assert len(doors) > 40
    assert {door for door, role in doors.items() if role is None} == FOR_EVERYBODY
    changing = {door for door, role in doors.items() if role is Role.operator and not door.startswith(("GET", "HEAD"))}
    assert changing == CHANGED_BY_OPERATORS
    for door, role in doors.items():
        assert role is Role.admin or not door.split(" ")[1].startswith(OF_ADMINS), door


@pytest.mark.parametrize("role", [None, Role.operator, Role.engineer])
def test_no_route_answers_somebody_unknown_or_of_a_lower_role(app, clients, role):
    for door, least in walked(app).items():
        if least is not None and (role is None or list(Role).index(role) < list(Role).index(least)):
            answer = ask(clients[role], door)
            assert answer.status_code == (401 if role is None else 403), door
            assert set(answer.json()) == {"detail"}
            asked = {"accept": "text/html"} if role is None and not door.split(" ")[1].startswith("/api") else {}
            assert not asked or ask(clients[None], door, headers=asked).headers["location"].startswith("/login")


def test_no_route_that_changes_something_does_without_the_token(app, clients):
    for door, least in walked(app).items():
        if least is not None and not door.startswith(("GET", "HEAD")):
            for wrong in ("", "x" * 43):
                answer = ask(clients[Role.admin], door, headers={"x-csrf-token": wrong})
                assert (answer.status_code, "CSRF" in answer.text) == (403, True), door


def png(width, height, data=b"", *, more=b""):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )


def zipped(size):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"\0" * size)
    return file.getvalue()


def test_bombs_are_refused_as_images(clients, station):
    text = zlib.compress(b"x" * 100_000_000)
    comment = struct.pack(">I", len(text) + 6) + b"zTXtabcd\0\0" + text
    comment += struct.pack(">I", zlib.crc32(comment[4:]))
    bombs = {
        "declares much": png(60_000, 60_000),
        "is much": png(2_000, 2_000, b"\0" * 2_001 * 2_000),
        "more data than pixels": png(16, 16, b"\0" * 50_000_000),
        "comment": png(16, 16, b"\0" * 17 * 16, more=comment),
        "zip": zipped(100_000_000),
        "gzip": gzip.compress(b"\0" * 100_000_000),
        "text": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "empty": b"",
    }
    for name, content in bombs.items():
        assert len(content) < 3_000_000
        answer = clients[Role.operator].post("/api/v1/inspect", files={"image": ("a.png", content)})
        assert answer.status_code in ((422, 200) if name in ("more data than pixels", "comment") else (422,)), name
        assert "/etc" not in answer.text
        added = clients[Role.engineer].post("/api/v1/inspect/batch", files=[("images", ("a.png", content))])
        assert added.status_code == 200
    assert clients[Role.operator].get("/api/v1/state").json()["trouble"] == {}


def test_bombs_are_refused_as_models(clients):
    large = struct.pack("<Q", 1 << 60) + b"{}"
    deep = b"[" * 100_000
    for content in (b"", zipped(10_000_000), large, struct.pack("<Q", len(deep)) + deep, b"\x80\x04cos\nsystem\n."):
        answer = clients[Role.engineer].post("/api/v1/models", data={"name": "x"}, files={"file": content})
        assert answer.status_code == 422


def test_a_compressed_body_is_not_unpacked(clients):
    body = gzip.compress(b'{"path": "' + b"x" * 50_000_000 + b'"}')
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert clients[Role.operator].post("/api/v1/inspect/path", content=body, headers=headers).status_code in (400, 422)


def test_an_upload_has_a_limit_on_its_way_and_as_a_file(clients):
    for size, status in ((3_000_001, 422), (4_000_000, 413)):
        answer = clients[Role.operator].post("/api/v1/inspect", files={"image": ("a.png", b"x" * size)})
        assert answer.status_code == status
    assert clients[None].post("/api/v1/inspect", files={"image": ("a.png", b"x" * 100_000)}).status_code == 401


def test_paths_lead_only_into_the_roots(clients, station, hazelnut):
    secret = station.settings.data / "secret.png"
    secret.write_bytes(next((hazelnut / "test" / "good").iterdir()).read_bytes())
    (root := station.settings.roots[0]).joinpath("link.png").symlink_to(secret)
    for bad in (secret, "/etc/passwd", f"{root}/../secret.png", root / "link.png", "../secret.png", "\0", root):
        assert clients[Role.operator].post("/api/v1/inspect/path", json={"path": str(bad)}).status_code == 422
    for bad in ("../images", "..", "%2e%2e", "set-x/../../images", "a%00b"):
        begun = {"images": bad, "name": "x", "line": None}
        assert clients[Role.engineer].post("/api/v1/trainings", json=begun).status_code in (404, 422)
        assert clients[Role.engineer].post(f"/api/v1/sets/{bad}").status_code in (401, 404, 405, 422)


def test_names_that_people_give_run_nowhere(clients, station, hazelnut):
    image = next((hazelnut / "test" / "good").iterdir()).read_bytes()
    bad = "=cmd|' /C calc'!A0\r\nSet-Cookie: a=b"
    answer = clients[Role.operator].post(
        "/api/v1/inspect", data={"part": bad}, files={"image": ("../../=1+1.png", image)}
    )
    assert answer.status_code == 200
    assert answer.json()["name"] == "=1+1.png"
    table = clients[Role.operator].get("/api/v1/results/export.csv")
    rows = list(csv.reader(io.StringIO(table.text)))
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "@", "+"))]
    for name in ("image.png", "overlay.png", "heat.png"):
        got = clients[Role.operator].get(f"/api/v1/results/{answer.json()['id']}/{name}")
        assert got.status_code == 200
        assert "set-cookie" not in got.headers


def test_after_all_this_the_trail_is_whole(clients, station):
    assert clients[Role.admin].get("/api/v1/trail/check").json()["ok"]
    with station.database.read() as session:
        assert trail.verify(session).rows > 2
        assert not session.scalars(select(Person).where(Person.role == Role.admin, Person.name != "the admin")).all()
