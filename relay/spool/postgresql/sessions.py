"""Sessions: one with the server for each thread that asks it something, made when it is first needed, and made anew."""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, get_ident
from typing import Concatenate, ParamSpec, TypeVar

import psycopg

from relay.spool.postgresql.server import Connection, Server, trouble
from relay.spool.spool import SpoolFailing

PATIENCE = 60.0
"""Seconds for which a server may look for an answer: whoever waits for one waits for no acknowledgement."""

P = ParamSpec("P")
T = TypeVar("T")


class Sessions:
    """See the module's docstring."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connections: dict[int, Connection] = {}
        self._lock = Lock()
        self._closed = False

    def ask(
        self,
        what: str,
        question: Callable[Concatenate[Connection, P], T],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        """What `question` finds, asked in this thread; twice, if its session was over. Raises SpoolFailing.

        That begins with `what`.
        """
        while True:
            connection, is_new = self._connection()
            try:
                return question(connection, *arguments, **named)
            except psycopg.Error as error:
                over = connection.closed or connection.broken
                if over:
                    self._forget(connection)
                if is_new or not over:
                    raise trouble(error, what) from error

    def close(self) -> None:
        """End all of them."""
        with self._lock:
            self._closed = True
            connections = list(self._connections.values())
        for connection in connections:
            with suppress(psycopg.Error):
                connection.close()

    def _connection(self) -> tuple[Connection, bool]:
        """This thread's, and whether it was made just now."""
        with self._lock:
            if self._closed:
                raise SpoolFailing("the spool is closed")
            found = self._connections.get(get_ident())
        if found is not None and _has_ended(found):
            self._forget(found)
            found = None
        if found is not None:
            return found, False
        found = self._server.connect(PATIENCE)
        with self._lock:
            self._connections[get_ident()] = found
        return found, True

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            self._connections.pop(get_ident(), None)
        with suppress(psycopg.Error):
            connection.close()


def _has_ended(connection: Connection) -> bool:
    """Whether the server has hung up: nothing else can be there to be read, since nothing was asked."""
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return bool(waiting.poll(0))
