"""Client: a station's API, typed.

>>> from patchcore.station.client import Client, StationError
>>> with Client("http://127.0.0.1:8000", key="pc_...") as station:  # doctest: +SKIP
...     station.inspect("part.png").verdict
'pass'
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from pydantic import BaseModel, ConfigDict

from patchcore.errors import PatchcoreError


class StationError(PatchcoreError):
    """The station refuses, or cannot be reached. `status`: of HTTP; `retry`: seconds to wait, where it says so."""

    def __init__(self, text: str, status: int | None = None, retry: float | None = None) -> None:
        super().__init__(text)
        self.status, self.retry = status, retry


class Inspected(BaseModel):
    """A result. `docs/station.md` describes the fields; those of later versions are left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    id: int
    time: datetime
    line: str
    name: str
    part: str | None
    verdict: Literal["pass", "unsure", "fail"]
    reason: str | None
    score: float
    threshold: float | None
    lower_threshold: float | None
    p_value: float | None
    seconds: float
    model: str
    model_id: int
    model_sha256: str
    image_sha256: str
    warnings: tuple[str, ...]
    review: Literal["none", "open", "confirmed", "good", "taught"]
    replayed: bool = False


class Version(BaseModel):
    """A version of a model."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    id: int
    name: str
    version: int
    sha256: str
    how: str
    who: str
    images: int
    threshold: float | None
    false_reject_rate: float


class Work(BaseModel):
    """A job: a training or a check."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    id: int
    kind: str
    state: Literal["waiting", "running", "done", "failed", "stopped", "lost"]
    progress: float
    step: str
    message: str
    found: dict[str, Any]


class Happened(BaseModel):
    """An event: see `GET /api/v1/events`."""

    model_config = ConfigDict(frozen=True)
    kind: str
    data: dict[str, Any]


class Client:
    """Talks to one station.

    Args:
        url: Where it is, such as `http://127.0.0.1:8000`.
        key: An API key; a person with the role `admin` makes it.
        timeout: Seconds for an answer.

    Raises (all methods):
        StationError
    """

    def __init__(self, url: str, *, key: str, timeout: float = 120.0) -> None:
        headers = {"authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=f"{url.rstrip('/')}/api/v1", headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def inspect(
        self, image: str | Path | bytes, *, line: str = "main", part: str | None = None, key: str | None = None
    ) -> Inspected:
        """The verdict of an image, a file or its bytes, once it is stored. `key`: the same gives the same result."""
        name, content = ("image", image) if isinstance(image, bytes) else (Path(image).name, Path(image).read_bytes())
        form = {"line": line} | ({"part": part} if part is not None else {})
        headers = {"idempotency-key": key} if key is not None else None
        return Inspected(**self._ask("POST", "/inspect", data=form, files={"image": (name, content)}, headers=headers))

    def inspect_path(
        self, path: str, *, line: str = "main", part: str | None = None, key: str | None = None
    ) -> Inspected:
        """The verdict of an image that the station reads itself, within its --root."""
        headers = {"idempotency-key": key} if key is not None else None
        return Inspected(
            **self._ask("POST", "/inspect/path", json={"path": path, "line": line, "part": part}, headers=headers)
        )

    def results(self, *, limit: int = 50, **wanted: str | int) -> list[Inspected]:
        """Results, the newest first; `wanted`: verdict, review, line, model_id, part, text, since, until, before."""
        return [Inspected(**one) for one in self._ask("GET", "/results", params={**wanted, "limit": limit})]

    def review(self, number: int, says: Literal["confirmed", "good", "open"], *, why: str = "") -> Inspected:
        """Decide a result that is open."""
        return Inspected(**self._ask("POST", f"/results/{number}/review", json={"says": says, "why": why}))

    def teach(self, number: int, *, why: str = "") -> Version:
        """Let the line's model learn a result's image as good."""
        return Version(**self._ask("POST", f"/results/{number}/teach", json={"why": why})["model"])

    def models(self) -> list[Version]:
        """All versions, the newest first."""
        return [Version(**one) for one in self._ask("GET", "/models")]

    def activate(self, model: int, *, line: str = "main", shadow: bool = False, why: str = "") -> Version:
        """Let a version judge a line, or judge beside the present one."""
        return Version(
            **self._ask("POST", f"/models/{model}/activate", json={"line": line, "shadow": shadow, "why": why})
        )

    def train(self, name: str, images: str, *, recipe: str = "default", false_reject_rate: float = 0.01) -> Work:
        """Train a model on a folder within the station's --root; `job` says how far it is."""
        wanted = {"name": name, "images": images, "recipe": recipe, "false_reject_rate": false_reject_rate}
        return Work(**self._ask("POST", "/trainings", json=wanted))

    def job(self, number: int) -> Work:
        """How far a job is."""
        return Work(**self._ask("GET", f"/jobs/{number}"))

    def health(self) -> dict[str, Any]:
        """What works, and what does not."""
        try:
            return self._ask("GET", "/state")
        except StationError as error:
            raise StationError(f"the station's health: {error}", error.status) from error

    def events(self) -> Iterator[Happened]:
        """What happens, from now on, for as long as the station runs."""
        try:
            with self._http.stream("GET", "/events", timeout=httpx.Timeout(10.0)) as answer:
                _check(answer)
                kind = ""
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        kind = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        yield Happened(kind=kind, data=json.loads(line.removeprefix("data: ")))
        except httpx.HTTPError as error:
            raise StationError(f"{self._http.base_url}: {error}") from error

    def _ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **given: Any) -> Any:
        try:
            answer = self._http.request(method, path, headers=headers, **given)
        except httpx.HTTPError as error:
            raise StationError(f"{self._http.base_url}: {error}") from error
        _check(answer)
        return answer.json()


def _check(answer: httpx.Response) -> None:
    """Errors: StationError with what the station says."""
    if answer.is_success:
        return
    answer.read()
    try:
        said = answer.json().get("detail")
    except ValueError:
        said = answer.text[:200]
    retry = answer.headers.get("retry-after", "")
    raise StationError(
        f"{answer.request.url.path}: {answer.status_code}: {said}",
        answer.status_code,
        float(retry) if retry.isdigit() else None,
    )
