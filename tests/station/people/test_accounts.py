import threading

import pytest
from sqlalchemy import func, select

from patchcore.errors import UsageError
from patchcore.station.errors import ConflictError, MissingError, UnavailableError
from patchcore.station.people import accounts, passwords, sessions, trail
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Entry, Person, Role


def actions(database):
    with database.read() as session:
        assert trail.verify(session).problem is None
        return [(e.who, e.action, e.subject) for e in session.scalars(select(Entry).order_by(Entry.number))]


def test_the_first_start_makes_an_admin_and_no_other_does(database):
    password = accounts.first_admin(database)
    assert len(password) == 23
    assert accounts.first_admin(database) is None
    assert sessions.log_in(database, "admin", password)[1].must_change
    assert sessions.log_in(database, "admin", "admin") is None
    assert actions(database) == [
        ("station", "person.make", "admin"), ("admin", "login", ""), ("admin", "login.fail", ""),
    ]  # fmt: skip


def test_two_first_starts_at_once_make_one_admin(database_url):
    databases, found = [Database(database_url) for _ in range(2)], []
    threads = [threading.Thread(target=lambda one=one: found.append(accounts.first_admin(one))) for one in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(password is None for password in found) == [False, True]
    for one in databases:
        one.close()


def test_passwords_are_random_and_stored_as_argon2id(database):
    assert accounts.first_admin(database)
    with database.read() as session:
        stored = session.scalars(select(Person.password)).one()
    assert stored.startswith("$argon2id$")
    assert len({passwords.new_password() for _ in range(100)}) == 100


def test_an_unknown_name_costs_the_hash_of_a_password_too():
    # Somebody unknown is compared with a hash of the same parameters, which nothing matches.
    assert not passwords.outdated(passwords.NOBODY)
    assert not passwords.matches(None, "")
    assert not passwords.matches(None, "password")


def test_a_wrong_and_an_unknown_name_go_the_same_way(database, person, monkeypatch):
    stored = passwords.hashed("correct horse")
    with database.begin() as session:
        session.add_all(
            [
                Person(name="anna", password=stored, role=Role.operator),
                Person(name="shut", password=stored, role=Role.operator, active=False),
            ]
        )
    hashes, way = [], []
    real = passwords.matches
    monkeypatch.setattr(sessions, "matches", lambda stored, given: hashes.append(stored) or real(stored, given))
    for name, password in (("anna", "wrong"), ("nobody", "wrong"), ("shut", "correct horse"), ("a\0b", "wrong")):
        assert sessions.log_in(database, name, password) is None
        way.append(len(hashes))
    assert way == [1, 2, 3, 4]
    assert hashes[1] is hashes[3] is None
    assert [action for _, action, _ in actions(database)] == ["login.fail"] * 4
    assert [who for who, _, _ in actions(database)] == ["anna", "unknown", "shut", "unknown"]


@pytest.mark.parametrize(
    "name", ["", "a", "station", "key:press", "a\nb", "a\0b", "-rf", "x" * 65, "<b>x</b>", "\udcff" * 3]
)
def test_what_can_be_no_name_is_refused(name):
    with pytest.raises(UsageError, match="can be no name"):
        accounts.name_of(name)


def test_names_are_folded_so_that_nobody_looks_like_another(database):
    made, _ = accounts.make(database, "admin", " Änna ", Role.operator)
    assert made.name == "änna"
    for same in ("änna", "A\u0308NNA", "\uff21\u0308nna"):
        with pytest.raises(ConflictError, match="already somebody"):
            accounts.make(database, "admin", same, Role.admin)
    assert accounts.name_of("李雷") == "李雷"


def test_somebody_who_is_made_must_change_their_password_and_can_then_use_only_the_new_one(database):
    person, first = accounts.make(database, "admin", "berta", Role.engineer, why="new")
    token, found = sessions.log_in(database, "berta", first)
    assert found.must_change
    assert accounts.set_password(database, person.id, "wrong", "a much better one") is None
    for bad, said in (("short", "it must have 10"), ("aaaaaaaaaaaaaaa", "too easy"), ("i am berta 22", "too easy"),
                      (first, "is the old one")):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            accounts.set_password(database, person.id, first, bad)
    assert not accounts.set_password(database, person.id, first, "a much better one").must_change
    assert sessions.find(database, token) is None
    assert sessions.log_in(database, "berta", first) is None
    assert sessions.log_in(database, "berta", "a much better one")


def test_a_reset_ends_sessions_and_the_old_password(database):
    person, first = accounts.make(database, "admin", "berta", Role.engineer)
    token, _ = sessions.log_in(database, "berta", first)
    _, second = accounts.reset(database, "admin", person.id, why="forgotten")
    assert sessions.find(database, token) is None
    assert sessions.log_in(database, "berta", first) is None
    assert sessions.log_in(database, "berta", second)[1].must_change


def test_the_last_active_admin_stays(database, person):
    one, two = person("one", Role.admin), person("two", Role.admin)
    person("three", Role.engineer)
    accounts.change(database, "one", two.id, active=False)
    for change in ({"active": False}, {"role": Role.operator}):
        with pytest.raises(ConflictError, match="only active admin"):
            accounts.change(database, "one", one.id, **change)
    with database.read() as session:
        assert session.get(Person, one.id).role is Role.admin
    accounts.change(database, "one", two.id, active=True)
    accounts.change(database, "two", one.id, role=Role.operator)
    assert len(actions(database)) == 3


def test_two_admins_cannot_shut_each_other_at_once(database, person):
    pair = person("one", Role.admin), person("two", Role.admin)
    refused = []

    def shut(number):
        try:
            accounts.change(database, "x", number, active=False)
        except ConflictError:
            refused.append(number)

    threads = [threading.Thread(target=shut, args=(one.id,)) for one in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    with database.read() as session:
        assert session.scalar(select(func.count()).where(Person.active, Person.role == Role.admin)) == 1


def test_nobody_of_that_number_is_an_error(database):
    with pytest.raises(MissingError, match="no person 7"):
        accounts.change(database, "x", 7, active=False)
    with pytest.raises(MissingError, match="no person 7"):
        accounts.reset(database, "x", 7)


def test_a_change_that_changes_nothing_is_not_recorded_and_ends_no_session(database, person):
    anna = person("anna")
    with database.begin() as session:
        token = sessions.begin(session, anna)
    accounts.change(database, "x", anna.id, role=Role.operator)
    assert not actions(database)
    assert sessions.find(database, token)


def test_a_hash_with_other_parameters_is_replaced_at_the_next_login(database):
    from argon2 import PasswordHasher

    old = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("correct horse")
    with database.begin() as session:
        session.add(Person(name="anna", password=old, role=Role.operator))
    assert sessions.log_in(database, "anna", "correct horse")
    with database.read() as session:
        stored = session.scalars(select(Person.password)).one()
    assert not passwords.outdated(stored)
    assert sessions.log_in(database, "anna", "correct horse")


def test_a_flood_of_logins_leaves_threads_for_everything_else():
    for _ in range(8):
        passwords._waiting.acquire()
    try:
        with pytest.raises(UnavailableError, match="Too many people log in"):
            passwords.matches(None, "x")
    finally:
        for _ in range(8):
            passwords._waiting.release()
    assert not passwords.matches(None, "x")


def test_when_no_admin_can_log_in_the_command_line_helps(run, tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'station.sqlite'}")
    first = accounts.first_admin(database)
    made = run("station", "password", "--data", tmp_path).stdout.strip()
    assert sessions.log_in(database, "admin", first) is None
    assert sessions.log_in(database, "admin", made)[1].must_change
    assert ("station", "person.reset", "admin") in actions(database)
    database.close()
    failed = run("station", "password", "nobody", "--data", tmp_path)
    assert failed.exit_code == 1
    assert "nobody named 'nobody'" in failed.stderr
