"""Smtp: what this command says to the daemon, and what it hears (RFC 5321).

Everything waits: a greeting for GREETING seconds at most, a reply for REPLY. What is none, and a connection that is
lost, count as a reply that says "later".
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from relay.sendmail.settings import Place

GREETING = 2.0
REPLY = 60.0

_LINE = re.compile(rb"([2-5][0-9]{2})([ -])?(.*)")
_LONGEST = 64 * 1024
_PIECE = 256 * 1024
_AT_ONCE = 100  # commands on their way before their replies are read


class NotNow(Exception):
    """The daemon does not take it now, or nobody knows whether it did; the text says what happened."""


class Refused(Exception):
    """The daemon refuses it; the text is what it said."""


class Reply(NamedTuple):
    """One reply: its code and its lines."""

    code: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.code} {' '.join(self.lines)}"

    def judge(self) -> None:
        """Raise what it means where it is not the good answer."""
        if self.code >= 500:
            raise Refused(str(self))
        if self.code >= 400:
            raise NotNow(str(self))


class Mail(NamedTuple):
    """A mail but for its recipients; the parameters are as in Arguments."""

    sender: str
    content: bytes
    notify: str
    ret: str
    envid: str


class Taken(NamedTuple):
    """What became of a transaction's recipients: taken, refused with which reply, and too many for one mail."""

    taken: list[str]
    refused: list[tuple[str, Reply]]
    later: list[tuple[str, Reply]]
    too_many: list[str]


class Connection:
    """A connection on which the daemon has greeted us, and said what it offers.

    hostname  what the daemon calls itself
    """

    def __init__(self, link: socket.socket) -> None:
        self._socket = link
        self._unread = b""
        greeting = self.read(GREETING)
        greeting.judge()
        self.greeting = greeting
        self.hostname = (greeting.lines[0].split() or [""])[0]
        self._offered: set[str] = set()
        self._begun = False

    def hello(self) -> None:
        """Say EHLO."""
        reply = self.ask(b"EHLO localhost")
        reply.judge()
        self._offered = {line.split()[0].upper() for line in reply.lines[1:] if line.strip()}

    def ask(self, line: bytes) -> Reply:
        """Send one command; its reply."""
        self.write(line + b"\r\n")
        return self.read()

    def write(self, octets: bytes) -> None:
        """Send all of it."""
        view = memoryview(octets)
        try:
            self._socket.settimeout(REPLY)
            for start in range(0, len(view), _PIECE):
                self._socket.sendall(view[start : start + _PIECE])
        except OSError as error:
            raise NotNow(f"the connection was lost: {error.strerror or error}") from None

    def read(self, wait: float = REPLY) -> Reply:
        """The next reply, whole within `wait` seconds."""
        lines: list[str] = []
        deadline = time.monotonic() + wait
        while True:
            match = _LINE.fullmatch(self._line(deadline).rstrip(b"\r"))
            if match is None:
                raise NotNow("what answers there does not speak SMTP")
            lines.append(match[3].decode("utf-8", "backslashreplace"))
            if match[2] != b"-":
                return Reply(int(match[1]), tuple(lines))

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._unread:
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                octets = self._socket.recv(_LONGEST)
            except OSError as error:
                raise NotNow(f"no reply came: {error.strerror or error}") from None
            if not octets or len(self._unread) > _LONGEST:
                raise NotNow("the connection was lost while a reply was due")
            self._unread += octets
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def send(self, mail: Mail, recipients: Sequence[str]) -> Taken:
        """One transaction. Raises NotNow or Refused where that concerns all recipients."""
        if self._begun:
            self.ask(b"RSET").judge()
        self._begun = True
        wide = not (mail.sender.isascii() and all(map(str.isascii, recipients)))
        self.ask(self._mail(mail, wide)).judge()
        suffix = f" NOTIFY={mail.notify}" if mail.notify and "DSN" in self._offered else ""
        found = Taken([], [], [], [])
        at_once = _AT_ONCE if "PIPELINING" in self._offered else 1
        for start in range(0, len(recipients), at_once):
            some = recipients[start : start + at_once]
            self.write(
                b"".join([f"RCPT TO:<{address}>{suffix}\r\n".encode(errors="surrogateescape") for address in some])
            )
            for address in some:
                _sort(address, self.read(), found)
        if not found.taken:
            return found
        reply = self.ask(b"DATA")
        if reply.code != 354:
            reply.judge()
            raise NotNow(str(reply))
        self.write(_stuffed(mail.content) + b".\r\n")
        reply = self.read()
        self._begun = False
        reply.judge()
        return found

    def _mail(self, mail: Mail, wide: bool) -> bytes:
        words = [f"MAIL FROM:<{mail.sender}>"]
        if "SIZE" in self._offered:
            words.append(f"SIZE={len(mail.content)}")
        if "8BITMIME" in self._offered and not mail.content.isascii():
            words.append("BODY=8BITMIME")
        if wide:
            words.append("SMTPUTF8")
        if "DSN" in self._offered:
            words += [f"RET={mail.ret}"] * bool(mail.ret) + [f"ENVID={mail.envid}"] * bool(mail.envid)
        return " ".join(words).encode(errors="surrogateescape")

    def close(self) -> None:
        """Say goodbye and do not wait for the answer."""
        try:
            self._socket.settimeout(GREETING)
            self._socket.sendall(b"QUIT\r\n")
        except OSError:
            pass
        self._socket.close()


def connect(places: Iterable[Place]) -> Connection | None:
    """A connection to the first of `places` where somebody answers; None if nobody does.

    Raises NotNow or Refused: somebody answers, and takes no mail.
    """
    for place in places:
        link = _dial(place)
        if link is not None:
            return Connection(link)
    return None


def _dial(place: Place) -> socket.socket | None:
    family = socket.AF_UNIX if place.path else socket.AF_INET6 if ":" in place.host else socket.AF_INET
    link = None
    try:
        link = socket.socket(family)
        link.settimeout(GREETING)
        link.connect(place.path or (place.host, place.port))
        if not place.path:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(place.preamble)
    except OSError:
        if link is not None:
            link.close()
        return None
    return link


def _sort(address: str, reply: Reply, found: Taken) -> None:
    if reply.code < 300:
        found.taken.append(address)
    elif reply.code == 452 and found.taken and not reply.lines[0].startswith("4.3"):
        found.too_many.append(address)
    elif reply.code < 500:
        found.later.append((address, reply))
    else:
        found.refused.append((address, reply))


def _stuffed(content: bytes) -> bytes:
    """`content` with a second dot before each that begins a line (RFC 5321, 4.5.2)."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed
