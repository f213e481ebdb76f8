"""Jobs of servers that share a database take turns over all of them: by address, and where nobody else waits too."""

import sqlalchemy as sa
from alembic import op

revision = "turns"
down_revision = "owners"


def upgrade() -> None:
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("qfund_jobs")}
    for column in (sa.Column("address", sa.String(64)), sa.Column("owners", sa.Integer)):
        if column.name not in there:
            op.add_column("qfund_jobs", column)
