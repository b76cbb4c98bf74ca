"""OPC UA: the last result as the values of nodes, for PLCs and SCADA systems to read or to subscribe to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from patchcore.errors import MissingExtraError
from patchcore.station.outputs.present import Present
from patchcore.station.outputs.specs import OpcUaSpec
from patchcore.station.running import Loop, State

if TYPE_CHECKING:
    from asyncua.common.node import Node
    from asyncua.server.server import Server

NAMESPACE = "urn:patchcore:station"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def values(now: Present) -> dict[str, tuple[object, str]]:
    """By node: its value, and its type in OPC UA. `Sequence` is last: when it changes, all others have changed."""
    total, passed, unsure, failed = now.counts
    verdict = ("none", "pass", "unsure", "fail")[now.verdict]
    return {
        "Verdict": (verdict, "String"),
        "VerdictCode": (now.verdict, "UInt16"),
        "Score": (now.score, "Double"),
        "Threshold": (now.threshold, "Double"),
        "Part": (now.part, "String"),
        "Line": (now.line, "String"),
        "Model": (now.model, "String"),
        "Result": (now.result, "UInt32"),
        "Time": ((now.time or _EPOCH).astimezone(UTC), "DateTime"),
        "Counter": (total, "UInt32"),
        "Passed": (passed, "UInt32"),
        "Unsure": (unsure, "UInt32"),
        "Failed": (failed, "UInt32"),
        "Source": (now.source, "UInt16"),
        "Sequence": (now.sequence, "UInt16"),
    }


class OpcUa:
    """A server whose nodes lie in `Objects/Patchcore` and can only be read. Without encryption and accounts.

    Args:
        spec: Its settings.
        state: Where it says how it is.
        alive: Whether the station inspects; the heartbeat stands still while it does not.

    Errors: MissingExtraError.
    """

    def __init__(self, spec: OpcUaSpec, state: State, alive: Callable[[], bool]) -> None:
        try:
            import asyncua
        except ImportError as error:
            raise MissingExtraError("asyncua", "opcua", f"the OPC UA output {spec.name!r}") from error
        for noisy in ("asyncua.server", "asyncua.common", asyncua.__name__):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        self._spec, self._state, self._alive = spec, state, alive
        self._now, self._awake = Present(), asyncio.Event()
        self._loop = Loop(f"OPC UA of {spec.name}", self._run, lambda why: state.set("lost", why))

    def start(self) -> None:
        self._loop.start()

    def stop(self, timeout: float) -> bool:
        return self._loop.stop(timeout)

    def announce(self, result: dict[str, Any]) -> None:
        self._loop.soon(lambda: self._change(self._now.after(result)))

    def source(self, line: str, state: dict[str, Any]) -> None:
        self._loop.soon(lambda: self._change(self._now.with_source(line, state["state"])))

    def _change(self, now: Present) -> None:
        self._now = now
        self._awake.set()

    async def _run(self) -> None:
        from asyncua import ua
        from asyncua.server.server import Server

        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://{self._spec.host}:{self._spec.port}/patchcore/")
        server.set_server_name("patchcore station")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        space = await server.register_namespace(NAMESPACE)
        place = ua.NodeId.from_string(f"ns={space};s=Patchcore")
        found = await server.nodes.objects.add_object(place, f"{space}:Patchcore")
        nodes = {
            name: await _node(found, space, name, value, kind)
            for name, (value, kind) in {**values(self._now), "Heartbeat": (0, "UInt32")}.items()
        }
        async with server:
            self._state.set("running")
            self._loop.up()
            beating = asyncio.create_task(self._beat(server, nodes["Heartbeat"]))
            try:
                while True:
                    self._awake.clear()
                    for name, (value, kind) in values(self._now).items():
                        await _write(server, nodes[name], value, kind)
                    await self._awake.wait()
            finally:
                beating.cancel()

    async def _beat(self, server: Server, node: Node) -> None:
        beats = 0
        while True:
            await asyncio.sleep(1)
            if self._alive():
                beats += 1
                await _write(server, node, beats, "UInt32")


async def _node(parent: Node, space: int, name: str, value: object, kind: str) -> Node:
    from asyncua import ua

    node = ua.NodeId.from_string(f"ns={space};s=Patchcore.{name}")
    return await parent.add_variable(node, f"{space}:{name}", ua.Variant(value, ua.VariantType[kind]))


async def _write(server: Server, node: Node, value: object, kind: str) -> None:
    from asyncua import ua

    moment = ua.DateTime.now(UTC)
    data = ua.DataValue(ua.Variant(value, ua.VariantType[kind]), SourceTimestamp=moment, ServerTimestamp=moment)
    await server.write_attribute_value(node.nodeid, data)
