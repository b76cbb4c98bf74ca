import asyncio
import builtins
import math

import pytest
from asyncua import Client, ua
from plain_line import until
from receivers import free_port

from patchcore.station.outputs.keeper import Outputs
from patchcore.station.outputs.opcua import NAMESPACE
from patchcore.station.outputs.specs import output_specs


class Heard:
    def __init__(self):
        self.values = []

    def datachange_notification(self, node, value, data):
        self.values.append(value)


def test_a_client_reads_subscribes_and_cannot_write(results):
    port = free_port()
    outputs = Outputs(results.database, lambda url: ())
    outputs.set(output_specs([{"kind": "opcua", "name": "scada", "port": port}]))
    until(lambda: outputs.states()[0]["state"] == "running", 60)

    async def use():
        async with Client(f"opc.tcp://127.0.0.1:{port}/patchcore/") as client:
            space = await client.get_namespace_index(NAMESPACE)

            async def read(name):
                return await client.get_node(ua.NodeId(f"Patchcore.{name}", space)).read_value()

            found = await client.nodes.objects.get_child([f"{space}:Patchcore", f"{space}:Verdict"])
            assert await found.read_value() == "none"
            assert await read("Sequence") == 0
            assert math.isnan(await read("Score"))
            heard = Heard()
            subscription = await client.create_subscription(20, heard)
            await subscription.subscribe_data_change(client.get_node(ua.NodeId("Patchcore.Sequence", space)))
            stored = [results.store((), verdict=verdict) for verdict in ("pass", "fail")]
            for one in stored:
                outputs.announce(one)
            while heard.values[-1:] != [2]:
                await asyncio.sleep(0.01)
            assert await read("Verdict") == "fail"
            assert await read("VerdictCode") == 3
            assert await read("Score") == stored[-1]["score"]
            assert await read("Threshold") == stored[-1]["threshold"]
            assert (await read("Part"), await read("Line"), await read("Model")) == ("P1", "main", "nuts 3")
            assert await read("Result") == stored[-1]["id"]
            assert (await read("Time")).isoformat()[:19] == stored[-1]["time"][:19]
            assert [await read(name) for name in ("Counter", "Passed", "Unsure", "Failed")] == [2, 1, 0, 1]
            outputs.source("main", {"state": "lost", "why": "unplugged"})
            while await read("Source") != 3:
                await asyncio.sleep(0.01)
            while await read("Heartbeat") == 0:
                await asyncio.sleep(0.01)
            with pytest.raises(ua.UaStatusCodeError):
                await client.get_node(ua.NodeId("Patchcore.Verdict", space)).write_value("pass")
            await subscription.delete()

    asyncio.run(asyncio.wait_for(use(), 60))
    assert outputs.close(10) == []


def test_without_the_extra_the_state_says_what_to_install(results, monkeypatch):
    real = builtins.__import__

    def without(name, *more):
        if name == "asyncua":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    outputs = Outputs(results.database, lambda url: ())
    outputs.set(output_specs([{"kind": "opcua", "name": "scada", "port": free_port()}]))
    assert outputs.states()[0]["state"] == "lost"
    assert "pip install 'patchcore[opcua]'" in outputs.states()[0]["why"]
    outputs.close()
