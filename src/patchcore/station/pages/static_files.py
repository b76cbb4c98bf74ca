"""Static files: styles and scripts, read once, under an address that changes with any of them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Response

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
router = APIRouter(include_in_schema=False)


@cache
def files() -> dict[str, tuple[bytes, str]]:
    """Content and type of each file, by name. Nothing else can be asked for, whatever a path says."""
    folder = Path(__file__).with_name("static")
    return {
        path.name: (path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(folder.iterdir())
        if path.suffix in _TYPES
    }


@cache
def version() -> str:
    """A name for this state of the files: a browser never mixes two, and keeps them for good."""
    content = b"".join(name.encode() + content for name, (content, _) in files().items())
    return hashlib.sha256(content).hexdigest()[:12]


@router.get("/static/{state}/{name}")
def static(state: str, name: str) -> Response:
    """A style or script."""
    if name not in files():
        raise HTTPException(404, "There is no such file.")
    content, kind = files()[name]
    kept = "public, max-age=31536000, immutable" if state == version() else "no-store"
    return Response(content, media_type=kind, headers={"cache-control": kept, "x-content-type-options": "nosniff"})
