import datetime
import subprocess
import sys

import pytest
from brokers import Amqtt, Ear, Mosquitto
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from plain_line import until
from receivers import free_port

from patchcore.station.outputs import outbox
from patchcore.station.outputs.keeper import Outputs
from patchcore.station.outputs.specs import output_specs


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(outbox, "_after", lambda tries: 0.2)


@pytest.fixture
def mosquitto(tmp_path):
    broker = Mosquitto(tmp_path)
    yield broker
    broker.stop()


@pytest.fixture
def outputs(results):
    outputs = Outputs(results.database, lambda url: ())
    yield outputs
    assert outputs.close() == []


def mqtt(port, **broker):
    return output_specs([{"kind": "mqtt", "name": "scada", "broker": {"host": "localhost", "port": port, **broker}}])


def test_results_and_states_arrive_at_mosquitto_and_after_it_was_restarted(results, outputs, mosquitto):
    ear = Ear(mosquitto.port)
    outputs.set(mqtt(mosquitto.port))
    outputs.source("main", {"state": "running", "why": ""})
    stored = [results.store(outputs.specs, line=line, part=f"P{line}") for line in (1, 2)]
    for one in stored:
        outputs.announce(one)
    until(lambda: ear.said("patchcore/line/press 2_left/last"))
    assert ear.said("patchcore/line/main/result")[0]["result"] == stored[0]
    assert ear.said("patchcore/line/press 2_left/result")[0]["result"] == stored[1]
    until(lambda: ear.said("patchcore/line/main/source"))
    assert ear.said("patchcore/line/main/source")[0]["state"] == "running"
    assert ear.said("patchcore/status") == ["online"]
    ear.close()

    mosquitto.stop()
    until(lambda: outputs.states()[0]["state"] == "lost")
    lost = [results.store(outputs.specs, part=f"Q{number}") for number in range(3)]
    for one in lost:
        outputs.announce(one)
    outputs.source("main", {"state": "lost", "why": "unplugged"})
    mosquitto.start()
    ear = Ear(mosquitto.port)
    until(lambda: outputs.states()[0]["waiting"] == 0)
    until(lambda: outputs.states()[0]["state"] == "running")
    until(lambda: ear.said("patchcore/line/main/source"))
    assert ear.said("patchcore/line/main/source")[-1]["why"] == "unplugged"
    assert ear.said("patchcore/status") == ["online"]
    late = Ear(mosquitto.port)  # what a broker keeps is there for who comes later
    until(lambda: late.said("patchcore/line/main/last"))
    assert late.said("patchcore/line/main/last")[0]["result"] == lost[-1]
    assert not late.said("patchcore/line/main/result")
    late.close()
    outputs.close()
    until(lambda: ear.said("patchcore/status")[-1] == "offline")
    ear.close()


def test_a_station_that_is_killed_is_offline_by_its_last_will(results, mosquitto):
    ear = Ear(mosquitto.port)
    script = (
        "import sys, threading\n"
        "from patchcore.station.outputs.mqtt import Mqtt\n"
        "from patchcore.station.outputs.specs import output_specs\n"
        "broker = {'host': 'localhost', 'port': int(sys.argv[1])}\n"
        "Mqtt(output_specs([{'kind': 'mqtt', 'name': 'm', 'broker': broker}])[0], print).start()\n"
        "threading.Event().wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(mosquitto.port)]) as process:
        until(lambda: ear.said("patchcore/status") == ["online"], 60)
        process.kill()
    until(lambda: ear.said("patchcore/status") == ["online", "offline"])
    ear.close()


def test_results_arrive_at_amqtt_too(results, outputs):
    broker = Amqtt()
    ear = Ear(broker.port)
    outputs.set(mqtt(broker.port))
    stored = results.store(outputs.specs)
    outputs.announce(stored)
    until(lambda: ear.said("patchcore/line/main/last"))
    assert ear.said("patchcore/line/main/result")[0]["result"] == stored
    ear.close()
    outputs.close()
    broker.stop()


def test_a_broker_that_is_not_there_is_said_though_nothing_waits(outputs):
    outputs.set(mqtt(free_port()))
    until(lambda: outputs.states()[0]["state"] == "lost" and "refused" in outputs.states()[0]["why"])


@pytest.fixture
def certificate(tmp_path):
    """A certificate of localhost that vouches for itself, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=localhost")
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    text = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*text))
    return tmp_path / "ca.pem", tmp_path / "key.pem"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves sockets to the collector
def test_a_broker_with_tls_and_a_password_is_checked_and_spoken_to(results, outputs, tmp_path, certificate):
    ca, key = certificate
    subprocess.run(["mosquitto_passwd", "-c", "-b", tmp_path / "words", "line", "correct horse"], check=True)
    more = f"cafile {ca}\ncertfile {ca}\nkeyfile {key}\npassword_file {tmp_path / 'words'}\nallow_anonymous false"
    broker = Mosquitto(tmp_path, more)
    for wrong in ({"tls": True}, {"tls": True, "ca": str(ca)}):  # not trusted, without a password
        outputs.set(mqtt(broker.port, **wrong))
        until(lambda: outputs.states()[0]["state"] == "lost" and "not connected yet" not in outputs.states()[0]["why"])
    outputs.set(mqtt(broker.port, tls=True, ca=str(ca), user="line", password="correct horse"))
    stored = results.store(outputs.specs)
    outputs.announce(stored)
    until(lambda: outputs.states()[0]["state"] == "running" and outputs.states()[0]["waiting"] == 0)
    assert "correct horse" not in repr(outputs.specs)
    outputs.close()
    broker.stop()
