"""Backbones: which networks there are, their weights, and how their features are read."""

from patchcore.backbones.engines import Engine, engine
from patchcore.backbones.extractor import Extractor
from patchcore.backbones.libraries import Source
from patchcore.backbones.registry import Backbone, build, listing, rebuild, wrap
from patchcore.backbones.tiles import taps_of

__all__ = ["Backbone", "Engine", "Extractor", "Source", "build", "engine", "listing", "rebuild", "taps_of", "wrap"]
