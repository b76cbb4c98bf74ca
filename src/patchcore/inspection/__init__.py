"""Inspection: the interface of patchcore-inspection, on our engine. Replace `patchcore` by `patchcore.inspection`.

    from patchcore.inspection import PatchCore, ApproximateGreedyCoresetSampler, backbones

docs/compatibility.md lists all differences; docs/migration-inspection.md shows a script before and after.
"""

from patchcore.inspection.common import (
    Aggregator,
    ApproximateFaissNN,
    ExactNN,
    FaissNN,
    NearestNeighbourScorer,
    NetworkFeatureAggregator,
    Preprocessing,
    RescaleSegmentor,
)
from patchcore.inspection.conversion import detector_of
from patchcore.inspection.patch_maker import PatchMaker
from patchcore.inspection.patchcore import PatchCore
from patchcore.inspection.sampler import (
    ApproximateGreedyCoresetSampler,
    BaseSampler,
    GreedyCoresetSampler,
    IdentitySampler,
    RandomSampler,
)

__all__ = [
    "Aggregator",
    "ApproximateFaissNN",
    "ApproximateGreedyCoresetSampler",
    "BaseSampler",
    "ExactNN",
    "FaissNN",
    "GreedyCoresetSampler",
    "IdentitySampler",
    "NearestNeighbourScorer",
    "NetworkFeatureAggregator",
    "PatchCore",
    "PatchMaker",
    "Preprocessing",
    "RandomSampler",
    "RescaleSegmentor",
    "detector_of",
]
