"""Tables: what the database holds. Times are in UTC, with their zone."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Moment(TypeDecorator[datetime]):
    """A time in UTC. SQLite forgets the zone, so it is given back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"a time without a zone: {value}")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC))


class Role(enum.StrEnum):
    """Who may do what; each may do what those before it may."""

    operator = "operator"  # inspect, review, look
    engineer = "engineer"  # teach, set thresholds, switch models, sources and outputs
    admin = "admin"  # people, keys, audit trail


class Review(enum.StrEnum):
    """What people have said of a result."""

    none = "none"  # it passed: nothing is asked
    open = "open"  # it failed or is unsure, and waits
    confirmed = "confirmed"  # the defect is one
    good = "good"  # it is good after all
    taught = "taught"  # it is good, and the model was taught it


class JobState(enum.StrEnum):
    """How far a job is."""

    waiting = "waiting"
    running = "running"
    done = "done"
    failed = "failed"
    stopped = "stopped"
    lost = "lost"  # the server ended while it ran


_Number = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up by itself only in its own integers


def _text_of(kind: type[enum.StrEnum]) -> Enum:
    return Enum(kind, native_enum=False, length=16, values_callable=lambda members: [one.value for one in members])


def now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """All tables; `store/migrations` makes them."""

    type_annotation_map = {datetime: Moment(), dict[str, Any]: JSON(), list[str]: JSON()}  # noqa: RUF012


class Person(Base):
    """Somebody with an account. Nobody is ever deleted: what they did has their name."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(_Number, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password: Mapped[str] = mapped_column(String(256))  # Argon2id, with its salt and parameters
    role: Mapped[Role] = mapped_column(_text_of(Role))
    active: Mapped[bool] = mapped_column(default=True)
    language: Mapped[str] = mapped_column(String(8), default="")  # of the pages; "": as the browser asks
    must_change: Mapped[bool] = mapped_column(default=False)  # the password, at the next login
    created: Mapped[datetime] = mapped_column(default=now)


class Login(Base):
    """A session of a person in a browser; the cookie has its token, and this only the token's hash."""

    __tablename__ = "login"
    token: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256, hexadecimal
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(default=now)
    seen: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime]
    revoked: Mapped[datetime | None]
    agent: Mapped[str] = mapped_column(String(200), default="")
    person: Mapped[Person] = relationship(lazy="joined")


class ApiKey(Base):
    """The key of a machine; it is shown once, and this has only its hash."""

    __tablename__ = "api_key"
    id: Mapped[int] = mapped_column(_Number, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    token: Mapped[str] = mapped_column(String(64), unique=True)  # SHA-256, hexadecimal
    role: Mapped[Role] = mapped_column(_text_of(Role))
    made_by: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(default=now)
    used: Mapped[datetime | None]
    revoked: Mapped[datetime | None]


class Entry(Base):
    """The audit trail: who did what and when. Each row has the hash of the one before, so a missing one shows."""

    __tablename__ = "entry"
    number: Mapped[int] = mapped_column(_Number, primary_key=True, autoincrement=False)  # 1, 2, 3, without a gap
    time: Mapped[datetime]
    who: Mapped[str] = mapped_column(String(80))
    action: Mapped[str] = mapped_column(String(40))  # such as `model.activate`, `result.review`
    subject: Mapped[str] = mapped_column(String(200), default="")
    why: Mapped[str] = mapped_column(Text, default="")
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    before: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64), unique=True)


class Model(Base):
    """A version of a model: a file that never changes, and where it came from."""

    __tablename__ = "model"
    id: Mapped[int] = mapped_column(_Number, primary_key=True)
    name: Mapped[str] = mapped_column(String(80), index=True)  # of the product; its versions share it
    version: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    file: Mapped[str] = mapped_column(String(200))  # below the station's files
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("model.id"))  # the version it was made from
    how: Mapped[str] = mapped_column(String(20))  # fit, teach, undo, set, recalibrate, import
    who: Mapped[str] = mapped_column(String(80))
    why: Mapped[str] = mapped_column(Text, default="")
    created: Mapped[datetime] = mapped_column(default=now)
    summary: Mapped[dict[str, Any]] = mapped_column(default=dict)  # recipe, images, thresholds, guarantee
    __table_args__ = (Index("model_version", "name", "version", unique=True),)


class Line(Base):
    """A place where parts are inspected: its images come from one source and are judged by one model."""

    __tablename__ = "line"
    id: Mapped[int] = mapped_column(_Number, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    model_id: Mapped[int | None] = mapped_column(ForeignKey("model.id"))
    shadow_id: Mapped[int | None] = mapped_column(ForeignKey("model.id"))  # judges too, and nobody acts on it
    source: Mapped[dict[str, Any]] = mapped_column(default=dict)  # {"kind": "folder", "path": ...}; {} for none
    running: Mapped[bool] = mapped_column(default=True)  # whether its source is read
    created: Mapped[datetime] = mapped_column(default=now)
    model: Mapped[Model | None] = relationship(foreign_keys=[model_id], lazy="joined")
    shadow: Mapped[Model | None] = relationship(foreign_keys=[shadow_id], lazy="joined")


class Inspection(Base):
    """An image that was judged, as it was judged: the map can be drawn again from what is here and the model."""

    __tablename__ = "inspection"
    id: Mapped[int] = mapped_column(_Number, primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("line.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    time: Mapped[datetime] = mapped_column(default=now)
    name: Mapped[str] = mapped_column(Text, default="")  # the file's, as the source gave it
    part: Mapped[str | None] = mapped_column(String(200), index=True)
    verdict: Mapped[str] = mapped_column(String(8))  # pass, unsure, fail
    reason: Mapped[str | None] = mapped_column(Text)
    score: Mapped[float]
    threshold: Mapped[float | None]
    lower_threshold: Mapped[float | None]
    pixel_threshold: Mapped[float | None]
    p_value: Mapped[float | None]
    foreign: Mapped[float | None]
    seconds: Mapped[float]  # of the engine
    waited: Mapped[float] = mapped_column(default=0.0)  # seconds from the image's arrival to the engine
    image: Mapped[str] = mapped_column(String(200), index=True)  # file below the station's files; "" once it is deleted
    sha256: Mapped[str] = mapped_column(String(64))  # of the image's bytes
    height: Mapped[int]
    width: Mapped[int]
    frame: Mapped[dict[str, Any]] = mapped_column(default=dict)  # where the image lay in the network's input
    scores: Mapped[bytes] = mapped_column(LargeBinary)  # patch scores, (h, w) float32 in NumPy's format, compressed
    rows: Mapped[bytes] = mapped_column(LargeBinary)  # nearest bank rows, (h, w, k) int32, likewise
    areas: Mapped[dict[str, Any]] = mapped_column(default=dict)
    warnings: Mapped[list[str]] = mapped_column(default=list)
    shadow: Mapped[dict[str, Any] | None]  # what the shadow model said: model_id, score, verdict
    review: Mapped[Review] = mapped_column(_text_of(Review), default=Review.none)
    reviewed_by: Mapped[str | None] = mapped_column(String(80))
    reviewed: Mapped[datetime | None]
    note: Mapped[str] = mapped_column(Text, default="")
    key: Mapped[str | None] = mapped_column(String(200), unique=True)  # the client's idempotency key
    line: Mapped[Line] = relationship(lazy="joined")
    model: Mapped[Model] = relationship(lazy="joined")
    __table_args__ = (
        Index("inspection_time", "time"),
        Index("inspection_line_time", "line_id", "time"),
        Index("inspection_review", "review", "id"),
        Index("inspection_verdict", "verdict", "id"),
    )


class Job(Base):
    """Work of minutes: a training. It survives a reload of the page, and a restart says what became of it."""

    __tablename__ = "job"
    id: Mapped[int] = mapped_column(_Number, primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))  # train, audit
    state: Mapped[JobState] = mapped_column(_text_of(JobState), default=JobState.waiting, index=True)
    progress: Mapped[float] = mapped_column(default=0.0)  # 0 to 1
    step: Mapped[str] = mapped_column(String(200), default="")
    message: Mapped[str] = mapped_column(Text, default="")
    wanted: Mapped[dict[str, Any]] = mapped_column(default=dict)
    found: Mapped[dict[str, Any]] = mapped_column(default=dict)
    who: Mapped[str] = mapped_column(String(80))
    created: Mapped[datetime] = mapped_column(default=now)
    began: Mapped[datetime | None]
    ended: Mapped[datetime | None]


class Message(Base):
    """The outbox: what is to be said to a machine, written with the result and kept until it has been said."""

    __tablename__ = "message"
    id: Mapped[int] = mapped_column(_Number, primary_key=True)
    output: Mapped[str] = mapped_column(String(64))  # the name of one in the settings
    inspection_id: Mapped[int | None] = mapped_column(ForeignKey("inspection.id"), index=True)
    body: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created: Mapped[datetime] = mapped_column(default=now)
    tries: Mapped[int] = mapped_column(default=0)
    due: Mapped[datetime] = mapped_column(default=now)
    error: Mapped[str] = mapped_column(Text, default="")
    sent: Mapped[datetime | None]
    given_up: Mapped[datetime | None]
    __table_args__ = (Index("message_next", "output", "sent", "given_up", "id"),)


class Setting(Base):
    """What people have set for the whole station: outputs, retention, the drift monitor's state."""

    __tablename__ = "setting"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(default=dict)
    changed: Mapped[datetime] = mapped_column(default=now, onupdate=now)
