import re
import shutil
import socket

import pytest
from fastapi import Request, Response, UploadFile
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from patchcore.errors import UsageError
from patchcore.station.people import keys
from patchcore.station.people.protection import HEADERS, TEXT, attachment, checked_url, inside, protect
from patchcore.station.settings import Settings
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Role

HERE = "http://127.0.0.1"


@pytest.fixture
def database(_file, tmp_path):
    """Only SQLite: all of this happens before the database."""
    shutil.copy(_file, tmp_path / "station.sqlite")
    database = Database(f"sqlite:///{tmp_path / 'station.sqlite'}")
    yield database
    database.close()


@pytest.fixture
def taken():
    """How many bytes the routes below have been given."""
    return []


@pytest.fixture
def open_app(app, taken, tmp_path):
    """A station that takes 100,000 bytes, with routes that anybody may use."""

    @app.post("/upload")
    def upload(file: UploadFile) -> int:
        taken.append(len(file.file.read()))
        return taken[-1]

    @app.post("/raw")
    async def raw(request: Request) -> int:
        async for chunk in request.stream():
            taken.append(len(chunk))
        return sum(taken)

    @app.post("/json")
    def json(given: dict[str, object]) -> int:
        return len(given)

    @app.post("/large")
    async def large(request: Request) -> int:
        return len(await request.body())

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("secret path /etc/x")

    @app.get("/named")
    def named(name: str) -> Response:
        return Response("", headers={"x-name": name, "content-disposition": attachment(name)})

    @app.get("/static", response_class=Response)
    def static() -> Response:
        return Response("", headers={"Cache-Control": "public, max-age=60"})

    @app.get("/stream")
    def stream() -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]), media_type="text/event-stream")

    app.user_middleware.clear()
    protect(app, Settings(data=tmp_path, upload=100_000, hosts=("Line-7.factory",)), {"/large": 300_000})
    return app


@pytest.fixture
def client(open_app):
    return TestClient(open_app, base_url=HERE, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def machine(client, database):
    _, key = keys.make(database, "x", "press", Role.operator)
    client.headers["authorization"] = f"Bearer {key}"
    return client


def test_every_answer_has_the_headers_also_refusals_and_failures(client):
    answers = [
        client.get("/static"), client.get("/api/v1/me"), client.get("/nowhere"), client.get("/broken"),
        client.get("/stream"), client.put("/static"), client.get("/static", headers={"host": "evil.example"}),
        client.post("/raw", content=b"x" * 200_000), client.post("/login", data={"name": "x"}),
    ]  # fmt: skip
    assert [one.status_code for one in answers] == [200, 401, 404, 500, 200, 405, 421, 413, 303]
    for answer in answers:
        for name, value in HEADERS.items():
            if name != "cache-control":
                assert answer.headers.get_list(name) == [value], (answer.url, name)
    assert [one.headers["cache-control"] for one in answers] == ["public, max-age=60", *["no-store"] * 8]
    assert answers[3].json() == {"detail": "The station failed; its log says more."}
    assert "strict-transport-security" not in answers[0].headers


def test_the_policy_for_pages_trusts_nothing_but_this_station(client):
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert not re.search(r"https?:|\*", policy)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == rules["form-action"] == "'self'"


def test_behind_tls_browsers_are_told_to_stay_there(app, tmp_path):
    app.user_middleware.clear()
    protect(app, Settings(data=tmp_path, tls=True))
    answer = TestClient(app, base_url="https://127.0.0.1").get("/api/v1/me")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8000",
        "localhost",
        "LOCALHOST:1",
        "[::1]:8000",
        "192.168.0.7:8000",
        "line-7.FACTORY",
        socket.gethostname(),
    ],
)
def test_the_station_answers_to_addresses_and_to_its_names(client, host):
    assert client.get("/static", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", " ", "x@127.0.0.1", "[evil]", "a b",
     "127.0.0.1/evil", "line-7.factory.", "127.1"],
)  # fmt: skip
def test_a_name_that_somebody_bent_to_this_address_gets_nothing(client, host):
    answer = client.get("/static", headers={"host": host})
    assert answer.status_code == 421
    assert "Start it with --name" in answer.json()["detail"]


def test_a_page_of_another_site_cannot_change_anything_whatever_its_cookies(client):
    good = [{}, {"origin": HERE}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}]
    bad = [{"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:81"}, {"origin": ""},
           {"origin": "http://127.0.0.1.evil.example"}, {"sec-fetch-site": "cross-site"},
           {"sec-fetch-site": "same-site"}]  # fmt: skip
    for path in ("/login", "/raw"):
        assert [client.post(path, headers=one).status_code // 100 for one in good] == [3 if path == "/login" else 2] * 4
        assert [client.post(path, headers=one).status_code for one in bad] == [403] * len(bad)
    assert client.get("/static", headers=bad[0]).status_code == 200


def test_an_upload_that_says_it_is_too_large_is_not_read(machine, taken):
    def never():
        raise AssertionError("it was read")
        yield b""

    answer = machine.post("/raw", content=never(), headers={"content-length": "200000"})
    assert answer.status_code == 413
    assert answer.json()["detail"] == "The body is too large: at most 165,536 bytes are taken here."
    assert not taken


def pieces(size, count):
    return (b"x" * size for _ in range(count))


def test_an_upload_without_a_length_ends_at_the_limit(machine, taken):
    assert machine.post("/raw", content=pieces(1000, 100)).json() == 100_000
    taken.clear()
    assert machine.post("/raw", content=pieces(1000, 100_000)).status_code == 413
    assert sum(taken) <= 165_536


def test_a_form_without_a_length_ends_at_the_limit(machine, taken):
    def form():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        yield from pieces(1000, 100_000)
        yield b"\r\n--b--\r\n"

    answer = machine.post("/upload", content=form(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 413
    assert not taken
    assert machine.post("/upload", files={"file": b"x" * 100_000}).json() == 100_000
    assert machine.post("/upload", files={"file": b"x" * 200_000}).status_code == 413


def test_a_length_that_lies_or_is_none_does_not_help(machine):
    for bad in ("-1", "1e3", "0x10", "", "99999999999999999999"):
        assert machine.post("/raw", content=b"x", headers={"content-length": bad}).status_code == 400
    assert machine.post("/raw", content=pieces(1000, 1000), headers={"content-length": "5"}).status_code == 413


def test_json_has_a_limit_of_its_own_and_some_paths_a_higher_one(app, machine, tmp_path):
    assert machine.post("/large", content=b"x" * 290_000).json() == 290_000
    assert machine.post("/large", content=b"x" * 370_000).status_code == 413
    app.user_middleware.clear()
    app.middleware_stack = None
    protect(app, Settings(data=tmp_path, upload=50_000_000))
    assert machine.post("/json", content=b'{"a": "' + b"x" * TEXT + b'"}', headers=JSON).status_code == 413
    assert machine.post("/json", content=b"[" * 1_000_000, headers=JSON).status_code in (400, 422)


JSON = {"content-type": "application/json"}


def test_much_is_taken_only_from_somebody_known(client, database, taken):
    for more in ({}, {"content-length": "70000"}):
        answer = client.post("/raw", content=pieces(1000, 70), headers=more)
        assert answer.status_code == 401
    assert not taken
    assert client.post("/raw", content=b"x" * 65_000).json() == 65_000
    _, key = keys.make(database, "x", "press", Role.operator)
    assert client.post("/raw", content=b"x" * 70_000, headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_no_text_gets_out_of_its_header(client):
    for name in ("a\r\nSet-Cookie: x=1", "a\nb", "a\0b", 'a"; filename="b.exe', "../../etc/passwd"):
        answer = client.get("/named", params={"name": name})
        assert "set-cookie" not in answer.headers
        assert not re.search(r"[\r\n\0]", answer.headers["x-name"])
        kept = re.fullmatch(
            r'attachment; filename="([^"/\\]+)"; filename\*=UTF-8\'\'[\w.%~-]+', answer.headers["content-disposition"]
        )
        assert kept
    assert "%C3%BC" in attachment("Prüfung.csv")
    assert attachment("\ud800").isascii()


def test_a_path_leads_nowhere_but_into_the_roots(tmp_path):
    root, secret = tmp_path / "root", tmp_path / "root-secret"
    (root / "a").mkdir(parents=True)
    secret.mkdir()
    (root / "a" / "x.png").touch()
    (secret / "y.png").touch()
    (root / "out").symlink_to(secret)
    (root / "file").symlink_to(secret / "y.png")
    (root / "in").symlink_to(root / "a")
    (root / "loop").symlink_to(root / "loop")
    (tmp_path / "way").symlink_to(root)
    roots = [tmp_path / "way"]
    for good in (root, root / "a" / "x.png", f"{root}/in/x.png", f"{root}/../root/a/./x.png", tmp_path / "way" / "a"):
        assert inside(roots, good).is_relative_to(root)
    said = set()
    for bad in (secret / "y.png", root / "out" / "y.png", root / "file", root / "loop", f"{root}/../root-secret/y.png",
                f"{root}/a/../../root-secret", "/etc/passwd", "../../../../etc/passwd", "", ".", f"{root}\0",
                f"{root}/none", "file:///etc/passwd", "~root", "x" * 5000, "\ud800"):  # fmt: skip
        with pytest.raises(UsageError, match="nothing in a folder") as refused:
            inside(roots, bad)
        said.add(str(refused.value).partition(": ")[2])
    assert len(said) == 1  # also for what does not exist
    with pytest.raises(UsageError):
        inside([], "/")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "localhost", "[::1]", "[::]",
     "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "10.0.0.1", "172.16.0.1",
     "192.168.1.1", "169.254.169.254", "[fe80::1]", "[fe80::1%25lo]", "[fd00::1]", "100.64.0.1", "224.0.0.1",
     "[ff02::1]", "255.255.255.255", "192.0.2.1", "\uff11\uff12\uff17.0.0.1", "127.0.0.1.", "LOCALHOST"],
)  # fmt: skip
def test_a_webhook_reaches_nothing_in_the_own_network(host):
    for url in (f"http://{host}/", f"https://{host}:8443/x?y#z"):
        with pytest.raises(UsageError, match="not an address that the station may send to"):
            checked_url(url)


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://8.8.8.8/", "file:///etc/passwd", "gopher://8.8.8.8/", "//8.8.8.8/", "http://", "http:///x",
     "http://8.8.8.8:99999/", "http://[::1", "http://8.8.8.8 /", "http://8.8.8.8/\r\nX: y", "http://u:p@8.8.8.8/",
     "http://8.8.8.8@127.0.0.1/", "http://127.0.0.1\\@8.8.8.8/", "javascript:alert(1)", "http://" + "a." * 200,
     "http://no-such-host.invalid/"],
)  # fmt: skip
def test_what_is_no_web_address_is_refused(url):
    with pytest.raises(UsageError, match="not an address that the station may send to"):
        checked_url(url)


def test_a_public_address_and_what_an_admin_has_listed_are_taken():
    assert checked_url("https://8.8.8.8/x") == ("8.8.8.8",)
    assert checked_url("http://[2606:4700:4700::1111]:81/") == ("2606:4700:4700::1111",)
    assert checked_url("http://127.0.0.1:9/", ["127.0.0.1"]) == ("127.0.0.1",)
    assert "127.0.0.1" in checked_url("http://LocalHost/", ["LOCALHOST"])
    with pytest.raises(UsageError, match=r"own network\. An admin can list 127\.0\.0\.1"):
        checked_url("http://127.0.0.1/", ["localhost", "10.0.0.1"])
