"""Each call of the other systems' interfaces against the call of the engine that it stands for, bit for bit.

What the engine itself computes is tested where it lives, and the interfaces' own tests have golden
numbers; this table says that an interface renames and reshapes, and does no arithmetic of its own.
"""

import numpy as np
import pytest
import torch

from patchcore import inspection, lightning
from patchcore.inspection import sampler
from patchcore.lightning import v0
from patchcore.maths import coreset, embedding, maps, scoring, softmax_score
from patchcore.maths.neighbours import Points, nearest
from patchcore.maths.resize import Frame
from patchcore.memory.bank import Bank

GENERATOR = torch.Generator().manual_seed(0)
ROWS, PATCHES = (torch.randn(n, 20, generator=GENERATOR) for n in (400, 60))
TAPS = {
    "blocks.2": torch.randn(2, 6, 8, 8, generator=GENERATOR),
    "blocks.4": torch.randn(2, 10, 4, 4, generator=GENERATOR),
}
GRID = torch.rand(2, 5, 6, generator=GENERATOR)
FRAME = Frame((40, 48), (40, 48), (40, 48))
BANK = Bank(ROWS, torch.zeros(400, 3, dtype=torch.int32), torch.ones(20))
SPARSE = {"method": "k_center", "projection": "sparse", "projection_dims": 128, "start": "random", "seed": 0}
CELLS = {"pool": "mean", "merge": "concat", "patch_size": 1}


def of_lightning():
    model = lightning.PatchcoreModel(["blocks.2", "blocks.4"], "efficientnet_lite0")
    model.memory_bank = ROWS
    return model


def of_v0():
    model = v0.PatchcoreModel(["blocks.2", "blocks.4"], (64, 64), "efficientnet_lite0")
    model.memory_bank = ROWS
    return model


def subsampled(model):
    model.subsample_embedding(ROWS, 0.1)
    return model.memory_bank


def first(found):
    return found[0][:, 0], found[1][:, 0]


def eq7():
    distances, rows = nearest(PATCHES, Points(ROWS))
    scores, where = distances[:, 0].view(2, 30), rows[:, 0].view(2, 30)
    return (
        scores,
        where,
        [scoring.reweighted_score(*one, BANK, 9) for one in zip(scores, PATCHES.view(2, 30, -1), where, strict=True)],
    )


def binned():
    stack = embedding.unfold(TAPS["blocks.2"], 3, 1).transpose(1, 2).unflatten(2, (6, 3, 3))
    return stack.flatten(0, 1)


def scorer():
    made = inspection.NearestNeighbourScorer(3)
    made.fit([ROWS.numpy()])
    return made


def squared(k):
    return nearest(PATCHES, Points(ROWS), k)[0].square()


def smoothed(scores, upsample, border):
    return maps.anomaly_map(scores, FRAME, sigma=4.0, upsample=upsample, border=border)


TABLE = {
    # anomalib v1
    "v1 generate_embedding": (
        lambda: of_lightning().generate_embedding(TAPS),
        lambda: embedding.embed(list(TAPS.values()), align_mode="bilinear", **CELLS),
    ),
    "v1 reshape_embedding": (
        lambda: lightning.PatchcoreModel.reshape_embedding(TAPS["blocks.2"]),
        lambda: embedding.patches_of(TAPS["blocks.2"]),
    ),
    "v1 nearest_neighbors, one": (
        lambda: of_lightning().nearest_neighbors(PATCHES, 1),
        lambda: first(nearest(PATCHES, Points(ROWS))),
    ),
    "v1 nearest_neighbors, nine": (
        lambda: of_lightning().nearest_neighbors(PATCHES, 9),
        lambda: nearest(PATCHES, Points(ROWS), 9),
    ),
    "v1 compute_anomaly_score": (
        lambda: of_lightning().compute_anomaly_score(*eq7()[:2], PATCHES),
        lambda: torch.stack(eq7()[2]),
    ),
    "v1 subsample_embedding": (
        lambda: subsampled(of_lightning()),
        lambda: ROWS[coreset.select(ROWS, 40, **SPARSE)],
    ),
    "v1 KCenterGreedy": (
        lambda: lightning.KCenterGreedy(ROWS, 0.1).select_coreset_idxs(),
        lambda: coreset.select(ROWS, 40, **SPARSE).tolist(),
    ),
    "v1 AnomalyMapGenerator": (
        lambda: lightning.AnomalyMapGenerator()(GRID[:, None], (40, 48)),
        lambda: smoothed(GRID[:, None], "nearest", "mirror"),
    ),
    # anomalib v0
    "v0 generate_embedding": (
        lambda: of_v0().generate_embedding(TAPS),
        lambda: embedding.embed(list(TAPS.values()), align_mode="nearest", **CELLS),
    ),
    "v0 nearest_neighbors": (
        lambda: of_v0().nearest_neighbors(PATCHES),
        lambda: nearest(PATCHES, Points(ROWS), 9)[0],
    ),
    "v0 compute_anomaly_score": (
        lambda: v0.AnomalyMapGenerator.compute_anomaly_score(PATCHES.abs()),
        lambda: softmax_score.softmax_score(PATCHES.abs()),
    ),
    "v0 compute_anomaly_map": (
        lambda: v0.AnomalyMapGenerator((40, 48)).compute_anomaly_map(GRID.reshape(-1, 1), (6, 5)),
        lambda: smoothed(GRID[:, None], "nearest", "mirror"),
    ),
    # patchcore-inspection
    "PatchMaker.patchify": (
        lambda: inspection.PatchMaker(3, 1).patchify(TAPS["blocks.2"]).flatten(2).transpose(1, 2),
        lambda: embedding.unfold(TAPS["blocks.2"], 3, 1),
    ),
    "Preprocessing": (
        lambda: inspection.Preprocessing([6], 16)([binned()]),
        lambda: embedding.average_bins(binned().flatten(1), 16)[:, None],
    ),
    "Aggregator": (
        lambda: inspection.Aggregator(7)(PATCHES.view(60, 2, 10)),
        lambda: embedding.average_bins(PATCHES, 7),
    ),
    "NearestNeighbourScorer.predict": (
        lambda: scorer().predict([PATCHES.numpy()])[:2],
        lambda: (scoring.patch_scores(squared(3), "l2").numpy(), squared(3).numpy()),
    ),
    "RescaleSegmentor": (
        lambda: inspection.RescaleSegmentor("cpu", (40, 48)).convert_to_segmentation(GRID.numpy()),
        lambda: [smoothed(one, "bilinear", "symmetric").numpy() for one in GRID],
    ),
    "GreedyCoresetSampler": (
        lambda: inspection.GreedyCoresetSampler(0.1, "cpu", 8).run(ROWS),
        lambda: greedy(sampler.farthest_from_mean),
    ),
    "ApproximateGreedyCoresetSampler": (
        lambda: inspection.ApproximateGreedyCoresetSampler(0.1, "cpu", 10, 8).run(ROWS),
        lambda: greedy(lambda x: coreset.mean_distances(x, 10, seed())),
    ),
    "RandomSampler": (
        lambda: inspection.RandomSampler(0.1).run(ROWS),
        lambda: ROWS[coreset.random_subset(400, 40, seed())],
    ),
    "IdentitySampler": (lambda: inspection.IdentitySampler().run(ROWS), lambda: ROWS),
}


def seed():
    return torch.initial_seed() % 2**32


def greedy(start):
    projected = coreset.project(ROWS, "dense", 8, seed())
    return ROWS[coreset.k_center_greedy(projected, 40, start=start(projected))]


@pytest.mark.parametrize("name", TABLE)
def test_a_call_is_the_engine_s(name):
    theirs, ours = (call() for call in TABLE[name])
    pairs = zip(theirs, ours, strict=True) if isinstance(theirs, tuple | list) else [(theirs, ours)]
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)
