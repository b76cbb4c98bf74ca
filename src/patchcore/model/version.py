"""The version, as it was installed."""

from importlib import metadata

try:
    __version__ = metadata.version("patchcore")
except metadata.PackageNotFoundError:  # run from its sources
    __version__ = "0+unknown"
