"""Audited: an audit as one HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image

from patchcore.errors import counted
from patchcore.model import store
from patchcore.oversight.audit import Audit, Audited
from patchcore.report.images import Figure, figure
from patchcore.report.page import environment, write

__all__ = ["render", "write"]


def render(audited: Audit, data: str, shown: Sequence[Audited], image: Callable[[Audited], Image.Image | None]) -> str:
    """The HTML of an audit: some images with what is remarked about them, and a table of all. It loads nothing.

    `data`: where the images are; `shown`: those that are drawn; `image`: draws one.
    """
    return str(
        environment()
        .get_template("audit.html")
        .render(
            data=data,
            audited=audited,
            shown=[(one, _figure(one, image(one))) for one in shown],
            counted=counted,
            versions=store.versions(),
        )
    )


def _figure(one: Audited, image: Image.Image | None) -> Figure:
    if image is None:
        return Figure("", missing="It can no longer be read.")
    return figure("", image, f"The image {one.name}.")
