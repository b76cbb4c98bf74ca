"""Modbus: the last result in registers that PLCs read over TCP. docs/station-machines.md has the map."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

from patchcore.station.outputs.present import Present
from patchcore.station.outputs.specs import ModbusSpec
from patchcore.station.running import Loop, State

REGISTERS, PART, ACKNOWLEDGED = 64, 32, 100  # registers that are read; where the part's id begins; where PLCs write
_LETTERS = 32  # of the part's id
_WORD, _LONG = 0xFFFF, 0xFFFFFFFF


def registers(now: Present, heartbeat: int) -> list[int]:
    """All registers from 0 on; numbers of 32 bits have their high word first."""
    total, passed, unsure, failed = now.counts
    time = 0 if now.time is None else int(now.time.timestamp())
    numbers = (total, passed, unsure, failed, now.result, time)
    found = struct.pack(
        ">HHffHHHH6L", now.sequence, now.verdict, now.score, now.threshold, heartbeat, now.source,
        min(now.missed, _WORD), 0, *(number & _LONG for number in numbers),
    )  # fmt: skip
    part = now.part.encode("ascii", "replace")[:_LETTERS]
    found = found.ljust(2 * PART, b"\0") + part
    return list(struct.unpack(f">{REGISTERS}H", found.ljust(2 * REGISTERS, b"\0")))


class Modbus:
    """A server for PLCs. All registers change together, between two requests.

    Args:
        spec: Its settings.
        state: Where it says how it is.
        alive: Whether the station inspects; the heartbeat stands still while it does not.
    """

    def __init__(self, spec: ModbusSpec, state: State, alive: Callable[[], bool]) -> None:
        self._spec, self._state, self._alive = spec, state, alive
        self._now, self._heartbeat = Present(), 0
        self._acknowledged: int | None = None  # until a PLC writes it
        self._loop = Loop(f"Modbus of {spec.name}", self._run, lambda why: state.set("lost", why))

    def start(self) -> None:
        self._loop.start()

    def stop(self, timeout: float) -> bool:
        return self._loop.stop(timeout)

    def announce(self, result: dict[str, Any]) -> None:
        self._loop.soon(lambda: self._change(self._now.after(result, self._acknowledged)))

    def source(self, line: str, state: dict[str, Any]) -> None:
        self._loop.soon(lambda: self._change(self._now.with_source(line, state["state"])))

    def _change(self, now: Present) -> None:
        self._now = now

    async def _run(self) -> None:
        from pymodbus import ModbusDeviceIdentification
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        blocks = [
            SimData(0, count=REGISTERS, values=0, datatype=DataType.REGISTERS, readonly=True),
            SimData(ACKNOWLEDGED, values=0, datatype=DataType.REGISTERS),
        ]
        identity = ModbusDeviceIdentification(info_name={"VendorName": "patchcore", "ProductName": "station"})
        place = (self._spec.host, self._spec.port)
        server = ModbusTcpServer(SimDevice(0, blocks, action=self._asked), identity=identity, address=place)
        try:
            if not await server.listen():
                raise OSError(
                    f"cannot listen at {place[0]}:{place[1]}. Is another program there, or the port below 1024?"
                )
            self._state.set("running")
            self._loop.up()
            while True:
                await asyncio.sleep(1)
                if self._alive():
                    self._heartbeat = self._heartbeat % _WORD + 1
        finally:
            await server.shutdown()

    async def _asked(self, function: int, start: int, address: int, count: int, current: list[int], values: Any) -> Any:
        """Before a request is answered: registers as they are now; and what a PLC writes."""
        from pymodbus.constants import ExcCodes

        if function not in (3, 4, 6, 16):
            return ExcCodes.ILLEGAL_FUNCTION
        if values:
            self._acknowledged = int(values[0])
        else:
            current[:REGISTERS] = registers(self._now, self._heartbeat)
        return None
