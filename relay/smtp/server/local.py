"""Local: SMTP as this host's programs speak it to us (RFC 5321, with 1870, 2034, 2920, 3030, 3461, 6152 and 6531).

Only loopback and unix sockets are served. A mail is acknowledged only once it is durable, and nothing that follows it
is looked at before that.

Failure: an exception of ours is a 451 to the client and goes to `unexpected`; the connection stays in step, or ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from relay.reply import Reply
from relay.smtp.data.receive import TOO_LARGE
from relay.smtp.grammar.commands import is_foreign, parse_helo, parse_mail, parse_rcpt, verb
from relay.smtp.grammar.paths import is_bare
from relay.smtp.server import peer, said
from relay.smtp.server.policy import Policy
from relay.smtp.server.proxied import Proxied
from relay.smtp.server.reception import Reception
from relay.smtp.server.transaction import Transaction
from relay.smtp.submission import Refused

FRESH = 1.0
"""Seconds that a connection has to begin its first mail, also where the server stops: who has just come cannot know."""

TALK_LIMIT = 100
"""Commands that move nothing (NOOP, RSET, VRFY, HELP) without a mail."""


class Owner(Protocol):
    """Whose connections they are: what they have in common, and who counts them."""

    policy: Policy
    banner: bytes
    hello: bytes
    extensions: bytes
    is_stopping: bool

    def admit(self, connection: LocalSMTP) -> bool:
        """Count a connection in, if there are not too many."""

    def lost(self, connection: LocalSMTP) -> None:
        """Forget a connection."""


class LocalSMTP(Reception):
    """One connection with a program on this host."""

    owner: Owner

    def __init__(self) -> None:
        super().__init__()
        self._identity = (b"", b"")
        self._talk = 0
        self._opened = 0.0
        self._is_fresh = True
        self._ending: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Greet, or say why not."""
        self.opened()
        self._opened = self.clock.seconds()
        client = peer.local_client(self.transport)
        self.client = client or peer.host_of(self.transport.getPeer())
        if client is None:
            self._not_served(said.NOT_LOCAL, "not_local")
        elif self.owner.is_stopping:
            self._not_served(said.STOPPING, "")
        elif not self.owner.admit(self):
            self._not_served(said.TOO_MANY_CONNECTIONS, "connections")
        elif self.has_spoken or (isinstance(self.transport, Proxied) and self.transport.ahead):
            self.turn_away(said.TOO_EARLY)
        else:
            self.say(self.owner.banner)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        super().connectionLost(reason)
        if self._ending is not None and self._ending.active():
            self._ending.cancel()
        self.owner.lost(self)

    def stop(self) -> None:
        """The server stops: end the connection, but not in the middle of a mail's content, nor as it begins."""
        left = self._opened + FRESH - self.clock.seconds()
        if self._is_fresh and left > 0:
            self._ending = self.clock.callLater(left, super().stop)
        else:
            super().stop()

    def taken(self) -> None:
        """A mail was acknowledged."""
        self._talk = 0
        self._is_fresh = False
        if self.owner.is_stopping:
            super().stop()

    def line_received(self, line: bytes) -> None:
        """A command, or what is none."""
        if line.endswith((b" ", b"\t")) and line[:1].isalpha():
            line = line.rstrip(b" \t")  # RFC 5321, 4.1.1
        command = self._commands.get(verb(line))
        if command is None or b"\0" in line or b"\r" in line:
            self._no_command(line)
            return
        try:
            command(self, line)
        except Exception:
            self.fault()
            self.reply(said.TROUBLE)

    def _not_served(self, reply: Reply, reason: str) -> None:
        if reason:
            self.delivery.refused(self.client, reply, reason)
        self.close(reply)

    def _no_command(self, line: bytes) -> None:
        if is_foreign(line + b"\r\n"):
            self.turn_away(said.FOREIGN)
        elif line[:4].upper() == b"BDAT":
            self.turn_away(said.CHUNK)  # octets follow, and nobody knows how many
        elif not line:
            self.reply(said.EMPTY)
        elif b"\0" in line or b"\r" in line:
            self.reply(said.CONTROLS)
        else:
            self.reply(said.UNKNOWN)

    def _ehlo(self, line: bytes) -> None:
        self._greeted(line, "ESMTP", self.owner.extensions)

    def _helo(self, line: bytes) -> None:
        self._greeted(line, "SMTP", self.owner.hello)

    def _greeted(self, line: bytes, protocol: str, answer: bytes) -> None:
        name = parse_helo(line)
        if isinstance(name, Reply):
            self.reply(name)
        elif self.has_spoken:
            self.turn_away(said.TOO_EARLY)
        else:
            self.reset()
            self.hello = name
            self.protocol = protocol
            self._identity = (name.encode(), self.client.encode())
            self.say(answer)

    def _mail(self, line: bytes) -> None:
        if self.hello is None or self.transaction is not None:
            self.reply(said.HELLO_FIRST if self.hello is None else said.ONE_MAIL)
            return
        policy = self.owner.policy
        mail = parse_mail(line)
        if isinstance(mail, Reply):
            self.refuse(mail, "syntax")
        elif mail.size > policy.rules.max_size:
            self.refuse(TOO_LARGE, "size")
        else:
            origin = mail.sender
            if origin and is_bare(origin):
                origin = f"{origin}@{policy.domain}"
            try:
                sender = self.delivery.validateFrom(self._identity, origin)
            except Refused as refused:
                self.refuse(refused.reply, refused.reason)
                return
            rewrite = self.delivery.rewriting(origin, sender)
            self.transaction = Transaction(mail, sender, policy.rules, rewrite)
            self.say(said.SENDER)

    def _rcpt(self, line: bytes) -> None:
        transaction = self.transaction
        if transaction is None or transaction.chunks is not None:
            unbegun = said.HELLO_FIRST if self.hello is None else said.MAIL_FIRST
            self.reply(unbegun if transaction is None else said.CHUNKS_BEGAN)
            return
        policy = self.owner.policy
        recipient = parse_rcpt(line, smtp_utf8=transaction.mail.smtp_utf8)
        if isinstance(recipient, Reply):
            self.refuse(recipient, "syntax")
            return
        address = recipient.address
        if is_bare(address):
            address = policy.postmaster if address.lower() == "postmaster" else f"{address}@{policy.domain}"
            recipient = replace(recipient, address=address)
        if not transaction.has(address):
            if transaction.count >= policy.max_recipients:
                self.refuse(said.TOO_MANY_RECIPIENTS, "recipients")
                return
            try:
                self.delivery.validateTo(address)
            except Refused as refused:
                self.refuse(refused.reply, refused.reason)
                return
            transaction.add(recipient)
        self.say(said.RECIPIENT)

    def _rset(self, line: bytes) -> None:
        if line[4:]:
            self.reply(said.NO_ARGUMENT)
        else:
            self.reset()
            self._talked(said.RESET)

    def _quit(self, line: bytes) -> None:
        if line[4:]:
            self.reply(said.NO_ARGUMENT)
        else:
            self.say(said.BYE)
            self.close()

    def _noop(self, _: bytes) -> None:
        self._talked(said.RESET)

    def _vrfy(self, line: bytes) -> None:
        if line[4:]:
            self._talked(said.verify(self.owner.policy.domain))
        else:
            self.reply(said.VERIFY_WHOM)

    def _help(self, _: bytes) -> None:
        self._talked(said.COMMANDS)

    def _expn(self, _: bytes) -> None:
        self.reply(said.NO_EXPN)

    def _auth(self, _: bytes) -> None:
        self.reply(said.NO_AUTH)

    def _starttls(self, _: bytes) -> None:
        self.reply(said.NO_TLS)

    def _talked(self, answer: bytes) -> None:
        self.say(answer)
        self._talk += 1
        if self._talk == TALK_LIMIT:
            self.close(said.TOO_MUCH_TALK)

    _commands: ClassVar[Mapping[bytes, Callable[[LocalSMTP, bytes], None]]] = {
        b"EHLO": _ehlo,
        b"HELO": _helo,
        b"MAIL": _mail,
        b"RCPT": _rcpt,
        b"DATA": Reception.data,
        b"BDAT": Reception.bdat,
        b"RSET": _rset,
        b"QUIT": _quit,
        b"NOOP": _noop,
        b"VRFY": _vrfy,
        b"HELP": _help,
        b"EXPN": _expn,
        b"AUTH": _auth,
        b"STARTTLS": _starttls,
    }
