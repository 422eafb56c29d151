"""PostgreSQL as the spool: one queue for any number of processes, claimed by leases."""

from relay.spool.postgresql.opening import open_spool
from relay.spool.postgresql.spool import PostgresqlSpool

__all__ = ["PostgresqlSpool", "open_spool"]
