import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest
from plain_line import until
from plain_results import Results
from receivers import Receiver, free_port
from sqlalchemy import select

from patchcore.errors import UsageError
from patchcore.station.outputs import outbox
from patchcore.station.outputs.keeper import Outputs
from patchcore.station.outputs.specs import WebhookSpec
from patchcore.station.outputs.webhook import Webhook, is_genuine, signature
from patchcore.station.running import State
from patchcore.station.store.tables import Message, now

SECRET = "0123456789abcdef"


def anywhere(url):
    return ("127.0.0.1",)


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(outbox, "_after", lambda tries: 0.01)


@pytest.fixture
def results(database, a_result):
    return Results(database, *a_result)


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def outputs(results):
    outputs = Outputs(results.database, anywhere)
    yield outputs
    assert outputs.close() == []


def hook(url, name="mes", **more):
    return WebhookSpec(name=name, url=url, secret=SECRET, **more)


def test_results_arrive_in_order_with_a_signature_though_the_receiver_fails_first(results, outputs, receiver):
    receiver.answers[:] = [500, 503, 429]
    outputs.set([hook(receiver.url)])
    stored = [results.store(outputs.specs, part=f"P{number}") for number in range(5)]
    for one in stored:
        outputs.announce(one)
    until(lambda: len(receiver.taken) == 5)
    assert [one["result"] for one in receiver.taken] == stored
    assert [one["result"]["part"] for one in receiver.taken] == ["P0", "P1", "P2", "P3", "P4"]
    assert len({one["message"] for one in receiver.taken}) == 5
    for _, headers, body in receiver.requests:
        stamp, signed = headers["X-Patchcore-Timestamp"], headers["X-Patchcore-Signature"]
        assert is_genuine(SECRET, stamp, body, signed)
        assert not is_genuine(SECRET, stamp, body + b" ", signed)
        assert not is_genuine("another secret..", stamp, body, signed)
        assert not is_genuine(SECRET, str(int(stamp) - 400), body, signature(SECRET, str(int(stamp) - 400), body))
    until(lambda: outputs.states()[0]["waiting"] == 0)
    assert outputs.states()[0]["state"] == "running"


def test_a_signature_is_that_of_the_standard():
    # printf '12.{}' | openssl dgst -sha256 -hmac key
    assert signature("key", "12", b"{}") == ("sha256=043e30e1e15664dc97494d18e4110984bcbd2c4e6f3e19de9569dc1ea6d9b03e")


def test_what_is_not_stored_is_not_said(results, outputs, receiver):
    outputs.set([hook(receiver.url)])
    with pytest.raises(RuntimeError):
        results.store(outputs.specs, fail=True)
    kept = results.store(outputs.specs)
    outputs.announce(kept)
    until(lambda: receiver.taken)
    assert [one["result"]["id"] for one in receiver.taken] == [kept["id"]]


def test_a_dead_receiver_holds_up_no_other_and_gets_all_once_it_is_there(results, outputs, receiver):
    port = free_port()
    outputs.set([hook(f"http://localhost:{port}/", "dead"), hook(receiver.url)])
    for _ in range(3):
        outputs.announce(results.store(outputs.specs))
    until(lambda: len(receiver.taken) == 3)
    states = {one["name"]: one for one in until(lambda: outputs.states()[0]["state"] == "lost" and outputs.states())}
    assert states["dead"]["waiting"] == 3
    assert "refused" in states["dead"]["why"]
    assert states["mes"]["state"] == "running"
    back = Receiver(port)
    until(lambda: len(back.taken) == 3)
    until(lambda: outputs.states()[0]["state"] == "running")
    back.close()


def test_only_lines_and_verdicts_that_were_asked_for_are_told(results, outputs, receiver):
    outputs.set([hook(receiver.url, lines=["main"], verdicts=["fail", "unsure"])])
    for line, verdict in ((1, "pass"), (2, "fail"), (1, "unsure"), (1, "fail")):
        outputs.announce(results.store(outputs.specs, line=line, verdict=verdict))
    until(lambda: len(receiver.taken) == 2)
    assert [one["result"]["verdict"] for one in receiver.taken] == ["unsure", "fail"]


def test_old_messages_are_given_up_and_shown_once_they_cannot_be_sent(results, outputs):
    spec = hook(f"http://localhost:{free_port()}/", hours=1)
    results.store([spec])
    with results.database.begin() as session:
        session.scalars(select(Message)).one().created = now() - timedelta(hours=2)
    results.store([spec])
    outputs.set([spec])
    state = until(lambda: outputs.states()[0]["given_up"] and outputs.states()[0])
    assert (state["given_up"], state["waiting"]) == (1, 1)
    assert "refused" in state["given_up_why"]


def test_a_message_that_is_refused_does_not_hold_up_the_next_one_for_ever(results, outputs, receiver):
    receiver.answers[:] = [422] * 8
    outputs.set([hook(receiver.url)])
    for part in ("odd", "fine"):
        outputs.announce(results.store(outputs.specs, part=part))
    until(lambda: receiver.taken)
    assert [one["result"]["part"] for one in receiver.taken] == ["fine"]
    until(lambda: outputs.states()[0]["waiting"] == 0)
    assert outputs.states()[0]["given_up_why"] == "http://localhost answered 422 Unprocessable Entity. Not today."


def test_no_redirect_is_followed_and_no_address_is_used_that_was_not_checked(results, outputs, receiver):
    inner = Receiver()
    receiver.answers[:], receiver.moved = [302], inner.url
    outputs.set([hook(receiver.url)])
    outputs.announce(results.store(outputs.specs))
    until(lambda: receiver.taken)  # the second try
    assert not inner.requests
    inner.close()

    def closed(url):
        raise UsageError("localhost is in the own network")

    guarded = Outputs(results.database, closed)
    guarded.set([hook(receiver.url, "guarded")])
    guarded.announce(results.store(guarded.specs))
    until(lambda: "own network" in guarded.states()[0]["why"])
    before = len(receiver.requests)
    guarded.close()
    assert len(receiver.requests) == before


def test_the_name_of_a_url_is_not_looked_up_again(receiver):
    port = receiver.url.split(":")[2].split("/")[0]
    webhook = Webhook(hook(f"http://no-such-host.invalid:{port}/"), anywhere)
    webhook.send({"message": "1"})
    assert receiver.requests[0][1]["Host"] == f"no-such-host.invalid:{port}"


def test_an_output_that_is_removed_gives_up_what_waits_and_one_that_is_kept_goes_on(results, outputs, receiver):
    dead = hook(f"http://localhost:{free_port()}/", "dead")
    outputs.set([dead, hook(receiver.url)])
    kept = outputs._running["mes"]
    results.store(outputs.specs)
    outputs.set([hook(receiver.url)])
    assert outputs._running["mes"] is kept
    with results.database.read() as session:
        row = session.scalars(select(Message).where(Message.output == "dead")).one()
    assert row.given_up is not None
    assert row.error == "This output was removed."


def test_a_database_that_is_away_for_a_while_is_said_and_survived(results, receiver):
    state = State("webhook")
    sender = outbox.Outbox(results.database, "mes", Webhook(hook(receiver.url), anywhere).send, state, timedelta(1))
    with results.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE message RENAME TO elsewhere")
    sender.start()
    until(lambda: state.condition == "lost")
    with results.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO message")
    results.store([hook(receiver.url)])
    sender.wake()
    until(lambda: receiver.taken)
    until(lambda: state.condition == "running")
    assert sender.stop(5)


def test_a_station_that_is_killed_while_it_sends_loses_nothing(results, receiver):
    spec = hook(receiver.url)
    stored = [results.store([spec], part=str(number)) for number in range(60)]
    script = """
        import sys, threading
        from patchcore.station.outputs.keeper import Outputs
        from patchcore.station.outputs.specs import output_specs
        from patchcore.station.store.database import Database
        outputs = Outputs(Database(sys.argv[1]), lambda url: ("127.0.0.1",))
        outputs.set(output_specs([{"kind": "webhook", "name": "mes", "url": sys.argv[2], "secret": sys.argv[3]}]))
        threading.Event().wait()
    """
    url = results.database.url.render_as_string(hide_password=False)
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), url, receiver.url, SECRET]) as process:
        until(lambda: len(receiver.taken) > 25, 60)
        process.kill()
    assert len({one["message"] for one in receiver.taken}) < 60
    outputs = Outputs(results.database, anywhere)
    outputs.set([spec])
    until(lambda: outputs.states()[0]["waiting"] == 0)
    outputs.close()
    first = dict.fromkeys(one["result"]["part"] for one in receiver.taken)  # in order, once doubles are dropped
    assert list(first) == [one["part"] for one in stored]
    assert len({one["message"] for one in receiver.taken}) == 60


def test_messages_sent_long_ago_are_forgotten(results, outputs, receiver):
    results.store([hook(receiver.url)])
    results.store([hook(receiver.url)])
    with results.database.begin() as session:
        session.get(Message, 1).sent = now() - timedelta(days=8)
    outputs.set([hook(receiver.url)])
    until(lambda: receiver.taken)
    with results.database.read() as session:
        assert [one.id for one in session.scalars(select(Message))] == [2]
