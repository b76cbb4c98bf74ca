import asyncio
import threading
from concurrent.futures import Future

import pytest
from brokers import Amqtt, Ear, Mosquitto
from cameras import Stream
from plain_line import PlainLine, until
from pymodbus.client import ModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from receivers import free_port

from patchcore.station.errors import UnavailableError
from patchcore.station.running import State
from patchcore.station.sources.camera import CameraSource
from patchcore.station.sources.specs import CameraSpec, source_spec
from patchcore.station.sources.triggers import FAILED, STORED, TAKEN, asked, trigger_of


class Camera:
    """Takes an image when it is told to, and counts; `trouble` keeps it from that, and `wait` holds results back."""

    def __init__(self):
        self.shots, self.trouble, self.futures, self.wait = [], None, [], False

    def shoot(self, part=None):
        if self.trouble is not None:
            raise UnavailableError(self.trouble)
        self.shots.append(part)
        self.futures.append(Future())
        if not self.wait:
            self.futures[-1].set_result({"id": len(self.shots), "verdict": "pass", "part": part})
        return self.futures[-1]


@pytest.fixture
def camera():
    return Camera()


@pytest.fixture
def begun():
    running = []

    def begin(shoot, **settings):
        spec = source_spec({"kind": "camera", "address": 0, "every": None, "trigger": settings}).trigger
        state = State("trigger")
        running.append(trigger_of(spec, shoot, state))
        running[-1].start()
        return state

    begin.running = running
    yield begin
    for one in running:
        one.stop(5)


@pytest.fixture(params=[Mosquitto, Amqtt])
def broker(request, tmp_path):
    broker = request.param(tmp_path) if request.param is Mosquitto else request.param()
    yield broker
    broker.stop()


def over(port):
    return {"kind": "mqtt", "topic": "press/go", "broker": {"host": "localhost", "port": port}}


def test_a_message_takes_an_image_and_is_answered(begun, camera, broker):
    state = begun(camera.shoot, **over(broker.port))
    until(lambda: state.condition == "running")
    ear = Ear(broker.port)
    ear.say("press/go", "")
    until(lambda: len(ear.said("press/go/answer")) == 2)
    camera.wait = True
    ear.say("press/go", '{"part": "SN1", "id": "t-17"}')
    until(lambda: len(ear.said("press/go/answer")) == 3)
    assert ear.said("press/go/answer")[2] == {"id": "t-17", "step": "taken"}
    camera.futures[1].set_result({"id": 2, "verdict": "fail", "part": "SN1"})
    until(lambda: len(ear.said("press/go/answer")) == 4)
    assert ear.said("press/go/answer")[3] == {
        "id": "t-17", "step": "stored", "result": 2, "verdict": "fail", "part": "SN1",
    }  # fmt: skip
    ear.say("press/go", '{"part": "SN1", "id": "t-17"}')  # delivered twice
    until(lambda: len(ear.said("press/go/answer")) == 6)
    assert ear.said("press/go/answer")[4:] == ear.said("press/go/answer")[2:4]
    assert camera.shots == [None, "SN1"]
    camera.trouble = "camera 0 is lost"
    ear.say("press/go", "SN2")
    until(lambda: len(ear.said("press/go/answer")) == 7)
    assert ear.said("press/go/answer")[6] == {"id": None, "step": "failed", "why": "camera 0 is lost"}
    ear.say("press/go", '{"part": 5}')
    until(lambda: len(ear.said("press/go/answer")) == 8)
    assert "part and id must be texts" in ear.said("press/go/answer")[7]["why"]
    ear.close()


def test_a_message_that_the_broker_kept_takes_none_and_a_restarted_broker_is_found_again(begun, camera, tmp_path):
    broker = Mosquitto(tmp_path)
    ear = Ear(broker.port)
    ear.say("press/go", "old", retain=True)
    state = begun(camera.shoot, **over(broker.port))
    until(lambda: state.condition == "running")
    ear.close()
    broker.stop()
    until(lambda: state.condition == "lost")
    broker.start()
    until(lambda: state.condition == "running")
    ear = Ear(broker.port)
    ear.say("press/go", "new")
    until(lambda: camera.shots)
    assert camera.shots == ["new"]
    ear.close()
    broker.stop()


@pytest.mark.parametrize("payload", [b"\xff", b"{", b'{"other": 1}', b'{"id": "a\\u0000"}', b"x" * 101, b" " * 2001])
def test_a_message_that_makes_no_sense_is_an_error(payload):
    with pytest.raises(ValueError, match=r"."):
        asked(payload)


class Plc:
    """A PLC as a server: a coil for triggers at 3, a register for answers at 7, and a register for triggers at 9."""

    def __init__(self):
        self.port, self.said, self.deaf, self.refused = free_port(), [], False, 0
        self.begin()

    def begin(self):
        self._loop, self._ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()
        self.client = ModbusTcpClient("127.0.0.1", port=self.port)
        assert self.client.connect()

    def _run(self):
        async def main():
            bits, words = DataType.BITS, DataType.REGISTERS
            blocks = ([SimData(0, count=16, datatype=bits)], [SimData(0, count=16, datatype=bits)],
                      [SimData(0, count=20, datatype=words)], [SimData(0, count=20, datatype=words)])  # fmt: skip
            device = SimDevice(1, blocks, action=self._hear)
            self._server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
            await self._server.serve_forever(background=True)
            self._ready.set()
            await self._server.serving

        self._loop.run_until_complete(main())
        self._loop.close()

    async def _hear(self, function, start, address, count, current, values):
        if address == 7 and values:
            if self.deaf:
                self.refused += 1
                return ExcCodes.DEVICE_FAILURE
            self.said.append(values[0])

    def set(self, value):
        self.client.write_coil(3, value, device_id=1)

    def end(self):
        self.client.close()
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop)
        self._thread.join(10)


@pytest.fixture
def plc():
    plc = Plc()
    yield plc
    plc.end()


def test_a_coil_takes_one_image_for_each_edge_with_a_handshake(begun, camera, plc):
    state = begun(camera.shoot, kind="modbus", host="127.0.0.1", port=plc.port, address=3, answer=7)
    until(lambda: state.condition == "running")
    camera.wait = True
    plc.set(True)
    until(lambda: plc.said == [TAKEN])
    camera.futures[0].set_result({})
    until(lambda: plc.said == [TAKEN, STORED])
    assert len(camera.shots) == 1  # as long as the coil stays
    plc.set(False)
    until(lambda: plc.said == [TAKEN, STORED, 0])
    camera.trouble = "lost"
    plc.set(True)
    until(lambda: plc.said[3:] == [FAILED])
    assert state.to_dict()["missed"] == "lost"
    plc.set(False)
    until(lambda: plc.said[3:] == [FAILED, 0])
    camera.trouble = None
    plc.set(True)
    until(lambda: plc.said[5:] == [TAKEN])
    camera.futures[1].set_exception(UnavailableError("no model"))
    until(lambda: plc.said[5:] == [TAKEN, FAILED])


def test_a_trigger_that_waits_at_the_start_is_taken_once_over_restarts(begun, camera, plc):
    settings = {"kind": "modbus", "host": "127.0.0.1", "port": plc.port, "address": 3, "answer": 7}
    plc.set(True)
    begun(camera.shoot, **settings)
    until(lambda: plc.said == [TAKEN, STORED])
    begun.running.pop().stop(5)
    second = Camera()
    state = begun(second.shoot, **settings)  # another start of the station finds it answered
    until(lambda: state.condition == "running")
    plc.set(False)
    until(lambda: plc.said[2:3] == [0])
    plc.set(True)
    until(lambda: second.shots)


def test_a_plc_that_is_gone_when_it_would_be_answered_gets_no_second_image(begun, camera, plc):
    begun(camera.shoot, kind="modbus", host="127.0.0.1", port=plc.port, address=3, answer=7)
    plc.deaf = True  # it does not take answers
    plc.set(True)
    until(lambda: plc.refused > 1)
    plc.deaf = False
    until(lambda: plc.said == [TAKEN, STORED])
    assert len(camera.shots) == 1


def test_a_register_without_answers_triggers_and_a_plc_that_goes_is_found_again(begun, camera, plc):
    state = begun(camera.shoot, kind="modbus", host="127.0.0.1", port=plc.port, table="register", address=9)
    until(lambda: state.condition == "running")
    plc.client.write_register(9, 5, device_id=1)
    until(lambda: len(camera.shots) == 1)
    plc.end()
    until(lambda: state.condition == "lost")
    plc.begin()
    until(lambda: state.condition == "running")
    plc.client.write_register(9, 1, device_id=1)
    until(lambda: len(camera.shots) == 2)


def test_an_address_that_the_plc_does_not_have_is_said(begun, camera, plc):
    state = begun(camera.shoot, kind="modbus", host="127.0.0.1", port=plc.port, address=300)
    until(lambda: "coil 300 cannot be read" in str(state))


def test_from_a_message_to_a_stored_result_of_a_real_camera(begun, detector, tmp_path):
    broker, stream, line, stop = Mosquitto(tmp_path), Stream(), PlainLine(detector), threading.Event()
    camera_state = State("camera")
    camera = CameraSource(CameraSpec(address=stream.address, every=None), 1, line.submit, camera_state)
    running = threading.Thread(target=camera.run, args=(stop,))
    running.start()
    state = begun(camera.shoot, **over(broker.port))
    until(lambda: state.condition == camera_state.condition == "running")
    ear = Ear(broker.port)
    ear.say("press/go", "SN9")
    until(lambda: len(ear.said("press/go/answer")) == 2)
    assert ear.said("press/go/answer")[1]["result"] == line.stored[0]["id"]
    assert line.stored[0]["part"] == "SN9"
    ear.close()
    stop.set()
    running.join()
    line.close()
    stream.close()
    broker.stop()
