"""`patchcore serve` and `patchcore station`: what they print, and what they leave."""

import re
import socket
import subprocess
import sys

import httpx
import pytest

from patchcore.station.people import keys
from patchcore.station.settings import Settings
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Role


def served(data, *options):
    command = [sys.executable, "-m", "patchcore", "serve", "--data", str(data), "--port", "0", *map(str, options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"http://\S+?:\d+/", line):
            return process, found[0], "".join(said)
    pytest.fail("".join(said))


def ended(process):
    process.terminate()
    process.stdout.read()
    process.stdout.close()
    assert process.wait(60) == 0


def test_the_first_start_prints_a_password_that_logs_in_and_the_second_does_not(tmp_path):
    process, url, said = served(tmp_path / "line")
    password = re.search(r"with the password (\S+)", said)[1]
    wrong = httpx.post(f"{url}login", data={"name": "admin", "password": "wrong"})
    right = httpx.post(f"{url}login", data={"name": "admin", "password": password})
    assert "error=wrong" in wrong.headers["location"]
    assert "error" not in right.headers["location"]
    ended(process)
    process, url, said = served(tmp_path / "line")
    assert "password" not in said
    assert httpx.get(f"{url}api/v1/health").json()["trouble"] == ["models"]
    database = Database(Settings(data=tmp_path / "line").database_url)
    _, key = keys.make(database, "somebody", "page", Role.operator)
    database.close()
    with httpx.stream("GET", f"{url}api/v1/events", headers={"authorization": f"Bearer {key}"}) as page:
        lines = page.iter_lines()
        assert next(lines) == "event: hello"
        ended(process)  # a page that is open holds nothing up
        assert "event: result" not in list(lines)


def test_another_address_without_tls_is_a_warning(tmp_path):
    process, _, said = served(tmp_path / "line", "--host", "0.0.0.0")
    assert "without TLS" in said
    ended(process)


def test_a_port_that_is_taken_is_said(run, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--data", tmp_path / "line", "--port", port)
    assert done.exit_code == 2
    assert f"Port {port} on 127.0.0.1 cannot be used" in done.stderr


def test_a_backup_of_a_running_station_is_restored_and_checked(run, tmp_path):
    process, _, _ = served(tmp_path / "line")
    done = run("station", "backup", "-o", tmp_path / "line.tar", "--data", tmp_path / "line")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'line.tar'}: 0 results, 0 files.\n")
    ended(process)
    assert run("station", "backup", "-o", tmp_path / "line.tar", "--data", tmp_path / "line").exit_code == 2
    done = run("station", "restore", tmp_path / "line.tar", "--data", tmp_path / "other")
    assert done.exit_code == 0, done.stderr
    assert run("station", "check", "--data", tmp_path / "other").exit_code == 0
    again = run("station", "restore", tmp_path / "line.tar", "--data", tmp_path / "other")
    assert "holds rows already" in again.stderr


def test_a_folder_without_a_station_is_said(run, tmp_path):
    for command in (("check",), ("backup", "-o", tmp_path / "x.tar")):
        done = run("station", *command, "--data", tmp_path)
        assert done.exit_code == 2
        assert f"{tmp_path} holds no station" in done.stderr
