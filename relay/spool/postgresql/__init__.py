"""PostgreSQL as the spool: one queue for any number of processes, claimed by leases."""

from relay.spool.postgresql.spool import PostgresqlSpool, open_spool

__all__ = ["PostgresqlSpool", "open_spool"]
