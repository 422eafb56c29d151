"""Quota: how many reports an address has had within an hour, counted for all processes at once."""

from __future__ import annotations

from relay.limits import HOUR
from relay.spool.postgresql.server import Connection

_COUNT = (
    "INSERT INTO quota AS q (address, began, sent) VALUES (%(to)s, %(now)s, 1) ON CONFLICT (address) DO UPDATE SET "
    "began = CASE WHEN q.began <= %(now)s - %(hour)s THEN %(now)s ELSE q.began END, "
    "sent = CASE WHEN q.began <= %(now)s - %(hour)s THEN 1 ELSE q.sent + 1 END RETURNING began, sent"
)
_FORGET = "DELETE FROM quota WHERE began <= %s"


def admit(connection: Connection, to: str, per_hour: int, now: float) -> float | None:
    """Count one: None, if it goes at once; else when the hour of that address ends. Raises psycopg.Error."""
    row = connection.execute(_COUNT, {"to": to.lower(), "now": now, "hour": HOUR}).fetchone()
    assert row is not None
    began, sent = row
    if sent == 1:
        connection.execute(_FORGET, (now - HOUR,))
    return None if sent <= per_hour else float(began) + HOUR
