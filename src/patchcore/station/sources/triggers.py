"""Triggers: what makes a camera take an image, and is told what became of it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from patchcore.station.errors import UnavailableError
from patchcore.station.running import Backoff, Loop, State
from patchcore.station.sources.specs import ModbusTrigger, MqttTrigger
from patchcore.station.sources.submit import Stored

if TYPE_CHECKING:
    import aiomqtt
    from pymodbus.client import ModbusTcpClient

log = logging.getLogger(__name__)
_REMEMBERED = 1000  # ids of messages
_LONGEST = 2000  # bytes of a message
TAKEN, STORED, FAILED = 1, 2, 3  # in the register of answers


class Shoot(Protocol):
    """As `CameraSource.shoot`."""

    def __call__(self, part: str | None = None) -> Future[Stored]: ...


class Trigger(Protocol):
    def start(self) -> None: ...

    def stop(self, timeout: float) -> None: ...


def trigger_of(spec: MqttTrigger | ModbusTrigger, shoot: Shoot, state: State) -> Trigger:
    """What the settings ask for, not started yet."""
    return OverMqtt(spec, shoot, state) if isinstance(spec, MqttTrigger) else OverModbus(spec, shoot, state)


def asked(payload: bytes) -> tuple[str | None, str | None]:
    """Part and id from a message: nothing, the part's id as text, or JSON {"part": ..., "id": ...}.

    Errors: ValueError.
    """
    if len(payload) > _LONGEST:
        raise ValueError(f"a message of {len(payload)} bytes; at most {_LONGEST} are read")
    text = payload.decode("utf-8").strip()
    if not text.startswith("{"):
        found: dict[str, Any] = {"part": text or None}
    else:
        found = json.loads(text)
    if unknown := found.keys() - {"part", "id"}:
        raise ValueError(f"unknown keys {', '.join(sorted(unknown))}; known are part and id")
    values = tuple(found.get(name) for name in ("part", "id"))
    if not all(one is None or (isinstance(one, str) and one.isprintable() and len(one) <= 100) for one in values):
        raise ValueError("part and id must be texts of at most 100 printable characters")
    return values[0], values[1]


class OverMqtt:
    """Each message at a topic takes an image; `topic/answer` is told when it is taken, and what was found or why not.

    Messages that a broker kept (retained) are old, and take none. A message with an `id` takes one image, however often
    it is delivered while the station runs, and is answered each time.
    """

    def __init__(self, spec: MqttTrigger, shoot: Shoot, state: State) -> None:
        self._spec, self._shoot, self._state = spec, shoot, state
        self._shots = OrderedDict[str, asyncio.Task[Future[Stored]]]()  # by id
        self._loop = Loop("trigger", self._run, lambda why: state.set("lost", why))

    def start(self) -> None:
        self._loop.start()

    def stop(self, timeout: float) -> None:
        self._loop.stop(timeout)

    async def _run(self) -> None:
        import aiomqtt

        try:
            async with self._spec.broker.client() as client, asyncio.TaskGroup() as tasks:
                await client.subscribe(self._spec.topic, qos=1)
                self._state.set("running")
                self._loop.up()
                async for message in client.messages:
                    if not message.retain:
                        tasks.create_task(self._take(client, bytes(message.payload)))
        except* aiomqtt.MqttError as failed:
            where = f"broker {self._spec.broker.host}:{self._spec.broker.port}"
            raise UnavailableError(f"{where}: {failed.exceptions[0]}") from failed

    async def _take(self, client: aiomqtt.Client, payload: bytes) -> None:
        told: dict[str, Any] = {}
        try:
            part, told["id"] = asked(payload)
            future = await self._shot(part, told["id"])
            await self._answer(client, {**told, "step": "taken"})
            stored = await asyncio.wrap_future(future)
            told |= {"step": "stored", "result": stored["id"], "verdict": stored["verdict"], "part": stored["part"]}
        except Exception as error:  # whatever kept it from that: who asked is told
            told |= {"step": "failed", "why": str(error)}
        await self._answer(client, told)

    async def _shot(self, part: str | None, number: str | None) -> Future[Stored]:
        if number is None:
            return await asyncio.to_thread(self._shoot, part)
        shot = self._shots.get(number)
        if shot is None:
            shot = self._shots[number] = asyncio.create_task(asyncio.to_thread(self._shoot, part))
            while len(self._shots) > _REMEMBERED:
                self._shots.popitem(last=False)
        try:
            return await asyncio.shield(shot)
        except Exception:
            self._shots.pop(number, None)  # asked again, it tries again
            raise

    async def _answer(self, client: aiomqtt.Client, told: dict[str, object]) -> None:
        await client.publish(f"{self._spec.topic}/answer", json.dumps(told), qos=1)


class OverModbus:
    """A coil or register of a PLC that goes from 0 to another value takes an image; another register is told so.

    If the trigger is set when the connection is made, the register of answers decides: 0 there means that nobody has
    taken an image for it yet. Without such a register, it is left until it has been 0.
    """

    def __init__(self, spec: ModbusTrigger, shoot: Shoot, state: State) -> None:
        self._spec, self._shoot, self._state = spec, shoot, state
        self._stop, self._unsaid = threading.Event(), False
        self._running: Future[Stored] | None = None
        self._step = 0  # what was answered last; `_unsaid`: the PLC was gone
        self._thread = threading.Thread(target=self._run, name="trigger", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        self._stop.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        from pymodbus import ModbusException
        from pymodbus.client import ModbusTcpClient

        backoff = Backoff()
        where = f"PLC {self._spec.host}:{self._spec.port}"
        while not self._stop.is_set():
            client = ModbusTcpClient(self._spec.host, port=self._spec.port, timeout=1, retries=0)
            try:
                if not client.connect():
                    raise OSError("does not answer. Is it switched on, and the address right?")
                self._follow(client, backoff)
            except Exception as error:
                if not isinstance(error, ModbusException | OSError):
                    log.exception("The trigger of %s failed", where)
                self._state.set("lost", f"{where}: {error}")
            finally:
                client.close()
            self._stop.wait(backoff.next())

    def _follow(self, client: ModbusTcpClient, backoff: Backoff) -> None:
        answer = self._spec.answer
        if self._unsaid:
            self._say(client, self._step)
        elif answer is not None:
            self._step = self._register(client, answer)
        handled = self._step != 0 if answer is not None else self._set(client)
        while not self._stop.is_set():
            now = self._set(client)
            self._state.set("running")
            backoff.reset()
            if not now:
                self._running = None
                if handled or self._step:
                    handled = False
                    self._say(client, 0)
            elif not handled:
                handled = True
                self._say(client, self._taken())
            elif self._running is not None and self._running.done():
                failed = self._running.cancelled() or self._running.exception() is not None
                self._running = None
                self._say(client, FAILED if failed else STORED)
            self._stop.wait(self._spec.every)

    def _taken(self) -> int:
        """Take an image; what to answer."""
        try:
            self._running = self._shoot()
        except Exception as error:  # whatever kept it from that: the PLC is told
            self._state.put("missed", str(error))
            return FAILED
        return TAKEN

    def _set(self, client: ModbusTcpClient) -> bool:
        read: Callable[..., Any] = client.read_coils
        if self._spec.table == "register":
            return self._register(client, self._spec.address) != 0
        found = read(self._spec.address, count=1, device_id=self._spec.unit)
        if found.isError():
            raise OSError(f"coil {self._spec.address} cannot be read: {found}")
        return bool(found.bits[0])

    def _register(self, client: ModbusTcpClient, address: int) -> int:
        found = client.read_holding_registers(address, count=1, device_id=self._spec.unit)
        if found.isError():
            raise OSError(f"holding register {address} cannot be read: {found}")
        return int(found.registers[0])

    def _say(self, client: ModbusTcpClient, step: int) -> None:
        """Answer. If the PLC is gone just now, it is told when it is back, and no second image is taken."""
        self._step, self._unsaid = step, True
        if self._spec.answer is not None:
            done = client.write_register(self._spec.answer, step, device_id=self._spec.unit)
            if done.isError():
                raise OSError(f"holding register {self._spec.answer} cannot be written: {done}")
        self._unsaid = False
