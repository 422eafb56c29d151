"""Queue: what `mailq` (-bp) prints, and -q: asked of the daemon, if this user may ask it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

from relay.sendmail.submit import NO_PERMISSION, OK, UNAVAILABLE, shown

_CONNECT = 10.0


class Unanswered(Exception):
    """Nobody answered; `status` is what to exit with, the text says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def show(control: str) -> int:
    """Print the mails that wait; the exit status. Raises Unanswered."""
    empty = True
    for piece in _ask(control, {"command": "queue list"}):
        empty = False
        mail = piece["mail"]
        _print(f"{mail['id']} {mail['state']:8} {mail['size']:9} {mail['received_at'][:19]}Z {mail['sender'] or '<>'}")
        for recipient in mail["recipients"]:
            _print(f"    {recipient['address']} ({recipient['state']})")
            if recipient["reply"]:
                _print(f"        {recipient['reply']}")
    if empty:
        _print("Mail queue is empty")
    return OK


def flush(control: str) -> int:
    """Have the daemon try what was deferred now; the exit status. Raises Unanswered."""
    for _ in _ask(control, {"command": "queue retry", "all": True}):
        pass
    return OK


def _ask(control: str, request: dict[str, object]) -> Iterator[dict[str, Any]]:
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(_CONNECT)
            link.connect(control)
            link.settimeout(None)
            link.sendall(json.dumps(request).encode() + b"\n")
            with link.makefile("rb") as stream:
                for line in stream:
                    piece = json.loads(line)
                    if "failed" in piece:
                        raise Unanswered(UNAVAILABLE, piece["failed"])
                    if "done" in piece:
                        return
                    yield piece
    except PermissionError:
        raise Unanswered(NO_PERMISSION, "only root and the daemon's own user may see the queue") from None
    except OSError as error:
        raise Unanswered(UNAVAILABLE, f"no daemon answers at {control}: {error.strerror or error}") from None
    raise Unanswered(UNAVAILABLE, "the daemon ended before its answer was complete")


def _print(text: str) -> None:
    """In ASCII: of the terminal nothing is known."""
    octets = f"{shown(text)}\n".encode()
    while octets:
        octets = octets[os.write(1, octets) :]
