"""`python -m patchcore_runtime FOLDER IMAGE...`: one JSON object per image.

Exit codes: 1 if an image or the folder cannot be used, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from patchcore_runtime import ExportError, load, verify
from patchcore_runtime.folder import MANIFEST
from patchcore_runtime.images import MAX_PIXELS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m patchcore_runtime", description="Score images.")
    parser.add_argument("folder", help="what `patchcore export` wrote")
    parser.add_argument("images", nargs="*", metavar="image")
    parser.add_argument("--verify", action="store_true", help="run the folder's test vectors first")
    parser.add_argument("--require-signature", metavar="PUBLIC_KEY")
    parser.add_argument("--max-pixels", type=int, default=MAX_PIXELS, help="the largest image that is decoded")
    given = parser.parse_intermixed_args()
    if not (Path(given.folder) / MANIFEST).is_file():
        parser.error(f"{given.folder}: expected a folder that `patchcore export` has written.")
    if not given.images and not given.verify:
        parser.error("give images, or --verify.")
    try:
        model = load(given.folder, require_signature=given.require_signature)
        if given.verify:
            print(verify(model), file=sys.stderr)
    except ExportError as error:
        print(error, file=sys.stderr)
        return 1
    failed = 0
    for image in given.images:
        try:
            result = model.predict(image, max_pixels=given.max_pixels)
            figures = {
                key: getattr(result, key)
                for key in ("score", "normalised", "threshold", "decision", "seconds", "warnings")
            }
        except ExportError as error:
            failed, figures = 1, {"error": str(error)}
        known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}
        print(json.dumps({"path": image, **known}))
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
