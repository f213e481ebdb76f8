"""Results of what somebody gave, for those who asked for them, where visitors sign in.

A result's key is a hash of all that was asked, the text included, so whoever has the text can ask for the same. What is
private is that somebody did: a result that a signed-in visitor asked for is listed and read by those alone who have
asked for the very same; somebody else who does measures it for themselves, and is one of them from then on.
"""

import sqlalchemy as sa

from qfund.engine.kinds import KINDS
from qfund.engine.store import Store, upsert
from qfund.engine.tables import DOCUMENTS, OWNERS, REPORTS

#: Of whoever was not signed in: what they asked for is read by all who have its link.
ANYBODY = ""
_AT_ONCE = 500  # keys of one query


def owners(store: Store, keys: list[str]) -> dict[str, frozenset[str]]:
    """Key → who has asked for it; nothing of what was asked for where nobody signs in.

    Raises:
        StoreError: the database refuses.
    """
    found: dict[str, set[str]] = {}

    def look(connection: sa.Connection) -> None:
        if not sa.inspect(connection).has_table(OWNERS.name):
            return
        for start in range(0, len(keys), _AT_ONCE):
            wanted = sa.select(OWNERS.c.key, OWNERS.c.owner).where(OWNERS.c.key.in_(keys[start : start + _AT_ONCE]))
            for key, owner in connection.execute(wanted):
                found.setdefault(key, set()).add(owner)

    if keys:
        store.read(look)
    return {key: frozenset(names) for key, names in found.items()}


def claim(store: Store, key: str, *names: str) -> None:
    """These have asked for it too.

    Raises:
        StoreError: the database refuses.
    """

    def change(connection: sa.Connection) -> None:
        for owner in names:
            upsert(connection, OWNERS, {"id": f"{key} {owner}", "key": key, "owner": owner})

    store.write(change)


def listed(store: Store, owner: str) -> list[dict[str, object]]:
    """Results of what ``owner`` has asked for while signed in, the latest first: kind, key, seconds since the epoch.

    Raises:
        StoreError: the database refuses.
    """
    (report,) = (name for name, kind in KINDS.items() if kind.listed)
    mine = sa.select(OWNERS.c.key).where(OWNERS.c.owner == owner)

    def look(connection: sa.Connection) -> list[dict[str, object]]:
        if not sa.inspect(connection).has_table(OWNERS.name):
            return []
        reports = sa.select(sa.literal(report).label("kind"), REPORTS.c.key, REPORTS.c.created)
        documents = sa.select(DOCUMENTS.c.kind, DOCUMENTS.c.key, DOCUMENTS.c.created)
        both = sa.union_all(reports.where(REPORTS.c.key.in_(mine)), documents.where(DOCUMENTS.c.key.in_(mine)))
        return [dict(row) for row in connection.execute(both.order_by(sa.desc("created"))).mappings()]

    return store.read(look) or []


def reads(names: frozenset[str] | None, visitor: str) -> bool:
    """Whether ``visitor`` reads a result that these have asked for; ``ANYBODY`` for one who is not signed in."""
    return not names or ANYBODY in names or (visitor != ANYBODY and visitor in names)
