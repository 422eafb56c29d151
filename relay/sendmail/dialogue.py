"""Dialogue: SMTP on standard input and output (-bs).

The daemon wants its replies waited for, and a program may write a whole dialogue at once: so each command goes only
when the reply to the one before it has come. Lines may end in LF, if that of DATA does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import BinaryIO

from relay.sendmail.settings import Place
from relay.sendmail.smtp import Connection, NotNow, Refused, Reply, connect
from relay.sendmail.submit import OK, TEMPORARY

_BDAT = re.compile(rb"BDAT +([0-9]{1,20})(?: |\Z)", re.IGNORECASE)
_PIECE = 64 * 1024


def hold(places: Sequence[Place]) -> int:
    """Until QUIT or the end of standard input; the exit status."""
    try:
        connection = connect(places)
        if connection is None:
            raise NotNow("421 no daemon answers, try again later")
        _say(connection.greeting)
        with open(0, "rb", closefd=False) as stream:
            return _talk(connection, stream)
    except NotNow as later:
        text = str(later)
        os.write(1, f"{text if text.startswith('4') else f'421 {text}'}\r\n".encode("ascii", "backslashreplace"))
    except Refused as refused:
        os.write(1, f"{refused}\r\n".encode("ascii", "backslashreplace"))
    except OSError:
        pass
    return TEMPORARY


def _talk(connection: Connection, stream: BinaryIO) -> int:
    while line := stream.readline():
        command = line.removesuffix(b"\n").removesuffix(b"\r")
        connection.write(command + b"\r\n")
        chunk = _BDAT.match(command)
        if chunk and not _pass_on(connection, stream, int(chunk[1])):
            return TEMPORARY
        reply = connection.read()
        _say(reply)
        if reply.code == 354:
            if not _content(connection, stream, line.endswith(b"\r\n")):
                return TEMPORARY
            _say(connection.read())
        elif reply.code in (221, 421):
            break
    return OK


def _pass_on(connection: Connection, stream: BinaryIO, octets: int) -> bool:
    """Pass on what follows BDAT; False if it ends before its end."""
    while octets and (piece := stream.read(min(octets, _PIECE))):
        octets -= len(piece)
        connection.write(piece)
    return not octets


def _content(connection: Connection, stream: BinaryIO, crlf: bool) -> bool:
    """Pass on what follows DATA; False if it ends before its end."""
    pieces: list[bytes] = []
    size = 0
    begins_line = True
    while line := stream.readline():
        if not crlf and line.endswith(b"\n"):
            line = line[:-1].removesuffix(b"\r") + b"\r\n"
        last = begins_line and line == b".\r\n"
        begins_line = line.endswith(b"\r\n")
        pieces.append(line)
        size += len(line)
        if last or size >= _PIECE:
            connection.write(b"".join(pieces))
            pieces.clear()
            size = 0
        if last:
            return True
    return False


def _say(reply: Reply) -> None:
    """As it came."""
    *first, last = reply.lines
    lines = [f"{reply.code}-{line}" for line in first] + [f"{reply.code} {last}"]
    os.write(1, "".join(f"{line}\r\n" for line in lines).encode("ascii", "backslashreplace"))
