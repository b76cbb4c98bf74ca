"""Make a release: check, build, describe. Nothing is published without --publish.

python tools/release.py                 a dry run: says what is missing for a release, and makes everything in dist/
python tools/release.py --build         only both distributions, each built twice: the bytes must be the same
python tools/release.py --publish       from a clean tree with a tag: the same, and then the upload by twine

Needs patchcore[release]. docs/decisions/0029-packages.md says why it is done so.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = (ROOT, ROOT / "runtime")
TAG = re.compile(r"v(\d+\.\d+\.\d+)")


def said(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """What a command prints. Errors: SystemExit, with what it said."""
    words = [str(one) for one in command]
    done = subprocess.run(
        words, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def tagged(root: Path = ROOT) -> str | None:
    """The version that the commit is tagged with."""
    tags = said("git", "tag", "--points-at", "HEAD", cwd=root).split()
    return next((match[1] for tag in tags if (match := TAG.fullmatch(tag))), None)


def missing(root: Path = ROOT) -> list[str]:
    """What a release needs and is not there."""
    found = []
    if changed := said("git", "status", "--porcelain", cwd=root):
        found.append(f"uncommitted changes: {', '.join(line.split()[-1] for line in changed.splitlines()[:5])}")
    version, changelog = tagged(root), (root / "CHANGELOG.md").read_text("utf-8")
    if version is None:
        found.append("no tag vX.Y.Z at this commit: git tag --sign vX.Y.Z")
    elif not re.search(rf"^## \[{re.escape(version)}\]", changelog, re.MULTILINE):
        found.append(f"no section [{version}] in CHANGELOG.md: rename [Unreleased]")
    return found


def build(place: Path) -> list[Path]:
    """Wheel and source of each distribution, in a folder. Errors: SystemExit where a second build gives other bytes."""
    moment = said("git", "log", "-1", "--format=%ct")
    with tempfile.TemporaryDirectory() as again:
        for number, folder in enumerate((place, Path(again))):
            for source in DISTRIBUTIONS:
                print(f"Building {source.name if number == 0 else f'{source.name} again'}", flush=True)
                said(sys.executable, "-m", "build", "--outdir", folder, source, SOURCE_DATE_EPOCH=moment)
        files = sorted(path for path in place.iterdir() if path.name.endswith((".whl", ".tar.gz")))
        for path in files:
            if path.read_bytes() != (Path(again) / path.name).read_bytes():
                raise SystemExit(f"{path.name}: built twice, and the bytes differ.")
    return files


def described(place: Path, files: list[Path]) -> None:
    """Check metadata and licences, and write sbom.json and SHA256SUMS. Errors: SystemExit."""
    print("Checking metadata and licences", flush=True)
    said(sys.executable, "-m", "twine", "check", "--strict", *files)
    said(sys.executable, ROOT / "tools" / "licences.py")
    wheels = [path for path in files if path.name.startswith("patchcore-") and path.suffix == ".whl"]
    pinned = ("--constraint", ROOT / "constraints.txt")
    print(said(sys.executable, ROOT / "tools" / "sbom.py", *wheels, "-o", place / "sbom.json", *pinned))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in [*files, place / "sbom.json"]]
    (place / "SHA256SUMS").write_text("\n".join(sums) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build", action="store_true", help="only build, twice")
    parser.add_argument("--publish", action="store_true", help="upload both distributions")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    lacking = [] if options.build else missing()
    for one in lacking:
        print(f"Missing: {one}")
    if lacking and options.publish:
        raise SystemExit("Nothing was built or published.")
    shutil.rmtree(options.output, ignore_errors=True)
    files = build(options.output)
    if not options.build:
        described(options.output, files)
    for path in sorted(options.output.iterdir()):
        print(path.name)
    if options.publish:
        said(sys.executable, "-m", "twine", "upload", *files)
        print("Published. Push the tag, and make a release of it with SHA256SUMS and sbom.json.")
    elif not options.build:
        print("A dry run: nothing was published.")


if __name__ == "__main__":
    main()
