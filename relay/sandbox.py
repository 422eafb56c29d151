"""Sandbox: a provider to play with. It takes every mail and keeps it in a Maildir, where any mail program reads it.

It speaks just enough SMTP (RFC 5321 with PIPELINING, SIZE, 8BITMIME and SMTPUTF8) for what a relay sends, keeps a mail
in memory until its end and syncs nothing: what it holds is for looking at. It has neither TLS nor AUTH, so it is to
listen on loopback alone.

Failure: a mail that cannot be written is answered 452, and stays with the relay.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory, Protocol

_MAX_SIZE = 64 * 1024 * 1024
_MAX_LINE = 4096  # RFC 5321 says 512 (4.5.3.1.4), and each extension adds some
_PATH = re.compile(rb"(?:FROM|TO):\s*<(.*)>(?:\s.*)?", re.IGNORECASE | re.DOTALL)
_END = b"\r\n.\r\n"
_EHLO = (
    f"250-sandbox\r\n250-PIPELINING\r\n250-SIZE {_MAX_SIZE}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES"
)


class Maildir:
    """A Maildir that mail is put into: written below tmp, then renamed into new, so that nobody sees half of one."""

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self.folder = folder
        self._now = now
        self._kept = 0
        for name in ("tmp", "new", "cur"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def keep(self, sender: bytes, recipients: list[bytes], content: bytes) -> None:
        """Keep one mail: its envelope on top (RFC 5321, 4.4), its lines ended as files' are. Raises OSError."""
        self._kept += 1
        name = f"{self._now():.6f}.{os.getpid()}_{self._kept}.sandbox"
        envelope = b"Return-Path: <%b>\n" % sender + b"".join(b"Delivered-To: %b\n" % address for address in recipients)
        written = self.folder / "tmp" / name
        written.write_bytes(envelope + content.replace(b"\r\n", b"\n"))
        written.rename(self.folder / "new" / name)


def open_sandbox(reactor: Any, maildir: Maildir) -> int:
    """Open a sandbox on loopback that keeps its mail in `maildir`; the port where it listens."""
    port: int = reactor.listenTCP(0, Sandbox(maildir), interface="127.0.0.1").getHost().port
    return port


class Sandbox(Factory):
    """Makes one dialogue for each connection; all of them keep their mail in the same Maildir."""

    noisy = False

    def __init__(self, maildir: Maildir) -> None:
        self._maildir = maildir

    def buildProtocol(self, addr: object) -> Dialogue:
        """The dialogue with a client that has just connected."""
        return Dialogue(self._maildir)


class Dialogue(Protocol):
    """One connection. Commands are answered in their order, however many come at once."""

    def __init__(self, maildir: Maildir) -> None:
        self._maildir = maildir
        self._waiting = bytearray()
        self._searched = 0  # octets of a mail's content in which no end was found
        self._in_data = False
        self._sender: bytes | None = None
        self._recipients: list[bytes] = []

    def connectionMade(self) -> None:
        """Greet."""
        self._say("220 sandbox ESMTP, keeps every mail")

    def dataReceived(self, data: bytes) -> None:
        """Take octets, and answer whatever is whole."""
        self._waiting += data
        while self._content() if self._in_data else self._line():
            pass

    def _say(self, reply: str) -> None:
        assert self.transport is not None
        self.transport.write(reply.encode() + b"\r\n")

    def _end(self, reply: str) -> bool:
        assert self.transport is not None
        self._say(reply)
        self._waiting.clear()
        self.transport.loseConnection()
        return False

    def _line(self) -> bool:
        """Answer one command, if a whole one is there; whether another may follow."""
        end = self._waiting.find(b"\r\n")
        if end < 0:
            return self._end("500 5.5.2 Line too long") if len(self._waiting) > _MAX_LINE else False
        verb, _, argument = bytes(self._waiting[:end]).partition(b" ")
        del self._waiting[: end + 2]
        match verb.upper():
            case b"EHLO" | b"HELO":
                self._forget()
                self._say(_EHLO if verb.upper() == b"EHLO" else "250 sandbox")
            case b"MAIL":
                self._mail(_PATH.fullmatch(argument))
            case b"RCPT":
                self._rcpt(_PATH.fullmatch(argument))
            case b"DATA":
                self._data()
            case b"RSET":
                self._forget()
                self._say("250 2.0.0 Ok")
            case b"NOOP":
                self._say("250 2.0.0 Ok")
            case b"QUIT":
                return self._end("221 2.0.0 Bye")
            case _:
                self._say("500 5.5.1 Not a command of mine")
        return True

    def _forget(self) -> None:
        self._sender, self._recipients = None, []

    def _mail(self, path: re.Match[bytes] | None) -> None:
        if path is None:
            self._say("501 5.5.4 MAIL FROM:<address>")
        elif self._sender is not None:
            self._say("503 5.5.1 One mail at a time")
        else:
            self._sender = path[1]
            self._say("250 2.1.0 Ok")

    def _rcpt(self, path: re.Match[bytes] | None) -> None:
        if path is None:
            self._say("501 5.5.4 RCPT TO:<address>")
        elif self._sender is None:
            self._say("503 5.5.1 MAIL first")
        else:
            self._recipients.append(path[1])
            self._say("250 2.1.5 Ok")

    def _data(self) -> None:
        if not self._recipients:
            self._say("503 5.5.1 RCPT first")
            return
        self._say("354 End with a line that holds a dot alone")
        self._in_data = True
        self._waiting[:0] = b"\r\n"  # so that a dot in the very first line is at the start of one like any other
        self._searched = 0

    def _content(self) -> bool:
        """Keep the mail, if its end is there; whether a command may follow."""
        end = self._waiting.find(_END, self._searched)
        if end < 0:
            self._searched = max(0, len(self._waiting) - len(_END) + 1)
            return self._end("552 5.3.4 Too large") if len(self._waiting) > _MAX_SIZE else False
        content = bytes(self._waiting[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]
        del self._waiting[: end + len(_END)]
        try:
            self._maildir.keep(self._sender or b"", self._recipients, content)
        except OSError as error:
            self._say(f"452 4.3.1 Not kept: {error.strerror}")
        else:
            self._say(f"250 2.0.0 Kept {len(content)} octets")
        self._in_data = False
        self._forget()
        return True
