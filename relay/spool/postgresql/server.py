"""Server: sessions with PostgreSQL, on whichever host of the DSN takes writes, and what their errors mean."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from relay.config.secret import Secret
from relay.spool.spool import SpoolError, SpoolFailing, SpoolFull

logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # what it would say of a lost connection is said by us


RV = TypeVar("RV")

PATIENCE = 15.0
"""Seconds for which a server may say nothing: where it hangs while its host lives, no keepalive finds that out.

So long does a commit wait for a synchronous standby, too. Whoever waits for an acknowledgement is told 451 then.
"""


class Silent(psycopg.OperationalError):
    """A session was given up: nobody knows what became of what was asked."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A session. `prepared` names the statements that were prepared by a Round, `names` counts all that ever were.

    patience  seconds; whatever is asked fails with Silent, and the session is closed, once nothing came for so long
    left      told the server's name of a session (its process id) that was given up
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.prepared: dict[str, bytes] = {}
        self.names = 0
        self.patience = PATIENCE
        self.left: Callable[[int], None] = lambda _pid: None

    def wait(self, gen: Generator[Any, Any, RV], *arguments: Any, **named: Any) -> RV:
        """See psycopg."""
        return super().wait(self._patient(gen), *arguments, **named)

    def give_up(self) -> Silent:
        """Close it, since nothing comes; what to raise."""
        self.left(self.pgconn.backend_pid)
        self.pgconn.finish()
        return Silent(f"PostgreSQL has said nothing for {self.patience:g} s")

    def _patient(self, gen: Generator[Any, Any, RV]) -> Generator[Any, Any, RV]:
        """The same; psycopg says several times a second that nothing is there."""
        until = time.monotonic() + self.patience
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    until = time.monotonic() + self.patience
                elif time.monotonic() >= until:
                    raise self.give_up()
                wanted = gen.send(ready)
        except StopIteration as end:
            result: RV = end.value
            return result

    def rollback(self) -> None:
        """See psycopg, which deallocates every prepared statement then."""
        self.prepared.clear()
        super().rollback()


IN_A_TRANSACTION = 10
"""Seconds after which the server ends a session that froze within a transaction, and so frees its rows."""

NEEDED = 120000
"""The oldest server that is known to do: 12."""

# Keepalives find out within half a minute that a host is cut off, from either side.
_OURS = {
    "target_session_attrs": "read-write",
    "client_encoding": "UTF8",
    "connect_timeout": "2",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_STANDS = frozenset({"target_session_attrs", "client_encoding"})  # what no DSN may say otherwise

# Plans are cached while tables are empty, and must do once they are not: every question has its index. Without a
# synchronous standby the commit waits for the server's own disk.
_SETTINGS = {
    "synchronous_commit": "on",
    "idle_in_transaction_session_timeout": f"{IN_A_TRANSACTION}s",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_SET = "SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items())

_END = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY (%s) AND usename = current_user "
    "AND application_name = current_setting('application_name') AND pid <> pg_backend_pid()"
)

_SHOWN = frozenset({"host", "hostaddr", "port", "user", "dbname"})  # of a DSN; whatever else it says is not

_CERTAIN = ("21", "22", "23", "25", "40", "42", "53", "54", "55")
"""Classes of SQLSTATE after which a transaction surely was not committed."""


def blameless(error: psycopg.Error) -> bool:
    """Whether the error is one write's own, and neither the server's nor the connection's."""
    return isinstance(error, psycopg.DataError | psycopg.IntegrityError | psycopg.NotSupportedError)


def asserted(error: psycopg.Error) -> bool:
    """Whether a statement found that what it was to find true was not: see `statements`."""
    return isinstance(error, errors.DivisionByZero)


def passing(error: psycopg.Error) -> bool:
    """Whether the same may work at once, since only somebody else's transaction was in the way."""
    return (error.sqlstate or "")[:2] == "40"


def certain(error: psycopg.Error) -> bool:
    """Whether a transaction that failed so surely was not committed."""
    return (error.sqlstate or "")[:2] in _CERTAIN or (error.sqlstate is None and blameless(error))


def trouble(error: psycopg.Error, what: str) -> SpoolFailing:
    """The error that says `what` could not be done, and why."""
    why = " ".join(str(error).split()) or type(error).__name__
    kind = SpoolFull if isinstance(error, errors.DiskFull) else SpoolFailing
    return kind(f"{what}: {why}")


class Server:
    """What a DSN names. `hosts` is how many. Raises SpoolError where the DSN is none, in words that give none of it."""

    def __init__(self, dsn: Secret, name: str) -> None:
        try:
            said = conninfo_to_dict(dsn.reveal())
        except psycopg.ProgrammingError:
            raise SpoolError('spool.dsn is no connection string: "host=db1,db2 dbname=mail user=mail"') from None
        _check(said)
        self.hosts = max(len(str(said.get(key) or "").split(",")) for key in ("host", "hostaddr"))
        ours = {key: value for key, value in _OURS.items() if key in _STANDS or key not in said}
        self._unshown = [Secret(str(value)) for key, value in said.items() if key not in _SHOWN and value]
        self._dsn = Secret(make_conninfo(dsn.reveal(), **ours, application_name=f"mailrelay {name}"))
        self._left: list[int] = []

    def connect(self, patience: float = PATIENCE) -> Connection:
        """A new session. Waits, at most some seconds for each host. Raises SpoolFailing, SpoolError."""
        connection: Connection | None = None
        try:
            connection = Connection.connect(self._dsn.reveal(), autocommit=True, prepare_threshold=0)
            connection.patience, connection.left = patience, self._left.append
            connection.execute(_SET)
            self._look(connection)
            self._end_left(connection)
            return connection
        except psycopg.Error as error:
            failing: SpoolError = self._trouble(error)
        except SpoolError as error:
            failing = error
        if connection is not None:
            connection.close()
        raise failing

    def _end_left(self, connection: Connection) -> None:
        """Sessions that were given up would hold what they hold, and their places, for as long as they hang.

        One that waits for a standby has committed by that, as `Membership.resolve` then finds.
        """
        left, self._left[:] = self._left[:], []
        if left:
            with suppress(errors.UndefinedFunction, errors.FeatureNotSupported, errors.InsufficientPrivilege):
                connection.execute(_END, (left,))

    def _trouble(self, error: psycopg.Error) -> SpoolFailing:
        """What libpq says may quote what a DSN says."""
        failing = trouble(error, "PostgreSQL cannot be reached")
        words = str(failing)
        for value in self._unshown:
            words = words.replace(f'"{value.reveal()}"', '"…"')
        return type(failing)(words)

    @staticmethod
    def _look(connection: Connection) -> None:
        """What makes a server one that no mail is trusted to."""
        parameter = connection.info.parameter_status
        if connection.info.server_version < NEEDED:
            raise SpoolError(f"PostgreSQL {NEEDED // 10000} or later is needed: this is {parameter('server_version')}")
        if (encoding := parameter("server_encoding")) not in ("UTF8", None):
            raise SpoolError(f"the database's encoding must be UTF8 and is {encoding}")
        if _show(connection, "fsync") == "off":
            raise SpoolError(
                "the server runs with fsync = off: what it says is written may be lost; set fsync = on in its "
                "postgresql.conf"
            )

    def doubts(self, connection: Connection) -> list[str]:
        """What an operator should know about how durable a commit is there."""
        if self.hosts > 1 and not _show(connection, "synchronous_standby_names"):
            text = (
                "spool.dsn names several hosts, and the server has no synchronous standby (synchronous_standby_names "
                "is empty): a promotion can lose mail that was acknowledged"
            )
            return [text]
        return []


def _check(said: Mapping[str, object]) -> None:
    """A password in a URL that is not encoded is taken apart, and parts of it would be shown as names and ports."""
    names = (str(said.get(key) or "") for key in ("host", "dbname"))
    ports = str(said.get("port") or "").split(",")
    if any("@" in name[1:] for name in names) or not all(port.isdecimal() or not port for port in ports):
        raise SpoolError(
            'spool.dsn names no host and port as they should be: in a URL each "@", "/", ":", "?", "#" and "%" of a '
            "password is percent-encoded"
        )


def _show(connection: Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s, true)", (name,)).fetchone()
    return str(row[0] or "") if row else ""
