"""SBOM: a wheel and all that is installed with it, as CycloneDX, from pip's own resolution.

python tools/sbom.py dist/patchcore-*.whl -o sbom.json        needs cyclonedx-python-lib

Nothing is installed: pip resolves, and reports each file with its hash, its licence and its needs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def resolved(wheels: list[Path], *options: str) -> dict[str, Any]:
    """What pip would install of wheels into an empty environment: its report."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run([*pip, *options, *map(str, wheels)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pip found no set of versions:\n{done.stderr}")
    return dict(json.loads(done.stdout))


def bom(report: dict[str, Any], name: str = "patchcore") -> Bom:
    """The components of a report, with what each needs of the others; `name` is what it is all for."""
    components: dict[str, Component] = {}
    needs: dict[str, list[str]] = {}
    for one in report["install"]:
        about = one["metadata"]
        key, hashes = canonicalize_name(about["name"]), one["download_info"].get("archive_info", {}).get("hashes", {})
        stated = about.get("license_expression") or about.get("license", "").strip().partition("\n")[0]
        components[key] = Component(
            name=about["name"],
            version=about["version"],
            type=ComponentType.APPLICATION if key == name else ComponentType.LIBRARY,
            bom_ref=f"pkg:pypi/{key}@{about['version']}",
            purl=PackageURL("pypi", None, key, about["version"]),
            description=about.get("summary"),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=hashes["sha256"])] if "sha256" in hashes else [],
            licenses=[LicenseFactory().make_from_string(stated)] if stated else [],
        )
        wanted = [Requirement(text) for text in about.get("requires_dist", [])]
        needs[key] = [canonicalize_name(each.name) for each in wanted]
    made = Bom(components=[one for key, one in components.items() if key != name])
    made.metadata.component = components[name]
    for key, others in needs.items():
        made.register_dependency(components[key], [components[other] for other in others if other in components])
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheels", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, default=Path("sbom.json"))
    parser.add_argument("--constraint", type=Path)
    options = parser.parse_args()
    pinned = ["--constraint", str(options.constraint)] if options.constraint else []
    made = bom(resolved(options.wheels, *pinned))
    options.output.write_text(JsonV1Dot6(made).output_as_string(indent=1) + "\n", "utf-8")
    print(f"{options.output}: {len(made.components)} components")


if __name__ == "__main__":
    main()
