"""Round: statements that leave together and are answered together, in libpq's pipeline mode.

Spoken to libpq itself: in groups of a few mails what a cursor costs for each statement is more than the statement.
"""

from __future__ import annotations

import select
import struct
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import errors, pq

from relay.spool.postgresql.server import Connection

Value = str | int | float | list[bytes] | None

_BYTEA = 17
_HEAD = struct.Struct(">iiIii")
_SIZE = struct.Struct(">i")
_TEXT, _BINARY = pq.Format.TEXT, pq.Format.BINARY

Decode = Callable[[bytes], Any]

TEXT: Decode = bytes.decode
OCTETS: Decode = bytes


def _number(form: str) -> Decode:
    unpack = struct.Struct(form).unpack
    return lambda octets: unpack(octets)[0]


BIG, WHOLE, SHORT, REAL = (_number(form) for form in (">q", ">i", ">h", ">d"))
TRUTH: Decode = b"\1".__eq__


class Round:
    """One of them, on a connection on which nothing else is under way. Raises psycopg.Error, and is void then."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._wanted: list[tuple[str, Sequence[Value]]] = []
        self._answers: list[pq.abc.PGresult] = []

    def put(self, statement: str, values: Sequence[Value] = ()) -> int:
        """One more statement, with `%s` for each of its values; the place of its answer."""
        self._wanted.append((statement, values))
        return len(self._wanted) - 1

    def run(self) -> None:
        """Send all of them, and wait until the last is answered. The first that fails ends the others."""
        pgconn, prepared = self._connection.pgconn, self._connection.prepared
        new: list[str] = []
        order: list[str] = []  # what is prepared by each message that is answered; "": it is a statement itself
        messages = [(statement, [_octets(each) for each in values], values) for statement, values in self._wanted]
        pgconn.enter_pipeline_mode()
        for statement, octets, values in messages:
            name = prepared.get(statement)
            if name is None:
                name = prepared[statement] = f"r{self._connection.names}".encode()
                self._connection.names += 1
                pgconn.send_prepare(name, _numbered(statement))
                new.append(statement)
                order.append(statement)
            formats = [_BINARY if isinstance(value, list) else _TEXT for value in values]
            pgconn.send_query_prepared(name, octets, formats, _BINARY)
            order.append("")
        pgconn.pipeline_sync()
        answers = self._receive(pgconn)
        pgconn.exit_pipeline_mode()
        for statement, answer in zip(order, answers, strict=True):
            if answer.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED):
                break
            if statement:
                new.remove(statement)
            else:
                self._answers.append(answer)
        else:
            return
        for statement in new:
            del prepared[statement]
        raise errors.error_from_result(answer)

    def rows(self, place: int, columns: Sequence[Decode]) -> list[tuple[Any, ...]]:
        """The rows that a statement found, each column read as it is to be."""
        answer = self._answers[place]
        value = answer.get_value
        return [
            tuple([None if (octets := value(row, place)) is None else decode(octets) for place, decode in columns_])
            for columns_ in [list(enumerate(columns))]
            for row in range(answer.ntuples)
        ]

    def _receive(self, pgconn: pq.abc.PGconn) -> list[pq.abc.PGresult]:
        """What each message is answered, without the last one, which says that these were all."""
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN | select.POLLOUT)
        while pgconn.flush():
            self._await(poll)
            pgconn.consume_input()
        poll.modify(pgconn.socket, select.POLLIN)
        answers: list[pq.abc.PGresult] = []
        while True:
            while pgconn.is_busy():
                self._await(poll)
                pgconn.consume_input()
            answer = pgconn.get_result()
            if answer is not None and answer.status == pq.ExecStatus.PIPELINE_SYNC:
                return answers
            if answer is not None:
                answers.append(answer)
            elif pgconn.status != pq.ConnStatus.OK:
                raise psycopg.OperationalError(f"the connection is lost: {pgconn.get_error_message()}")

    def _await(self, poll: select.poll) -> None:
        if not poll.poll(self._connection.patience * 1000):
            raise self._connection.give_up()


def _numbered(statement: str) -> bytes:
    first, *rest = statement.split("%s")
    return (first + "".join([f"${number}{part}" for number, part in enumerate(rest, 1)])).encode()


def _octets(value: Value) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, list):  # an array of bytea, in binary
        parts = [_HEAD.pack(1, 0, _BYTEA, len(value), 1)]
        for each in value:
            parts += (_SIZE.pack(len(each)), each)
        return b"".join(parts)
    text = value if isinstance(value, str) else repr(value)
    if "\0" in text:
        raise psycopg.DataError("a text in PostgreSQL holds no NUL")
    return text.encode()
