"""Reports: an evaluation as one self-contained HTML page."""

from __future__ import annotations

from patchcore.report.page import render, write
from patchcore.report.sources import Sources

__all__ = ["Sources", "render", "write"]
