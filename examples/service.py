"""A service: POST an image, get its verdict.

pip install fastapi uvicorn python-multipart
MODEL=parts.patchcore uvicorn --app-dir examples service:app
curl -F image=@part.png http://127.0.0.1:8000/inspect
"""

from __future__ import annotations

import io
import os
from functools import cache

from fastapi import FastAPI, HTTPException, UploadFile

from patchcore import Detector, ImageError

app = FastAPI(title="Inspection")
LARGEST = 50_000_000  # bytes of an upload


@cache
def detector() -> Detector:
    return Detector.load(os.environ["MODEL"])


@app.post("/inspect")
def inspect(
    image: UploadFile,
) -> dict[str, object]:  # not `async`: FastAPI runs it in a thread, and predict is thread-safe
    content = image.file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise HTTPException(413, f"The file is over {LARGEST} bytes.")
    try:
        result = detector().predict(io.BytesIO(content))  # opened: bytes alone may also be a path
    except ImageError as error:
        raise HTTPException(422, str(error)) from error
    return {"decision": result.decision, "score": result.score, "threshold": result.threshold}
