"""Real MQTT brokers and a client of their own for tests."""

import asyncio
import json
import socket
import subprocess
import threading
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from plain_line import until
from receivers import free_port

_MOSQUITTO = Path("/usr/sbin/mosquitto")  # where Debian puts it


class Mosquitto:
    """A mosquitto that can be stopped and started again at the same port, and remembers nothing. `more`: settings."""

    def __init__(self, folder: Path, more: str = "allow_anonymous true") -> None:
        if not _MOSQUITTO.exists():
            pytest.skip("no mosquitto on this machine (Debian: apt-get install mosquitto)")
        self.port = free_port()
        self._config = folder / f"mosquitto-{self.port}.conf"
        self._config.write_text(f"user root\nlistener {self.port} 127.0.0.1\n{more}\n")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([_MOSQUITTO, "-c", self._config], stderr=subprocess.DEVNULL)
        until(lambda: listens(self.port))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Amqtt:
    """The broker of the package amqtt, in a thread."""

    def __init__(self) -> None:
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._broker = asyncio.run_coroutine_threadsafe(self._begun(), self._loop).result(20)

    async def _begun(self):
        from amqtt.broker import Broker

        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        broker = Broker(
            {"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}}, "plugins": plugins}
        )
        await broker.start()
        return broker

    async def _end(self):
        await self._broker.shutdown()
        await asyncio.sleep(0.05)  # for its sockets to be closed

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Ear:
    """Somebody who hears all topics of a broker: `heard` are (topic, text, retained)."""

    def __init__(self, port: int, tls=None) -> None:
        self.heard = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        if tls is not None:
            self._client.tls_set_context(tls)
        ready = threading.Event()
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = lambda _, __, one: self.heard.append((one.topic, one.payload.decode(), one.retain))
        self._client.connect("localhost", port)
        self._client.loop_start()
        assert ready.wait(20)

    def said(self, topic: str) -> list:
        """What was heard at a topic, as JSON where it is."""
        return [json.loads(text) if text.startswith("{") else text for at, text, _ in self.heard.copy() if at == topic]

    def say(self, topic: str, text: str, retain: bool = False) -> None:
        self._client.publish(topic, text, qos=1, retain=retain).wait_for_publish(20)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
