"""Reports: an evaluation as one self-contained HTML page."""

from __future__ import annotations

from patchcore.oversight.sources import Sources
from patchcore.report.page import render, write

__all__ = ["Sources", "render", "write"]
