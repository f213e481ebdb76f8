"""Who has asked for what is their own is written down, where visitors sign in."""

import sqlalchemy as sa
from alembic import op

revision = "owners"
down_revision = "jobs"


def upgrade() -> None:
    op.create_table(
        "qfund_owners",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_qfund_owners_key", "qfund_owners", ["key"], if_not_exists=True)
