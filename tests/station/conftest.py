"""What tests of the station share: an empty database of each kind."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from patchcore.station.settings import Settings
from patchcore.station.station import Station
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Base, Line

_SERVER = Path("/usr/lib/postgresql/15/bin")  # where Debian puts it


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """Makes an empty database in a real PostgreSQL, and returns its URL. The server ends with the tests.

    It listens on a socket in its own folder, not on the network, and writes without waiting for the disk.
    """
    import psycopg

    if not (_SERVER / "postgres").exists():
        pytest.skip(f"PostgreSQL is not installed in {_SERVER}")
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path may have 107 bytes
    try:
        become = []
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
            become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        data, log = folder / "data", (folder / "log").open("wb")
        initdb = [_SERVER / "initdb", "-D", data, "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
        done = subprocess.run([*become, *initdb], capture_output=True, text=True, check=False, cwd="/")
        assert not done.returncode, done.stderr
        # With --pdeathsig the server ends with this process, however that ends.
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": folder,
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "60",
            "shared_buffers": "16MB",
        }
        start = [*(become or ["setpriv"]), "--pdeathsig=INT", _SERVER / "postgres", "-D", data]
        start += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with log, subprocess.Popen(start, stdout=log, stderr=log, cwd="/") as server:
            try:
                for _ in range(300):
                    try:
                        control = psycopg.connect(host=str(folder), user="postgres", autocommit=True)
                        break
                    except psycopg.OperationalError:
                        assert server.poll() is None, (folder / "log").read_text()
                        time.sleep(0.05)
                else:
                    pytest.fail(f"PostgreSQL does not answer: {(folder / 'log').read_text()}")

                def make() -> str:
                    name = f"t{uuid4().hex}"
                    control.execute(f"CREATE DATABASE {name}".encode())
                    return f"postgresql+psycopg://postgres@/{name}?host={folder}"

                with control:
                    yield make
            finally:
                server.send_signal(signal.SIGQUIT)  # at once: nobody needs what is in it
                server.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once of each kind. No two tests have the same."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'station.sqlite'}"
    make: Callable[[], str] = request.getfixturevalue("postgresql")
    return make()


@pytest.fixture(scope="session")
def _shared(postgresql: Callable[[], str]) -> Iterator[Database]:
    database = Database(postgresql())
    yield database
    database.close()


@pytest.fixture(scope="session")
def _file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What SQLite has before anything is in it: a copy is made faster than the tables."""
    path = tmp_path_factory.mktemp("empty") / "station.sqlite"
    Database(f"sqlite:///{path}").close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An open database, once of each kind, with all tables and nothing in them. For one that is not yet made, or for
    several that are opened, use `database_url`, which takes longer."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("_file"), tmp_path / "station.sqlite")
        database = Database(f"sqlite:///{tmp_path / 'station.sqlite'}")
        yield database
        database.close()
        return
    database = request.getfixturevalue("_shared")
    yield database
    with database.engine.begin() as connection:
        tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
        connection.exec_driver_sql(f"TRUNCATE {tables} RESTART IDENTITY")


@pytest.fixture
def station(tmp_path: Path, model_file: Path) -> Iterator[Station]:
    """A station, its line `main` judged by the model of `model_file`."""
    station = Station(Settings(data=tmp_path / "station", threads=1))
    with station.database.begin() as session:
        model = station.models.add(session, model_file.read_bytes(), name="hazelnut", how="import", who="somebody")
        session.get_one(Line, 1).model_id = model.id
    yield station
    station.close()
