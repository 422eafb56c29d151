"""Schema: the tables, made or upgraded once, however many processes start at the same moment."""

from __future__ import annotations

from importlib.resources import files

from relay.spool.postgresql.server import Connection
from relay.spool.spool import SpoolError

SCHEMA = 1
"""The newest schema's number, in the table `version` of a database that has it."""

LOCK = 0x6D61696C72656C61
"""Names the advisory lock under which tables are made and slots are given ("mailrela")."""

ALERTS = LOCK + 1
"""Names the session lock of the process that tells of the queue's alerts."""


def ensure(connection: Connection) -> None:
    """Bring the database to the newest schema. Raises psycopg.Error; SpoolError where it has a newer one."""
    if _number(connection) == SCHEMA:
        return
    connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))  # before the transaction, which sees what others made
    with connection.transaction():
        found = _number(connection)
        if found > SCHEMA:
            raise SpoolError(
                f"the database has schema {found}, and this mailrelay knows {SCHEMA} at most: install a newer mailrelay"
            )
        for number in range(found + 1, SCHEMA + 1):
            text = (files("relay.spool") / "schema" / f"postgresql_{number}.sql").read_text("utf-8")
            connection.execute(text.encode(), prepare=False)
    connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


def _number(connection: Connection) -> int:
    row = connection.execute("SELECT to_regclass('version') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return 0
    row = connection.execute("SELECT max(number) FROM version").fetchone()
    return int(row[0] or 0) if row else 0
