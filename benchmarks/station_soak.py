"""Pages that stay open: 20 results a second to five displays, for twenty minutes.

    python benchmarks/station_soak.py MODEL IMAGES [--minutes 20] [--rate 20] [--pages 5] [--short 50] [--json FILE]

A station is served whose results are told again and again at --rate: real ones, judged once each. Five pages of Debian's
Chromium show them; meanwhile --short further pages are opened and closed, and half way the server is stopped and started
again. Printed are the heap and the number of nodes of the first page after garbage collection, the server's memory, and
how long the pages took to show the server gone (stale) and back.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from common import machine, write_json
from serving import prepare

CHROMIUM = "/usr/bin/chromium"
PASSWORD = "correct horse battery staple"


def serve(data: Path, images: Path, port: int, rate: float) -> None:
    """The server: judges each image once, and then tells these results at the rate."""
    from patchcore.station.server import Server as Serving
    from patchcore.station.settings import Settings
    from patchcore.station.station import Station

    station = Station(Settings(data=data, port=port))
    files = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".png", ".jpg"))[:12]
    told = [station.inspector.submit(path.read_bytes(), line=1, name=path.name).result() for path in files]

    def tell() -> None:
        number = 0
        while True:
            station.hub.publish("result", told[number % len(told)])
            number += 1
            time.sleep(1 / rate)

    threading.Thread(target=tell, daemon=True).start()
    Serving(station).serve_forever()


class Server:
    def __init__(self, options: argparse.Namespace, data: Path, port: int) -> None:
        own = [sys.executable, __file__, str(options.model), str(options.images), "--serve", str(data)]
        self.process = subprocess.Popen([*own, "--port", str(port), "--rate", str(options.rate)])
        import httpx

        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/api/v1/health", timeout=2)
                return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise SystemExit("the station does not start")

    def memory(self) -> int:
        return round(psutil.Process(self.process.pid).memory_info().rss / 1e6)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def account(data: Path) -> None:
    """Somebody who may look, with a password that need not be changed."""
    from patchcore.station.people import accounts
    from patchcore.station.people.passwords import hashed
    from patchcore.station.settings import Settings
    from patchcore.station.store.database import Database
    from patchcore.station.store.tables import Person, Role

    database = Database(Settings(data=data).database_url)
    person, _ = accounts.make(database, "benchmark", "soak", Role.operator)
    with database.begin() as session:
        row = session.get_one(Person, person.id)
        row.password, row.must_change = hashed(PASSWORD), False
    database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--pages", type=int, default=5)
    parser.add_argument("--short", type=int, default=50)
    parser.add_argument("--port", type=int, default=8377)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.images, options.port, options.rate)
        return
    from playwright.sync_api import sync_playwright

    print(json.dumps(machine()))
    rows, url = list[dict](), f"http://127.0.0.1:{options.port}"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        data = Path(folder) / "station"
        prepare(data, options.model)
        account(data)
        server = Server(options, data, options.port)
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--js-flags=--expose-gc"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        context = browser.new_context()
        first = context.new_page()
        first.goto(f"{url}/login")
        first.fill("[name=name]", "soak")
        first.fill("[name=password]", PASSWORD)
        first.click("form button")
        first.wait_for_url(lambda at: "/login" not in at)
        pages = [first, *(context.new_page() for _ in range(options.pages - 1))]
        for page in pages:
            page.goto(f"{url}/", wait_until="domcontentloaded")
        probe = context.new_cdp_session(first)
        probe.send("Performance.enable")

        def measure(minute: float) -> None:
            probe.send("HeapProfiler.collectGarbage")
            found = {one["name"]: one["value"] for one in probe.send("Performance.getMetrics")["metrics"]}
            rows.append({"minute": round(minute, 2), "heap_mb": round(found["JSHeapUsedSize"] / 1e6, 2),
                         "nodes": found["Nodes"], "listeners": found["JSEventListeners"],
                         "server_mb": server.memory()})  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)

        begin, restarted, short = time.monotonic(), False, 0
        while (minute := (time.monotonic() - begin) / 60) < options.minutes:
            measure(minute)
            for _ in range(max(1, round(options.short / max(1, options.minutes * 2)))):
                if short < options.short:
                    page = context.new_page()
                    page.goto(f"{url}/", wait_until="domcontentloaded")
                    page.close()
                    short += 1
            if not restarted and minute > options.minutes / 2:
                server.stop()
                restarted = True
                stopped = time.monotonic()
                first.wait_for_selector("body.stale-page", timeout=10_000)
                stale = time.monotonic() - stopped
                server = Server(options, data, options.port)
                back = time.monotonic()
                first.wait_for_selector("body:not(.stale-page)", timeout=30_000,
                                        state="attached")  # fmt: skip
                print(json.dumps({"stale_after": round(stale, 2), "back_after": round(time.monotonic() - back, 2)}))
            time.sleep(30 if options.minutes >= 5 else 5)
        measure(options.minutes)
        browser.close()
        server.stop()
    early, late = rows[min(2, len(rows) - 1)], rows[-1]
    print(f"{short} short-lived pages; heap {early['heap_mb']} -> {late['heap_mb']} MB, nodes {early['nodes']} -> "
          f"{late['nodes']}, server {early['server_mb']} -> {late['server_mb']} MB")  # fmt: skip
    if options.json:
        write_json(options.json, {"rows": rows})


if __name__ == "__main__":
    main()
