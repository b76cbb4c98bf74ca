"""Settings: what a station is started with."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from patchcore.data.reading import MOST_THREADS


class Settings(BaseModel):
    """What a station is started with; what people change while it runs is in its database.

    Attributes:
        data: Folder of the station: database, images and models are in it unless the URLs below say otherwise.
        database: URL that SQLAlchemy takes (`postgresql+psycopg://...`); None: SQLite in `data`.
        files: URL that fsspec takes, for images and models; None: `data`.
        host, port: Where the server listens.
        hosts: Names that this station has in the network, beside that of the machine; a request to another is refused.
        tls: Whether a proxy in front speaks TLS, so that cookies are marked as secure.
        roots: Folders that a request may name images in, and that can be watched or taught from.
        upload: Bytes of one upload at most.
        pixels: Pixels of one image at most.
        queue: Images that may wait for the engine; one more is refused with 429.
        engine: As for `Detector`.
        threads: Images that are judged at once, each on one core; None: as many as there are cores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    database: str | None = None
    files: str | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    hosts: tuple[str, ...] = ()
    tls: bool = False
    roots: tuple[Path, ...] = ()
    upload: int = Field(default=50_000_000, ge=1)
    pixels: int = Field(default=50_000_000, ge=1)
    queue: int = Field(default=32, ge=1, le=10_000)
    engine: str = "torch"
    threads: int | None = Field(default=None, ge=1, le=MOST_THREADS)

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{(self.data / 'station.sqlite').absolute()}"

    @property
    def files_url(self) -> str:
        return self.files or str(self.data.absolute())
