"""Backbones: which networks there are, their weights, and how their features are read."""

from patchcore.backbones.engines import Engine, engine, taps_of
from patchcore.backbones.extractor import Extractor
from patchcore.backbones.libraries import Source
from patchcore.backbones.registry import Backbone, build, listing, rebuild, wrap

__all__ = ["Backbone", "Engine", "Extractor", "Source", "build", "engine", "listing", "rebuild", "taps_of", "wrap"]
