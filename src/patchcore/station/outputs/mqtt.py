"""MQTT: results as messages, with what the station is doing in topics that a broker keeps."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from patchcore.errors import PatchcoreError
from patchcore.station.outputs.errors import UnsentError
from patchcore.station.outputs.specs import MqttSpec
from patchcore.station.running import Loop

if TYPE_CHECKING:
    import aiomqtt

_TIMEOUT = 6.0  # seconds until a broker has a message; a little more than the client itself waits
_LEVEL = re.compile(r"[/+#\x00-\x1f]")


class Mqtt:
    """A client that stays connected to a broker. Everything is sent with QoS 1.

    Topics, all below `spec.topic`: `status` (kept by the broker): `online`, or `offline` by the client's last will;
    `line/LINE/result`: each result; `line/LINE/last` (kept): the same; `line/LINE/source` (kept): how its source is.

    Args:
        spec: Its settings.
        changed: Called with True when the broker is there again, and with False when it is lost.

    Attributes:
        trouble: Why there is no connection; None while there is one.
    """

    def __init__(self, spec: MqttSpec, changed: Callable[[bool], None]) -> None:
        self._spec, self._changed = spec, changed
        self.trouble: str | None = f"{self._where}: not connected yet."
        self._client: aiomqtt.Client | None = None
        self._sources = dict[str, dict[str, Any]]()
        self._loop = Loop(f"MQTT of {spec.name}", self._run, self._lose)

    def start(self) -> None:
        self._loop.start()

    def stop(self, timeout: float) -> bool:
        return self._loop.stop(timeout)

    def send(self, message: dict[str, Any]) -> None:
        """Returns once the broker has it. Errors: UnsentError."""
        topic = f"{self._spec.topic}/line/{level(message['result']['line'])}"
        try:
            self._loop.call(self._publish(topic, json.dumps(message)), _TIMEOUT)
        except (PatchcoreError, RuntimeError, TimeoutError) as error:
            raise UnsentError(f"{self._where}: {error or 'it does not answer.'}") from error

    def source(self, line: str, state: dict[str, Any]) -> None:
        """Tell how the source of a line is; without a broker, it is told once there is one."""
        self._sources[line] = state
        self._loop.soon(lambda: self._tell(line))

    @property
    def _where(self) -> str:
        return f"broker {self._spec.broker.host}:{self._spec.broker.port}"

    async def _publish(self, topic: str, text: str) -> None:
        import aiomqtt

        if self._client is None:
            raise UnsentError("not connected.")
        try:
            await self._client.publish(f"{topic}/result", text, qos=1)
            await self._client.publish(f"{topic}/last", text, qos=1, retain=True)
        except aiomqtt.MqttError as error:
            raise UnsentError(str(error)) from error

    def _tell(self, line: str) -> None:
        if self._client is not None:
            text = json.dumps({"line": line, **self._sources[line]})
            work = self._client.publish(f"{self._spec.topic}/line/{level(line)}/source", text, qos=1, retain=True)
            task = asyncio.get_running_loop().create_task(work)
            task.add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )  # it is told at the next connection

    def _lose(self, why: str) -> None:
        self.trouble = why if why.startswith("broker") else f"{self._where}: {why}"
        self._changed(False)

    async def _run(self) -> None:
        import aiomqtt

        status = f"{self._spec.topic}/status"
        try:
            async with self._spec.broker.client(aiomqtt.Will(status, "offline", qos=1, retain=True)) as client:
                await client.publish(status, "online", qos=1, retain=True)
                self._client, self.trouble = client, None
                self._loop.up()
                for line in list(self._sources):
                    self._tell(line)
                self._changed(True)
                try:
                    async for _ in client.messages:  # nothing is subscribed to: it ends when the connection does
                        pass
                except asyncio.CancelledError:  # stopped: a farewell, as a will is only for the unexpected
                    self._client = None
                    await client.publish(status, "offline", qos=1, retain=True, timeout=1.0)
                    raise
        except aiomqtt.MqttError as error:
            raise UnsentError(str(error)) from error
        finally:
            self._client = None


def level(line: str) -> str:
    """A line's name as one level of a topic."""
    return _LEVEL.sub("_", line)
