import math
import struct
import time

import pytest
from plain_line import until
from pymodbus.client import ModbusTcpClient
from receivers import free_port

from patchcore.station.outputs.keeper import Outputs
from patchcore.station.outputs.modbus import registers
from patchcore.station.outputs.present import Present
from patchcore.station.outputs.specs import output_specs


class Plc:
    """A PLC that reads the registers by the map in the documents."""

    def __init__(self, port):
        self.client = ModbusTcpClient("127.0.0.1", port=port, timeout=2)
        until(self.client.connect)

    def read(self, address, count=1):
        return self.client.read_holding_registers(address, count=count).registers

    def number(self, address):
        high, low = self.read(address, 2)
        return high * 65536 + low

    def decimal(self, address):
        return struct.unpack(">f", struct.pack(">HH", *self.read(address, 2)))[0]


@pytest.fixture
def outputs(results):
    outputs = Outputs(results.database, lambda url: ())
    yield outputs
    assert outputs.close() == []


@pytest.fixture
def plc(outputs):
    port = free_port()
    outputs.set(output_specs([{"kind": "modbus", "name": "plc", "port": port}]))
    plc = Plc(port)
    yield plc
    plc.client.close()


def test_registers_are_those_of_the_documents(results, outputs, plc):
    assert plc.read(0, 2) == [0, 0]  # no result yet
    assert math.isnan(plc.decimal(2))
    stored = [
        results.store((), verdict=verdict, part=f"SN-{verdict}") for verdict in ("pass", "pass", "unsure", "fail")
    ]
    for one in stored:
        outputs.announce(one)
    until(lambda: plc.read(0) == [4])
    assert plc.read(1) == [3]
    assert plc.decimal(2) == pytest.approx(stored[-1]["score"], rel=1e-6)
    assert plc.decimal(4) == pytest.approx(stored[-1]["threshold"], rel=1e-6)
    assert [plc.number(address) for address in (10, 12, 14, 16)] == [4, 2, 1, 1]
    assert plc.number(18) == stored[-1]["id"]
    assert plc.number(20) > 1_700_000_000
    assert struct.pack(">16H", *plc.read(32, 16)).rstrip(b"\0") == b"SN-fail"
    whole = plc.read(0, 64)
    assert plc.client.read_input_registers(0, count=64).registers[:6] == whole[:6]


def test_what_a_plc_acknowledges_is_not_missed(results, outputs, plc):
    missed = []
    for number in range(1, 6):
        outputs.announce(results.store(()))
        until(lambda number=number: plc.read(0) == [number])
        missed += plc.read(8)
        if number in (2, 4):
            plc.client.write_register(100, number)
    assert missed == [0, 0, 0, 1, 1]  # 1 came before there was anybody who acknowledges; 3 was replaced by 4
    assert plc.read(100) == [4]


def test_a_plc_can_write_nothing_else(outputs, plc):
    assert plc.client.write_register(1, 1).isError()
    assert plc.client.write_registers(99, [1, 2]).isError()
    assert plc.client.write_coil(0, True).isError()
    assert plc.client.read_holding_registers(64, count=1).isError()
    assert plc.read(1) == [0]


def test_the_heartbeat_beats_only_while_the_station_inspects_and_the_source_is_told(results):
    alive, port = [True], free_port()
    outputs = Outputs(results.database, lambda url: (), alive=lambda: alive[0])
    outputs.source("main", {"state": "lost", "why": "unplugged"})
    outputs.set(output_specs([{"kind": "modbus", "name": "plc", "port": port}]))
    plc = Plc(port)
    first = plc.read(6)[0]
    until(lambda: plc.read(6)[0] > first)
    assert plc.read(7) == [3]
    outputs.source("main", {"state": "running", "why": ""})
    until(lambda: plc.read(7) == [1])
    alive[0] = False
    last = plc.read(6)[0]
    time.sleep(2.2)
    assert plc.read(6)[0] - last <= 1  # one beat may have been on its way
    plc.client.close()
    outputs.close()


def test_a_port_that_is_taken_is_said_and_taken_once_it_is_free(results, outputs, plc):
    port = plc.client.comm_params.port
    second = Outputs(results.database, lambda url: ())
    second.set(output_specs([{"kind": "modbus", "name": "second", "port": port}]))
    until(lambda: second.states()[0]["state"] == "lost")
    assert f"cannot listen at 127.0.0.1:{port}" in second.states()[0]["why"]
    outputs.set([])
    until(lambda: second.states()[0]["state"] == "running")
    second.close()


def test_sequence_numbers_go_from_65535_to_1():
    result = {"verdict": "pass", "score": 1.0, "threshold": None, "part": "Ä" * 40, "line": "main", "model": "nuts 1",
              "id": 2**33 + 7, "time": "2030-01-01T00:00:00+00:00"}  # fmt: skip
    after = Present(sequence=65_535).after(result)
    found = registers(after, 65_535)
    assert (found[0], found[18], found[19]) == (1, 0, 7)
    assert len(found) == 64
    assert all(0 <= one <= 65_535 for one in found)
