"""From a folder and a camera to a verdict that machines are told, with a real station between them."""

from cameras import Stream
from plain_line import until
from pymodbus.client import ModbusTcpClient
from receivers import Receiver, free_port

from patchcore.station.inspection import Inspector
from patchcore.station.outputs.keeper import Outputs
from patchcore.station.outputs.specs import output_specs
from patchcore.station.sources.keeper import Keeper
from patchcore.station.sources.specs import source_spec
from patchcore.station.store.tables import Line
from patchcore.watch import folder as watching


class Machines:
    """The rooms of a station that speak with machines, begun and ended as a station does."""

    def __init__(self, station):
        self.outputs = Outputs(station.database, lambda url: ("127.0.0.1",))
        self.inspector = Inspector(
            station.settings, station.database, station.files, station.models, station.hub,
            enqueue=self.outputs.enqueue, announce=self.outputs.announce,
        )  # fmt: skip
        self.sources = Keeper(
            self.inspector.submit, station.database, lambda line, state: self.outputs.source("main", state)
        )

    def close(self):
        assert self.sources.close() == []
        self.inspector.close()
        assert self.outputs.close() == []


def test_from_a_file_to_a_plc_and_a_web_server_over_a_restart(station, hazelnut, tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "SETTLE", 0.1)
    folder, receiver, port = tmp_path / "in", Receiver(), free_port()
    folder.mkdir()
    settings = [
        {"kind": "webhook", "name": "mes", "url": receiver.url, "secret": "0123456789abcdef", "verdicts": ["fail"]},
        {"kind": "modbus", "name": "plc", "port": port},
    ]
    images = [hazelnut / "train/good/00.jpg", hazelnut / "test/colour/00.jpg", hazelnut / "test/colour/01.jpg"]
    for number, image in enumerate(images):
        machines = Machines(station)
        machines.outputs.set(output_specs(settings))
        machines.sources.set(1, source_spec({"kind": "folder", "path": str(folder), "afterwards": "move"}, [tmp_path]))
        plc = ModbusTcpClient("127.0.0.1", port=port)
        until(plc.connect)
        assert plc.read_holding_registers(0, count=2).registers == [0, 0]
        (folder / f"{number}.jpg").write_bytes(image.read_bytes())
        until(lambda plc=plc: plc.read_holding_registers(0).registers == [1], 60)
        assert plc.read_holding_registers(1).registers == [1 if number == 0 else 3]
        until(lambda number=number: (folder / "done" / f"{number}.jpg").exists())
        until(lambda number=number: len(receiver.taken) == number)
        plc.close()
        machines.close()
    assert [one["result"]["name"] for one in receiver.taken] == ["1.jpg", "2.jpg"]
    receiver.close()


def test_a_camera_s_images_are_judged_and_its_loss_is_told(station):
    machines, stream = Machines(station), Stream()
    port = free_port()
    machines.outputs.set(output_specs([{"kind": "modbus", "name": "plc", "port": port}]))
    machines.sources.set(1, source_spec({"kind": "camera", "address": stream.address, "every": None, "silence": 0.5}))
    plc = ModbusTcpClient("127.0.0.1", port=port)
    until(plc.connect)
    until(lambda: plc.read_holding_registers(7).registers == [1])
    said = machines.sources.shoot(1, part="SN 5").result(60)
    assert (said["part"], said["line"]) == ("SN 5", "main")
    until(lambda: plc.read_holding_registers(0).registers == [1])
    stream.close()
    until(lambda: plc.read_holding_registers(7).registers == [3])
    plc.close()
    machines.close()


def test_a_line_without_a_model_keeps_its_images_waiting_until_it_has_one(station, hazelnut, tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "SETTLE", 0.1)
    with station.database.begin() as session:
        model, session.get_one(Line, 1).model_id = session.get_one(Line, 1).model_id, None
    machines = Machines(station)
    machines.sources.set(1, source_spec({"kind": "folder", "path": str(tmp_path)}, [tmp_path]))
    (tmp_path / "a.jpg").write_bytes((hazelnut / "train/good/00.jpg").read_bytes())
    until(lambda: machines.sources.states[1]["why"] == "Line main has no model yet. Teach one, or import a file.")
    with station.database.begin() as session:
        session.get_one(Line, 1).model_id = model
    until(lambda: machines.sources.states[1].get("images") == 1, 60)
    assert machines.sources.states[1]["state"] == "running"
    machines.close()


def test_a_database_that_is_away_keeps_images_and_messages_waiting(station, hazelnut, tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "SETTLE", 0.1)
    machines, receiver = Machines(station), Receiver()
    machines.outputs.set(
        output_specs([{"kind": "webhook", "name": "mes", "url": receiver.url, "secret": "0123456789abcdef"}])
    )
    machines.sources.set(1, source_spec({"kind": "folder", "path": str(tmp_path)}, [tmp_path]))
    until(lambda: machines.sources.states[1]["state"] == "running")
    tables = ("inspection", "message", "setting", "line")
    with station.database.engine.begin() as connection:
        for table in tables:
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO away_{table}")
    (tmp_path / "a.jpg").write_bytes((hazelnut / "test/colour/00.jpg").read_bytes())
    until(lambda: "no such table" in machines.sources.states[1]["why"], 60)
    with station.database.engine.begin() as connection:
        for table in tables:
            connection.exec_driver_sql(f"ALTER TABLE away_{table} RENAME TO {table}")
    until(lambda: receiver.taken, 60)
    assert [one["result"]["name"] for one in receiver.taken] == ["a.jpg"]
    until(lambda: machines.sources.states[1]["state"] == "running")
    machines.close()
    receiver.close()
