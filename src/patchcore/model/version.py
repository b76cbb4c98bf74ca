"""The version, as it was installed; unknown where the package is run from its sources."""

from importlib import metadata

__version__ = next((one.version for one in metadata.distributions(name="patchcore")), "0+unknown")
