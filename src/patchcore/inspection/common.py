"""The building blocks in one module, as in patchcore-inspection."""

from patchcore.inspection.aggregator import NetworkFeatureAggregator
from patchcore.inspection.embedding import Aggregator, MeanMapper, Preprocessing
from patchcore.inspection.neighbours import ApproximateFaissNN, ExactNN, FaissNN
from patchcore.inspection.scorer import AverageMerger, ConcatMerger, NearestNeighbourScorer
from patchcore.inspection.segmentor import RescaleSegmentor

__all__ = [
    "Aggregator",
    "ApproximateFaissNN",
    "AverageMerger",
    "ConcatMerger",
    "ExactNN",
    "FaissNN",
    "MeanMapper",
    "NearestNeighbourScorer",
    "NetworkFeatureAggregator",
    "Preprocessing",
    "RescaleSegmentor",
]
