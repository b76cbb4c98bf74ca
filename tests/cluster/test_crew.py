"""Workers that are lost and replaced, and images that end them."""

from contextlib import suppress

import pytest

from patchcore.cluster.crew import Crew
from patchcore.cluster.ledger import Ledger
from patchcore.errors import ImageError


def test_a_lost_worker_is_made_again_as_it_was_and_every_answer_comes_once(ray):
    class Adder:
        def __init__(self):
            self.total = 0

        def add(self, number):
            self.total += number
            return self.total

        def get(self, factor):
            return factor * self.total

        def fail(self):
            raise ImageError("a.png", "damaged")

    crew = Crew(lambda: ray.remote(Adder), 2)
    try:
        assert crew.all("add", 1, keeps=True) == [1, 1]
        calls = [crew.ask(0, "add", 10, keeps=True), crew.ask(0, "get", 3)]
        ray.kill(crew._actors[0])
        later = crew.ask(0, "add", 100, keeps=True)
        assert [crew.answer(call) for call in [*calls, later]] == [11, 33, 111]
        assert crew.all("get", 1) == [111, 1]
        assert crew.replaced == 1
        ray.kill(crew._actors[0])
        with suppress(ray.exceptions.RayActorError):  # until it is gone, it may still answer
            while True:
                ray.get(crew._actors[0].get.remote(1))
        crew.forget(0, "add")
        assert crew.all("get", 1) == [0, 1]
        with pytest.raises(ImageError, match=r"a\.png: damaged"):
            crew.all("fail")
    finally:
        crew.close()


def test_an_image_that_was_begun_three_times_and_never_ended_may_not_begin_again():
    ledger = Ledger([])
    assert ledger.begin(1)
    assert ledger.begin(2, ended=1)
    assert ledger.begin(2)
    assert ledger.begin(2)
    assert not ledger.begin(2)
    assert ledger.begin(1, ended=2)
    ledger.end(1)
    assert ledger.begin(2)
