"""Inspect each image that arrives in a folder, and keep the results in an SQLite database.

python examples/watch_folder.py parts.patchcore incoming results.sqlite
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from pathlib import Path

from patchcore import Detector, ImageError

TABLE = "CREATE TABLE IF NOT EXISTS results (name TEXT PRIMARY KEY, time TEXT, decision TEXT, score REAL, error TEXT)"


def inspect(detector: Detector, folder: Path, database: sqlite3.Connection) -> int:
    """Inspect what is not in the database yet; the number of images."""
    known = {name for (name,) in database.execute("SELECT name FROM results")}
    number = 0
    for path in sorted(folder.glob("*.[pjJPbB]*")):  # .png, .jpg, .jpeg, .bmp
        if path.name in known or time.time() - path.stat().st_mtime < 0.5:  # perhaps still being written
            continue
        now = time.strftime("%Y-%m-%dT%H:%M:%S")
        try:
            result = detector.predict(path)
            row = (path.name, now, result.decision, result.score, None)
        except ImageError as error:
            row = (path.name, now, None, None, str(error))
        with database:  # a transaction: each result is there before the next image is read
            database.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?)", row)
        print(*row)
        number += 1
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("database", type=Path)
    parser.add_argument("--once", action="store_true", help="inspect what is there, then stop")
    options = parser.parse_args()
    detector = Detector.load(options.model)
    database = sqlite3.connect(options.database)
    database.execute(TABLE)
    while True:
        inspect(detector, options.folder, database)
        if options.once:
            return
        time.sleep(0.2)


if __name__ == "__main__":
    main()
