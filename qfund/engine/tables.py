"""The tables of the database. How an older one becomes what is here: ``qfund.engine.migrations``."""

import sqlalchemy as sa

TABLES = sa.MetaData()
_BLOB = sa.LargeBinary(2**31 - 1)  # a length, so that MySQL takes a LONGBLOB

META = sa.Table(
    "qfund_meta",
    TABLES,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
#: Results of the kinds that are listed. ``own``: of a text or pictures that somebody gave.
REPORTS = sa.Table(
    "qfund_reports",
    TABLES,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("schema", sa.Integer, nullable=False),
    sa.Column("created", sa.Float(53), nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("document", _BLOB, nullable=False),
    sa.Column("own", sa.Boolean),
)
#: Results of the kinds that nobody lists.
DOCUMENTS = sa.Table(
    "qfund_documents",
    TABLES,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("schema", sa.Integer, nullable=False),
    sa.Column("created", sa.Float(53), nullable=False),
    sa.Column("document", _BLOB, nullable=False),
    sa.Column("own", sa.Boolean),
)
#: The latest job of each key (``qfund.engine.shared.ledger``); ``owners``: how many wait for it where it was asked for.
JOBS = sa.Table(
    "qfund_jobs",
    TABLES,
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
    sa.Column("address", sa.String(64)),
    sa.Column("owners", sa.Integer),
)
#: Who has asked for a result of what is their own, where visitors sign in: a hash, or nothing for somebody who had not.
#: What has rows here is read by these alone (``qfund.ui.server.private``).
OWNERS = sa.Table(
    "qfund_owners",
    TABLES,
    sa.Column("id", sa.String(128), primary_key=True),
    sa.Column("key", sa.String(64), nullable=False, index=True),
    sa.Column("owner", sa.String(64), nullable=False),
)
