"""Draw docs/images/hazelnut.jpg: images of tests/images/hazelnut, and below them what `predict -o` writes of them.

python docs/hazelnut.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from patchcore import Detector
from patchcore.cli.sheet import sheet

ROOT = Path(__file__).parent.parent
SHOWN = ("good/04.jpg", "colour/00.jpg", "colour/01.jpg", "colour/02.jpg")

if __name__ == "__main__":
    data = ROOT / "tests" / "images" / "hazelnut"
    detector = Detector().fit(data / "train" / "good")
    paths = [data / "test" / name for name in SHOWN]
    plain = [("", Image.open(path)) for path in paths]
    heat = [("", detector.predict(path).overlay(caption=True)) for path in paths]
    page = sheet([*plain, *heat], len(SHOWN), tile=240)
    page.crop((0, 0, page.width, page.height - 38)).save(ROOT / "docs" / "images" / "hazelnut.jpg", quality=85)
