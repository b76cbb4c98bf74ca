"""A station under load, beside what the detector does alone.

    python benchmarks/station_load.py [MODEL] [--seconds 300] [--clients 4] [--json FILE]

Without MODEL, one of the recipe `fast` is fitted on generated images of 640 x 480. First `Detector.predict` judges such
images alone, one after the other and as a list; then clients send them to a station over HTTP, on the same cores, for
--seconds; then more at a time than its queue holds. Printed are images a second and their ratio, the time of a request
(median, 99 of 100), memory of the server over time, the share of 429 and what they say, and the time of a page's
request meanwhile.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from common import machine, write_json
from PIL import Image
from serving import Served, prepare

from patchcore import Detector


def images(count: int) -> list[bytes]:
    """Images of 640 x 480, each another one: a plate with noise and holes; as JPEG files."""
    drawn, found = np.random.default_rng(0), list[bytes]()
    y, x = np.mgrid[:480, :640]
    for _ in range(count):
        plate = 120 + 20 * np.sin(x / 40 + drawn.uniform(0, 0.3)) + drawn.normal(0, 6, (480, 640))
        for cx, cy in ((160, 120), (480, 120), (160, 360), (480, 360)):
            plate[(x - cx) ** 2 + (y - cy) ** 2 < (30 + drawn.uniform(-1, 1)) ** 2] = 40
        pixels = np.repeat(plate.clip(0, 255).astype(np.uint8)[..., None], 3, 2)
        Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=92)
        found.append(file.getvalue())
    return found


def alone(model: Path, files: list[bytes], seconds: float) -> dict[str, float]:
    detector = Detector.load(model)
    detector.predict(io.BytesIO(files[0]))
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        detector.predict(io.BytesIO(files[count % len(files)]))
        count += 1
    single = count / (time.perf_counter() - begin)
    begin, total = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        total += len(detector.predict([io.BytesIO(one) for one in files]))
    return {"single": single, "list": total / (time.perf_counter() - begin)}


def client(
    url: str, key: str, files: list[bytes], end: float, seen: list[tuple[float, int]], retries: list[str]
) -> None:
    with httpx.Client(base_url=f"{url}/api/v1", headers={"authorization": f"Bearer {key}"}, timeout=60) as http:
        number = 0
        while time.perf_counter() < end:
            begin = time.perf_counter()
            answer = http.post("/inspect", files={"image": ("part.jpg", files[number % len(files)])})
            seen.append((time.perf_counter() - begin, answer.status_code))
            if answer.status_code == 429:
                retries.append(answer.headers["retry-after"])
                time.sleep(0.05)
            number += 1


def together(url: str, key: str, files: list[bytes], clients: int, seconds: float, process: psutil.Process) -> dict:
    seen, retries, memory, pages = list[tuple[float, int]](), list[str](), list[int](), list[float]()
    begin = time.perf_counter()
    threads = [
        threading.Thread(target=client, args=(url, key, files, begin + seconds, seen, retries)) for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    with httpx.Client(base_url=f"{url}/api/v1", headers={"authorization": f"Bearer {key}"}, timeout=60) as http:
        while time.perf_counter() - begin < seconds:
            started = time.perf_counter()
            http.get("/results?limit=20")
            pages.append(time.perf_counter() - started)
            memory.append(process.memory_info().rss)
            time.sleep(1)
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begin
    times = sorted(one for one, status in seen if status == 200)
    later = memory[len(memory) // 4 :]
    return {
        "clients": clients,
        "seconds": round(took, 1),
        "rate": len(times) / took,
        "median": statistics.median(times),
        "p99": times[int(0.99 * (len(times) - 1))],
        "refused": sum(status == 429 for _, status in seen),
        "other": sorted({status for _, status in seen} - {200, 429}),
        "retry_after": sorted(set(retries)),
        "memory": [round(later[0] / 1e6), round(max(later) / 1e6), round(later[-1] / 1e6)],
        "page": {"median": statistics.median(pages), "p99": sorted(pages)[int(0.99 * (len(pages) - 1))]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(json.dumps(machine()))
    files = images(40)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or Path(folder) / "model.patchcore"
        if options.model is None:
            Detector("fast").fit([io.BytesIO(one) for one in files]).save(model)
        told: dict = {"alone": alone(model, files, min(20.0, options.seconds))}
        print(json.dumps(told), flush=True)
        data = Path(folder) / "station"
        key = prepare(data, model)
        served = Served(data)
        process = psutil.Process(served.process.pid)
        try:
            told["load"] = together(served.url, key, files, options.clients, options.seconds, process)
            print(json.dumps(told["load"]), flush=True)
            told["overload"] = together(served.url, key, files, 60, min(30.0, options.seconds), process)
            print(json.dumps(told["overload"]), flush=True)
        finally:
            served.stop()
    load = told["load"]
    print(f"{load['rate']:.1f} images/s: {load['rate'] / told['alone']['single']:.2f} of one after the other alone, "
          f"{load['rate'] / told['alone']['list']:.2f} of a list alone; p99 {load['p99'] / load['median']:.1f} x the "
          f"median; memory {load['memory'][2] / load['memory'][0]:.3f} x")  # fmt: skip
    if options.json:
        write_json(options.json, told)


if __name__ == "__main__":
    main()
