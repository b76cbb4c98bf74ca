"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Moment = sa.DateTime(timezone=True)
_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", _number, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column(
            "role", sa.Enum("operator", "engineer", "admin", name="role", native_enum=False, length=16), nullable=False
        ),
        sa.Column("made_by", sa.String(length=64), nullable=False),
        sa.Column("created", Moment, nullable=False),
        sa.Column("used", Moment, nullable=True),
        sa.Column("revoked", Moment, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("token"),
    )
    op.create_table(
        "entry",
        sa.Column("number", _number, autoincrement=False, nullable=False),
        sa.Column("time", Moment, nullable=False),
        sa.Column("who", sa.String(length=80), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("before", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("hash"),
    )
    op.create_table(
        "job",
        sa.Column("id", _number, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "waiting", "running", "done", "failed", "stopped", "lost", name="jobstate", native_enum=False, length=16
            ),
            nullable=False,
        ),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("step", sa.String(length=200), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("wanted", sa.JSON(), nullable=False),
        sa.Column("found", sa.JSON(), nullable=False),
        sa.Column("who", sa.String(length=80), nullable=False),
        sa.Column("created", Moment, nullable=False),
        sa.Column("began", Moment, nullable=True),
        sa.Column("ended", Moment, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_job_state"), "job", ["state"], unique=False)
    op.create_table(
        "model",
        sa.Column("id", _number, nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("file", sa.String(length=200), nullable=False),
        sa.Column("parent_id", _number, nullable=True),
        sa.Column("how", sa.String(length=20), nullable=False),
        sa.Column("who", sa.String(length=80), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("created", Moment, nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["parent_id"],
            ["model.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_model_name"), "model", ["name"], unique=False)
    op.create_index(op.f("ix_model_sha256"), "model", ["sha256"], unique=False)
    op.create_index("model_version", "model", ["name", "version"], unique=True)
    op.create_table(
        "person",
        sa.Column("id", _number, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("password", sa.String(length=256), nullable=False),
        sa.Column(
            "role", sa.Enum("operator", "engineer", "admin", name="role", native_enum=False, length=16), nullable=False
        ),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("must_change", sa.Boolean(), nullable=False),
        sa.Column("created", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("changed", Moment, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "line",
        sa.Column("id", _number, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("model_id", _number, nullable=True),
        sa.Column("shadow_id", _number, nullable=True),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("running", sa.Boolean(), nullable=False),
        sa.Column("created", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["model.id"],
        ),
        sa.ForeignKeyConstraint(
            ["shadow_id"],
            ["model.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "login",
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("person_id", _number, nullable=False),
        sa.Column("csrf", sa.String(length=64), nullable=False),
        sa.Column("created", Moment, nullable=False),
        sa.Column("seen", Moment, nullable=False),
        sa.Column("expires", Moment, nullable=False),
        sa.Column("revoked", Moment, nullable=True),
        sa.Column("agent", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(
            ["person_id"],
            ["person.id"],
        ),
        sa.PrimaryKeyConstraint("token"),
    )
    op.create_index(op.f("ix_login_person_id"), "login", ["person_id"], unique=False)
    op.create_table(
        "inspection",
        sa.Column("id", _number, nullable=False),
        sa.Column("line_id", _number, nullable=False),
        sa.Column("model_id", _number, nullable=False),
        sa.Column("time", Moment, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("part", sa.String(length=200), nullable=True),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column("lower_threshold", sa.Double(), nullable=True),
        sa.Column("pixel_threshold", sa.Double(), nullable=True),
        sa.Column("p_value", sa.Double(), nullable=True),
        sa.Column("foreign", sa.Double(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("waited", sa.Double(), nullable=False),
        sa.Column("image", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("frame", sa.JSON(), nullable=False),
        sa.Column("scores", sa.LargeBinary(), nullable=False),
        sa.Column("rows", sa.LargeBinary(), nullable=False),
        sa.Column("areas", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("shadow", sa.JSON(), nullable=True),
        sa.Column(
            "review",
            sa.Enum("none", "open", "confirmed", "good", "taught", name="review", native_enum=False, length=16),
            nullable=False,
        ),
        sa.Column("reviewed_by", sa.String(length=80), nullable=True),
        sa.Column("reviewed", Moment, nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(
            ["line_id"],
            ["line.id"],
        ),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["model.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index("inspection_line_time", "inspection", ["line_id", "time"], unique=False)
    op.create_index("inspection_review", "inspection", ["review", "id"], unique=False)
    op.create_index("inspection_time", "inspection", ["time"], unique=False)
    op.create_index("inspection_verdict", "inspection", ["verdict", "id"], unique=False)
    op.create_index(op.f("ix_inspection_part"), "inspection", ["part"], unique=False)
    op.create_index(op.f("ix_inspection_image"), "inspection", ["image"], unique=False)
    op.create_table(
        "message",
        sa.Column("id", _number, nullable=False),
        sa.Column("output", sa.String(length=64), nullable=False),
        sa.Column("inspection_id", _number, nullable=True),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("created", Moment, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due", Moment, nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("sent", Moment, nullable=True),
        sa.Column("given_up", Moment, nullable=True),
        sa.ForeignKeyConstraint(
            ["inspection_id"],
            ["inspection.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_message_inspection_id"), "message", ["inspection_id"], unique=False)
    op.create_index("message_next", "message", ["output", "sent", "given_up", "id"], unique=False)
