"""Inspect the frames of a camera or of a video file, without PyTorch: an exported folder and OpenCV are enough.

pip install ./runtime onnxruntime opencv-python-headless
python examples/camera_loop.py exported 0             # the first camera
python examples/camera_loop.py exported video.avi --every 10
"""

from __future__ import annotations

import argparse
import time

import cv2
from patchcore_runtime import load


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="folder that `patchcore export` has written")
    parser.add_argument("source", help="number of a camera, path of a video, or an RTSP address")
    parser.add_argument("--every", type=int, default=1, help="inspect each so manieth frame")
    options = parser.parse_args()
    model = load(options.model)
    source = cv2.VideoCapture(int(options.source) if options.source.isdigit() else options.source)
    if not source.isOpened():
        raise SystemExit(f"{options.source} cannot be opened: is it there, and does another program use it?")
    number = 0
    while True:
        there, frame = source.read()
        if not there:
            break
        if number % options.every == 0:
            begin = time.perf_counter()
            result = model.predict(frame, colour="bgr")  # OpenCV has blue first
            print(f"{number} {result.decision} {result.score:.4g} {1000 * (time.perf_counter() - begin):.0f} ms")
        number += 1
    source.release()


if __name__ == "__main__":
    main()
