"""Score images with a model written by tools/train.py.

python tools/inference.py --config results/patchcore/bottle/config.yaml \
    --weight_path results/patchcore/bottle/weights/model.ckpt --image_path parts --save_path overlays

--image_path is an image, a folder, a video file or the number of a camera (until interrupted). Every overlay is
written to --save_path as a PNG, with its normalised score: 0.5 is the threshold. Exit codes are
those of `patchcore`: 2 for wrong usage. Needs `pip install 'patchcore[lightning]'`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from patchcore.errors import ImageError, PatchcoreError, UsageError, is_wrong_usage


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", "--model_config_path", type=Path, required=True, help="YAML file of the training run."
    )
    parser.add_argument("--weight_path", type=Path, required=True, help="Checkpoint or state dict.")
    parser.add_argument("--image_path", required=True, help="Image, folder, video, or a camera's number.")
    parser.add_argument("--save_path", type=Path, required=True, help="Folder for the overlays.")
    parser.add_argument("--meta_data", type=Path, help="JSON file; by default the meta data in the checkpoint.")
    parser.add_argument("--limit", type=int, help="Stop after this many images.")
    return parser.parse_args(argv)


def stream(argv: list[str] | None = None) -> int:
    """Score every image of --image_path. Return 1 if one could not be read, else 0."""
    from itertools import islice

    from patchcore.data.frames import frames
    from patchcore.inferencers import TorchInferencer

    args = get_args(argv)
    for path in (args.weight_path, args.meta_data):
        if path is not None and not path.exists():
            raise UsageError(f"{path} does not exist. Expected a file written by tools/train.py.")
    inferencer = TorchInferencer(args.config, args.weight_path, args.meta_data)
    status = 0
    try:
        for sample in islice(frames(args.image_path), args.limit):
            try:
                infer(sample, inferencer, args.save_path)
            except ImageError as error:
                print(error, file=sys.stderr)
                status = 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    return status


def infer(sample, inferencer, save_path: Path) -> None:
    """Predict one image, label its overlay and write it."""
    from PIL import Image

    from patchcore.inferencers import add_label

    overlay, score = inferencer.predict(sample.image)
    path = save_path / f"{sample.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(add_label(overlay, score)).save(path)
    print(f"{sample.name}\t{score:.4f}\t{path}")


if __name__ == "__main__":
    try:
        sys.exit(stream())
    except PatchcoreError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2 if is_wrong_usage(error) else 1)
