"""From the tables of any earlier qfund to today's, forwards and without loss, by Alembic.

Each step is a file of ``versions``. One that only adds what an older qfund does not look at leaves the database
readable to that; one that does not raises ``qfund.engine.shared.rows.SCHEMA`` besides.
"""

from pathlib import Path

import sqlalchemy as sa

from qfund.engine.shared.rows import REVISIONS as REVISIONS
from qfund.engine.tables import TABLES

_TABLE = "qfund_revision"


def done(connection: sa.Connection) -> bool:
    """Whether there is no step to take: all have been taken, by this qfund or by a newer one, and nothing is gone."""
    if not {_TABLE, *TABLES.tables} <= set(sa.inspect(connection).get_table_names()):
        return False
    found = connection.execute(sa.text(f"SELECT version_num FROM {_TABLE}")).scalar_one_or_none()
    return found is not None and found not in REVISIONS[:-1]


def upgrade(connection: sa.Connection) -> None:
    """Take all steps, in the transaction that ``connection`` is in; each leaves alone what is there already."""
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(Path(__file__).parent))
    context = MigrationContext.configure(
        connection,
        opts={"version_table": _TABLE, "fn": lambda taken, _: script._upgrade_revs("head", taken)},
    )
    if sa.inspect(connection).has_table(_TABLE):
        connection.execute(sa.text(f"DELETE FROM {_TABLE}"))  # a table may be gone, or set aside
    with Operations.context(context):
        context.run_migrations()
