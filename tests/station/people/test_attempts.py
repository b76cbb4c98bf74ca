from patchcore.station.people import attempts
from patchcore.station.people.attempts import FREE, FREE_ADDRESS, LONGEST, Attempts


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_after_some_tries_the_wait_doubles_up_to_a_limit():
    clock = Clock()
    tries = Attempts(clock)
    assert [tries.begin("anna", f"10.0.0.{i}") for i in range(FREE)] == [0.0] * FREE
    waits = []
    for i in range(12):
        waits.append(tries.begin("anna", f"10.0.1.{i}"))
        clock.now += waits[-1]
        assert tries.begin("anna", f"10.0.1.{i}") == 0.0
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, LONGEST, LONGEST, LONGEST]
    assert tries.begin("berta", "10.0.2.1") == 0.0
    clock.now += attempts.FORGOTTEN + 1
    tries.begin("berta", "10.0.2.1")
    assert tries.begin("anna", "10.0.2.2") == 0.0
    assert tries.begin("anna", "10.0.2.2") == 0.0


def test_what_is_refused_does_not_count_so_that_nobody_is_shut_out_for_longer():
    clock = Clock()
    tries = Attempts(clock)
    for i in range(FREE):
        tries.begin("anna", str(i))
    assert [tries.begin("anna", "x") for _ in range(50)] == [1.0] * 50


def test_an_address_that_tries_many_names_waits_too():
    tries = Attempts(Clock())
    waits = [tries.begin(f"name {i}", "10.0.0.1") for i in range(FREE_ADDRESS + 1)]
    assert waits == [0.0] * FREE_ADDRESS + [1.0]
    assert tries.begin("anna", "10.0.0.2") == 0.0


def test_one_s_own_account_does_not_free_the_address():
    tries = Attempts(Clock())
    for i in range(FREE_ADDRESS):
        tries.begin("own", "10.0.0.1")
        tries.succeed("own", "10.0.0.1")
        assert tries.begin(f"name {i}", "10.0.0.1") == 0.0
    assert tries.begin("own", "10.0.0.1") > 0


def test_the_addresses_of_one_ipv6_network_are_one():
    tries = Attempts(Clock())
    waits = [tries.begin(f"name {i}", f"2001:db8:1:2::{i:x}") for i in range(FREE_ADDRESS + 1)]
    assert waits[-1] == 1.0
    assert tries.begin("anna", "2001:db8:1:3::1") == 0.0
    assert tries.begin("anna", "::ffff:10.0.0.1") == 0.0


def test_memory_has_a_bound(monkeypatch):
    monkeypatch.setattr(attempts, "MOST", 50)
    tries = Attempts(Clock())
    for i in range(500):
        tries.begin("x" * 10_000 + str(i), f"10.0.{i // 200}.{i % 200}")
    assert len(tries._tries) <= 50
    assert max(len(key) for key in tries._tries) < 100
