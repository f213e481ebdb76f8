"""The tables as they were before there were steps: results, listed and not. A database may have them already."""

import sqlalchemy as sa
from alembic import op

revision = "results"
down_revision = None

_BLOB = sa.LargeBinary(2**31 - 1)


def upgrade() -> None:
    op.create_table(
        "qfund_meta",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "qfund_reports",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("schema", sa.Integer, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("document", _BLOB, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "qfund_documents",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("schema", sa.Integer, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("document", _BLOB, nullable=False),
        if_not_exists=True,
    )
