import asyncio
import threading

import pytest
from plain_line import until

from patchcore.station.running import Backoff, Loop, State


def test_a_state_is_told_when_it_changes_and_a_listener_that_fails_ends_nothing():
    told = []

    def tell(now):
        told.append((now["state"], now["why"]))
        raise RuntimeError("the database is away")

    state = State("camera", tell)
    for condition, why in (("running", ""), ("running", ""), ("lost", "unplugged"), ("lost", "off"), ("running", "")):
        state.set(condition, why)
        state.count("images")
    assert told == [("running", ""), ("lost", "unplugged"), ("lost", "off"), ("running", "")]
    assert state.to_dict()["images"] == 5
    assert str(state) == "running"


def test_since_when_is_that_of_the_condition_and_not_of_its_reason():
    state = State("camera")
    state.set("lost", "unplugged")
    since = state.to_dict()["since"]
    state.set("lost", "still unplugged")
    assert state.to_dict()["since"] == since


def test_a_backoff_doubles_up_to_its_limit_and_begins_again():
    backoff = Backoff(1, 5)
    assert [backoff.next() for _ in range(4)] == [1, 2, 4, 5]
    backoff.reset()
    assert backoff.next() == 1


def test_a_loop_begins_again_when_it_fails_and_runs_nothing_once_it_is_stopped():
    begun, failed, steady = [], [], threading.Event()

    async def main():
        begun.append(1)
        if len(begun) < 3:
            raise ValueError(f"failure {len(begun)}")
        steady.set()
        await asyncio.Event().wait()

    async def seven():
        return 7

    loop = Loop("loop", main, failed.append)
    loop._backoff = Backoff(0.01, 0.01)
    loop.start()
    until(steady.is_set)
    assert failed == ["failure 1", "failure 2"]
    assert loop.call(seven(), 5) == 7
    assert loop.stop(5)
    with pytest.raises(RuntimeError, match="stopped"):
        loop.call(seven(), 5)
