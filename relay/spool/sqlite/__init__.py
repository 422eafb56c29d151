"""SQLite as the spool: WAL, synchronous = FULL, one thread that writes in groups and one that reads."""

from relay.spool.sqlite.spool import SqliteSpool, open_spool

__all__ = ["SqliteSpool", "open_spool"]
