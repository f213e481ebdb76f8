"""Jobs are written down, and results of texts and pictures that somebody gave are marked."""

import sqlalchemy as sa
from alembic import op

revision = "jobs"
down_revision = "results"


def upgrade() -> None:
    for name in ("qfund_reports", "qfund_documents"):
        if "own" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns(name)}:
            op.add_column(name, sa.Column("own", sa.Boolean))
    # Of what was stored before, the line of a comparison tells; nothing else was listed.
    reports = sa.table("qfund_reports", sa.column("summary", sa.Text), sa.column("own", sa.Boolean))
    usual = reports.c.summary.contains('"text":null', autoescape=True)
    unknown = sa.update(reports).where(reports.c.own.is_(None))
    op.execute(unknown.values(own=sa.case((usual, sa.false()), else_=sa.true())))
    op.create_table(
        "qfund_jobs",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("share", sa.Float(53), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("visitor", sa.String(64), nullable=False),
        sa.Column("server", sa.Text, nullable=False),
        sa.Column("beat", sa.Float(53), nullable=False),
        sa.Column("submitted", sa.Float(53), nullable=False),
        sa.Column("started", sa.Float(53)),
        sa.Column("finished", sa.Float(53)),
        sa.Column("error", sa.Text),
        if_not_exists=True,
    )
