"""Train a model from a configuration file, and print the benchmark figures.

python tools/train.py --model patchcore
python tools/train.py --model patchcore --config tools/config/wide_resnet50.yaml --data datasets/MVTec/bottle

Without --config it uses tools/config/patchcore.yaml, which expects the category `bottle` of MVTec AD in
datasets/MVTec, and works offline. Exit codes are those of `patchcore`: 2 for wrong usage. Needs
`pip install 'patchcore[lightning]'`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from patchcore.errors import PatchcoreError, is_wrong_usage

CONFIGS = Path(__file__).resolve().parent / "config"


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="patchcore", help="Name of the model: patchcore.")
    parser.add_argument(
        "--config", "--model_config_path", type=Path, help="YAML file; by default config/patchcore.yaml."
    )
    parser.add_argument("--data", type=Path, help="Dataset; overrides the configuration.")
    parser.add_argument("--output", type=Path, help="Folder to write to; overrides the configuration.")
    parser.add_argument("--seed", type=int, help="By default the configuration's project.seed, or 42.")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    from patchcore.inferencers import read_config, train
    from patchcore.inferencers.configuration import section

    args = get_args(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    config = read_config(args.config or CONFIGS / "patchcore.yaml")
    config["model"] = {**section(config, "model"), "name": args.model}
    if args.data is not None:
        config["dataset"] = {**section(config, "dataset"), "path": str(args.data), "category": None}
    trained = train(config, output=args.output, seed=args.seed)
    print(trained.benchmark)
    print(f"Weights, meta_data.json and config.yaml are in {trained.folder}")


if __name__ == "__main__":
    try:
        main()
    except PatchcoreError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2 if is_wrong_usage(error) else 1)
