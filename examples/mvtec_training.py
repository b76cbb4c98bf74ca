"""Train and evaluate PatchCore on one class of a folder in the MVTec AD layout, as in patchcore-inspection.

    python examples/mvtec_training.py MVTEC_FOLDER bottle --out models

Offline, replace WideResNet50 by EfficientNet-Lite0, whose weights are installed with patchcore:

    python examples/mvtec_training.py tests/images hazelnut --out models --backbone efficientnet_lite0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch.utils.data import DataLoader

from patchcore.backbones.engines import choose_device
from patchcore.inspection import ApproximateGreedyCoresetSampler, PatchCore, backbones, detector_of, metrics, utils
from patchcore.inspection.datasets.mvtec import DatasetSplit, MVTecDataset

LAYERS = {"efficientnet_lite0": ["blocks.2", "blocks.4"]}  # strides 8 and 16, like a ResNet's layer2 and layer3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="Folder that holds the classes.")
    parser.add_argument("classname", help="Class: a folder with train/good, test and ground_truth.")
    parser.add_argument("--out", type=Path, required=True, help="Folder to write the model to.")
    parser.add_argument("--backbone", default="wideresnet50")
    parser.add_argument("--weights", default="pretrained", help="pretrained, random, or a local file.")
    parser.add_argument("--layers", nargs="+", help="By default layer2 layer3.")
    parser.add_argument("--percentage", type=float, default=0.1, help="Share of the patches kept in the bank.")
    parser.add_argument("--resize", type=int, default=256)
    parser.add_argument("--imagesize", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="Processes that read images.")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    utils.fix_seeds(options.seed)
    device = choose_device(options.device)
    backbone = backbones.load(options.backbone, options.weights, size=(options.imagesize, options.imagesize))

    def loader(split: DatasetSplit) -> DataLoader:
        dataset = MVTecDataset(
            options.data,
            options.classname,
            resize=options.resize,
            imagesize=options.imagesize,
            split=split,
            mean=backbone.source.mean,
            std=backbone.source.std,
        )
        return DataLoader(dataset, batch_size=options.batch_size, num_workers=options.workers)

    model = PatchCore(device)
    model.load(
        backbone=backbone,
        layers_to_extract_from=options.layers or LAYERS.get(options.backbone, ["layer2", "layer3"]),
        device=device,
        input_shape=(3, options.imagesize, options.imagesize),
        pretrain_embed_dimension=1024,
        target_embed_dimension=1024,
        featuresampler=ApproximateGreedyCoresetSampler(options.percentage, device),
    )
    training = loader(DatasetSplit.TRAIN)
    model.fit(training)
    scores, maps, labels, masks = model.predict(loader(DatasetSplit.TEST))

    image = metrics.compute_imagewise_retrieval_metrics(scores, labels)
    pixel = metrics.compute_pixelwise_retrieval_metrics(maps, masks)
    defective = [i for i, label in enumerate(labels) if label]
    on_defects = metrics.compute_pixelwise_retrieval_metrics(
        [maps[i] for i in defective], [masks[i] for i in defective]
    )
    row = [image["auroc"], pixel["auroc"], on_defects["auroc"]]

    options.out.mkdir(parents=True, exist_ok=True)
    model.save_to_path(options.out)
    detector_of(model, dataset=training.dataset).save(options.out / f"{options.classname}.patchcore")
    columns = ("Instance AUROC", "Full Pixel AUROC", "Anomaly Pixel AUROC")
    utils.compute_and_store_final_results(options.out, [row], [options.classname], columns)
    for name, value in zip(columns, row, strict=True):
        print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main()
