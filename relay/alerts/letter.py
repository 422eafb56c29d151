"""Letter: tells alerts by mail, sent straight to a provider that is up and never through the queue.

A connection of its own is opened for each mail, so nothing that waits stands before it. Who is refused by one provider
is tried at the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import idna
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from relay.alerts.decision import Change
from relay.alerts.outbox import Outdated
from relay.bounce import mime
from relay.bounce.words import closing, paragraph
from relay.config.names import split_address
from relay.envelope import Recipient
from relay.outcome import Delivered
from relay.upstream.sender import Batch, Connection, Fault

PATIENCE = 60.0
"""Seconds that a connection may need until it is open, and a mail until it is taken."""

_SUBJECTS = {"raised": "{}: {}", "repeated": "{}: {}, still", "cleared": "{}: {} is over"}


class Carrier(Protocol):
    """A provider, as far as it is needed here: a Pool is one."""

    name: str

    @property
    def takes_mail(self) -> bool:
        """Whether it is up."""

    def dial(self, pipelining: bool, /) -> Deferred[Connection]:
        """Open a connection that is nobody else's; fails with Fault."""


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What stands on every letter. `hostname` is ASCII; the addresses need not be."""

    hostname: str
    instance: str
    from_: str
    to: Sequence[str]


class Letters:
    """See the module's docstring.

    carriers     the providers of the moment, in order of preference
    wall         seconds since the epoch
    random_bits  random.getrandbits or what stands for it
    warn         takes a line for the log
    """

    def __init__(
        self,
        letterhead: Letterhead,
        carriers: Callable[[], Iterable[Carrier]],
        clock: IReactorTime,
        wall: Callable[[], float],
        random_bits: Callable[[int], int],
        warn: Callable[[str], None],
    ) -> None:
        self._letterhead = letterhead
        self._carriers = carriers
        self._clock = clock
        self._wall = wall
        self._random_bits = random_bits
        self._warn = warn

    async def carry(self, change: Change, outdated: Outdated) -> None:
        """Send it to everybody it is for; who could not be sent it is a line in the log."""
        octets = letter(self._letterhead, change, self._wall(), self._random_bits(64))
        left: Sequence[str] = self._letterhead.to
        trouble = "no provider is up"
        for carrier in [each for each in self._carriers() if each.takes_mail]:
            if outdated():
                return
            left, trouble = await self._over(carrier, octets, left)
            if not left:
                return
        if not outdated():
            self._warn(f"the alert {change.alert} could not be mailed to {', '.join(left)}: {trouble}")

    async def _over(self, carrier: Carrier, octets: bytes, to: Sequence[str]) -> tuple[Sequence[str], str]:
        """Over one provider: who was not sent it, and what was said last of that."""
        try:
            connection = await carrier.dial(False).addTimeout(PATIENCE, self._clock)
        except Fault as fault:
            return to, f"{carrier.name}: {fault.outcome.reply}"
        except defer.TimeoutError:
            return to, f"{carrier.name}: no connection within {PATIENCE:g} s"
        recipients = tuple([Recipient(address) for address in to])
        timer = self._clock.callLater(PATIENCE, connection.abort)
        try:
            result = await connection.deliver(Batch(self._letterhead.from_, recipients, b"", octets, len(octets)))
        finally:
            if timer.active():
                timer.cancel()
            connection.quit()
        left, trouble = [], ""
        for address, outcome in zip(to, result.outcomes, strict=True):
            if not isinstance(outcome, Delivered):
                left.append(address)
                trouble = f"{carrier.name}: {outcome.reply}"
        return left, trouble


def letter(letterhead: Letterhead, change: Change, wall: float, tail: int) -> bytes:
    """The whole mail, in ASCII, with CRLF line ends. `tail` makes its id unique."""
    subject = _SUBJECTS[change.state].format(f"mailrelay {letterhead.instance}", change.alert)
    text = [
        *paragraph(change.message),
        "",
        f"Alert:    {change.alert}",
        f"State:    {change.state}",
        f"Since:    {mime.date(change.since)}",
        f"Instance: {letterhead.instance}",
        "",
        *closing(letterhead.hostname),
    ]
    return b"".join(
        [
            mime.field("From", _in_ascii(letterhead.from_, letterhead.hostname)),
            _to_field(letterhead.to),
            mime.field("Subject", subject),
            mime.field("Date", mime.date(wall)),
            mime.field("Message-ID", f"<{int(wall * 1000):x}.{tail:016x}@{letterhead.hostname}>"),
            mime.field("Auto-Submitted", "auto-generated"),
            b"MIME-Version: 1.0\r\n",
            mime.text_part("\n".join(text)),
        ]
    )


def _to_field(addresses: Sequence[str]) -> bytes:
    """One field with all of them, each on a line."""
    fields = [mime.to_field(address).removeprefix(b"To: ").removesuffix(b"\r\n") for address in addresses]
    return b"To: " + b",\r\n ".join(fields) + b"\r\n"


def _in_ascii(address: str, hostname: str) -> str:
    """`address` with the A-label of its domain; where its name is not ASCII, one of ours."""
    local, domain = split_address(address)
    try:
        return f"{local}@{domain if domain.isascii() else idna.encode(domain, uts46=True).decode()}".encode(
            "ascii"
        ).decode()
    except (UnicodeError, idna.IDNAError):
        return f"mailrelay@{hostname}"
