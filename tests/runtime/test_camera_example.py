"""The example that inspects the frames of a camera runs without patchcore."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

EXAMPLE = Path(__file__).parents[2] / "examples" / "camera_loop.py"


def test_frames_of_a_video_go_through_an_exported_onnx(exported_onnx, tmp_path):
    video = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for number in range(5):
        writer.write(np.full((64, 96, 3), 40 * number, np.uint8))
    writer.release()
    command = [sys.executable, EXAMPLE, exported_onnx, video, "--every", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "2", "4"]
    assert all(line.split()[1] in {"pass", "unsure", "fail"} for line in lines)
