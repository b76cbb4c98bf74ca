from datetime import timedelta

import pytest
from sqlalchemy import select, update

from patchcore.station.people import accounts, keys, sessions
from patchcore.station.store.tables import ApiKey, Login, Role, now


def begin(database, person):
    with database.begin() as session:
        return sessions.begin(session, person)


def age(database, token, **fields):
    with database.begin() as session:
        session.execute(update(Login).where(Login.token == sessions.token_hash(token)).values(**fields))


def test_the_database_has_no_token_that_could_be_used(database, person):
    token = begin(database, person("anna"))
    with database.read() as session:
        (row,) = session.scalars(select(Login)).all()
    assert token not in (row.token, row.csrf)
    assert len(token) == 43
    assert sessions.find(database, token).person.name == "anna"
    assert sessions.find(database, row.token) is None
    assert sessions.find(database, "\udcff") is None


@pytest.mark.parametrize("role", list(Role))
def test_a_session_ends_when_idle_and_when_it_is_old(database, person, role):
    token = begin(database, person("anna", role))
    age(database, token, seen=now() - sessions.IDLE[role] + timedelta(minutes=1))
    assert sessions.find(database, token)  # and is seen now
    age(database, token, seen=now() - sessions.IDLE[role])
    assert sessions.find(database, token) is None
    age(database, token, seen=now(), expires=now())
    assert sessions.find(database, token) is None


def test_a_request_keeps_a_session_alive_and_a_stream_only_that_of_an_operator(database, person):
    for name, role, kept in (("display", Role.operator, True), ("anna", Role.admin, False)):
        token, long_ago = begin(database, person(name, role)), now() - timedelta(minutes=10)
        age(database, token, seen=long_ago)
        assert sessions.find(database, token, touch=False)
        with database.read() as session:
            assert (session.get(Login, sessions.token_hash(token)).seen > long_ago) == kept
        sessions.find(database, token)
        with database.read() as session:
            assert session.get(Login, sessions.token_hash(token)).seen > long_ago


def test_logging_out_ends_one_session_and_shutting_an_account_all(database, person):
    anna, berta = person("anna"), person("berta", Role.admin)
    first, second, other = begin(database, anna), begin(database, anna), begin(database, berta)
    sessions.log_out(database, first)
    assert sessions.find(database, first) is None
    assert sessions.find(database, second)
    accounts.change(database, "x", anna.id, active=False)
    accounts.change(database, "x", anna.id, active=True)
    assert sessions.find(database, second) is None
    assert sessions.find(database, other)


def test_an_admin_ends_all_sessions_of_somebody(database, person):
    anna = person("anna")
    tokens = [begin(database, anna) for _ in range(3)]
    accounts.log_out(database, "x", anna.id)
    assert not any(sessions.find(database, token) for token in tokens)


def test_sessions_that_ended_long_ago_are_forgotten_at_the_next_login(database):
    person, password = accounts.make(database, "x", "anna", Role.operator)
    token = begin(database, person)
    age(database, token, expires=now() - timedelta(days=31))
    sessions.log_in(database, "anna", password)
    with database.read() as session:
        assert len(session.scalars(select(Login)).all()) == 1


def test_a_key_is_valid_until_it_is_revoked(database):
    key, token = keys.make(database, "anna", "press 1", Role.operator)
    assert token.startswith("pc_")
    found = keys.find(database, token)
    assert (found.name, found.role) == ("press 1", Role.operator)
    with database.read() as session:
        row = session.get(ApiKey, key.id)
    assert row.used is not None
    assert token not in row.token
    assert keys.find(database, row.token) is None
    keys.revoke(database, "anna", key.id)
    assert keys.find(database, token) is None
