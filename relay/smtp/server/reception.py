"""Reception: a mail's content on a connection, by DATA or by BDAT, and the reply to its end.

The content always is read to its end, whatever becomes of it, so that none of it can be taken for commands.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.python.failure import Failure

from relay.reply import Reply
from relay.smtp.data.receive import TOO_LARGE, Chunks, Dots
from relay.smtp.grammar.answers import octets
from relay.smtp.grammar.commands import Bdat, parse_bdat
from relay.smtp.server import said
from relay.smtp.server.transaction import Transaction
from relay.smtp.server.wire import Wire
from relay.smtp.submission import Delivery, Refused, Session

ERROR_LIMIT = 20
"""Replies that say "not so" (RFC 5321, 4.3.2): a client that gets as many does not speak SMTP."""

_ERRORS = frozenset({500, 501, 502, 503, 504, 555})


class Reception(Wire):
    """Takes content.

    unexpected   told of every exception that is no Refused
    client       who is at the other end, as in Session
    hello        the argument of EHLO or HELO; None before it came
    protocol     as in Session
    transaction  the mail that was begun, until its content has ended
    """

    delivery: Delivery
    unexpected: Callable[[Failure, Session], None]

    def __init__(self) -> None:
        super().__init__()
        self.client = ""
        self.hello: str | None = None
        self.protocol = "SMTP"
        self.transaction: Transaction | None = None
        self._errors = 0
        self._dots = Dots()
        self._chunk = Bdat(0, last=False)
        self._left = 0  # octets of the chunk that are still to come
        self._skipping: Reply | None = None  # the reply to a chunk that nobody asked for

    @property
    def session(self) -> Session:
        """With whom we speak."""
        return Session(self.client, self.hello or "", self.protocol)

    @property
    def busy(self) -> bool:
        """Whether content is on its way in."""
        return super().busy or (self.transaction is not None and self.transaction.chunks is not None)

    def reply(self, reply: Reply) -> None:
        """Say it, and count errors: with too many the connection ends."""
        self.say(octets(reply))
        if reply.code in _ERRORS:
            self._errors += 1
            if self._errors == ERROR_LIMIT:
                self.turn_away(said.TOO_MANY_ERRORS)

    def refuse(self, reply: Reply, reason: str) -> None:
        """Say it, and report it if it counts."""
        if reason:
            self.delivery.refused(self.client, reply, reason)
        self.reply(reply)

    def turn_away(self, reply: Reply) -> None:
        """Close, since what came is not what any mail begins with."""
        self.delivery.refused(self.client, reply, "syntax")
        self.close(reply)

    def fault(self, failure: Failure | None = None) -> None:
        """An exception of ours, by default the one that is being handled."""
        self.unexpected(failure or Failure(), self.session)

    def reset(self) -> None:
        """No mail is begun."""
        if self.transaction is not None:
            self.transaction.abandon()
            self.transaction = None

    def hung_up(self) -> None:
        """Content that is not whole is forgotten; what was handed over to be made durable stands."""
        self.reader = None
        self.reset()

    def taken(self) -> None:
        """A mail was acknowledged."""
        raise NotImplementedError

    def out_of_place(self, transaction: Transaction | None) -> Reply | None:
        """Why no content may come now."""
        if transaction is None:
            return said.HELLO_FIRST if self.hello is None else said.MAIL_FIRST
        return None if transaction.count else said.NO_RECIPIENTS

    def data(self, line: bytes) -> None:
        """DATA (RFC 5321, 4.1.1.4)."""
        transaction = self.transaction
        wrong = self.out_of_place(transaction)
        if transaction is None or wrong is not None:
            self.reply(wrong or said.MAIL_FIRST)
        elif transaction.chunks is not None:
            self.reply(said.CHUNKS_BEGAN)
        elif line[4:].strip(b" "):
            self.reply(said.NO_ARGUMENT)
        else:
            try:
                self._begin(transaction)
            except Refused as refused:
                self.refuse(refused.reply, refused.reason)
                return
            if self.has_spoken:
                self.turn_away(said.TOO_EARLY)
                return
            self._dots = Dots()
            self.reader = self._data_came
            self.say(said.GO_AHEAD)

    def bdat(self, line: bytes) -> None:
        """BDAT (RFC 3030, 2): its octets follow at once, and only behind them the reply may come."""
        chunk = parse_bdat(line)
        if chunk is None:
            self.turn_away(said.CHUNK)
            return
        self._chunk = chunk
        self._left = chunk.size
        self._skipping = self.out_of_place(self.transaction)
        if self.transaction is not None and self._skipping is None:
            self._expect(self.transaction, chunk.size)
        if self._left:
            self.reader = self._chunk_came
        else:
            self._chunk_ended()

    def _begin(self, transaction: Transaction) -> None:
        mail = transaction.mail
        transaction.incoming = self.delivery.begin(
            self._session_of(transaction), transaction.sender, transaction.recipients, mail.ret, mail.envid
        )

    def _session_of(self, transaction: Transaction) -> Session:
        protocol = "UTF8SMTP" if transaction.mail.smtp_utf8 and self.protocol == "ESMTP" else self.protocol
        return Session(self.client, self.hello or "", protocol)

    def _expect(self, transaction: Transaction, size: int) -> None:
        """A chunk of that many octets begins, perhaps the first one."""
        if transaction.chunks is None:
            transaction.chunks = Chunks()
            try:
                self._begin(transaction)
            except Refused as refused:
                self._give_up(transaction, refused.reply, refused.reason)
            except Exception:
                self.fault()
                self._give_up(transaction, said.TROUBLE, "")
        if not transaction.content.grow(size) and transaction.refusal is None:
            self._give_up(transaction, TOO_LARGE, "size")

    def _give_up(self, transaction: Transaction, reply: Reply, reason: str) -> None:
        """Take nothing more of it, and say why at the end."""
        transaction.refusal = reply
        transaction.abandon()
        if reason:
            self.delivery.refused(self.client, reply, reason)

    def _data_came(self, octets: bytes) -> bytes:
        transaction = self.transaction
        assert transaction is not None
        content, rest = self._dots.feed(octets)
        transaction.content.grow(len(content))
        self._take(transaction, content)
        if rest is None:
            return b""
        self.reader = None
        self._end(transaction)
        return rest

    def _chunk_came(self, octets: bytes) -> bytes:
        piece, rest = octets[: self._left], octets[self._left :]
        self._left -= len(piece)
        transaction = self.transaction
        if self._skipping is None and transaction is not None and transaction.chunks is not None:
            self._take(transaction, transaction.chunks.feed(piece))
        if not self._left:
            self.reader = None
            self._chunk_ended()
        return rest

    def _chunk_ended(self) -> None:
        transaction = self.transaction
        if transaction is None or transaction.chunks is None or self._skipping is not None:
            self.reply(self._skipping or said.MAIL_FIRST)
        elif self._chunk.last:
            self._take(transaction, transaction.chunks.end())
            self._end(transaction)
        elif transaction.refusal is not None:
            self.reply(transaction.refusal)
        else:
            self.say(b"250 2.0.0 %d octets received\r\n" % self._chunk.size)

    def _take(self, transaction: Transaction, octets: bytes) -> None:
        """Hand on what goes on of a piece of content."""
        if transaction.refusal is not None:
            return
        try:
            octets = transaction.content.edit(octets)
            if not octets:
                if transaction.content.refused:
                    transaction.abandon()
            elif transaction.incoming is not None:
                room = transaction.incoming.write(octets)
                if room is not None:
                    self.wait_for_room(room)
        except Exception:
            self.fault()
            self._give_up(transaction, said.TROUBLE, "")

    def _end(self, transaction: Transaction) -> None:
        """The content is whole: have it made durable, or say why it is not taken."""
        self.transaction = None
        try:
            if transaction.refusal is not None:
                raise Refused(transaction.refusal)
            rest = transaction.content.end()
            incoming = transaction.incoming
            assert incoming is not None
            if rest:
                incoming.write(rest)
            done = incoming.finish(transaction.content.findings)
        except Refused as refused:
            transaction.abandon()
            self.refuse(refused.reply, refused.reason)
        except Exception:
            self.fault()
            transaction.abandon()
            self.reply(said.TROUBLE)
        else:
            self.say_later()
            done.addCallbacks(self._queued, self._not_queued)

    def _queued(self, uuid: str) -> None:
        self.taken()
        self._answered(said.queued(uuid))

    def _not_queued(self, failure: Failure) -> None:
        refused = failure.value
        if not isinstance(refused, Refused):
            self.fault(failure)
            refused = Refused(said.TROUBLE)
        if refused.reason:
            self.delivery.refused(self.client, refused.reply, refused.reason)
        self._answered(octets(refused.reply))

    def _answered(self, answer: bytes) -> None:
        try:
            self.say_now(answer)
        except Exception:  # nobody knows then what the client has heard
            self.fault()
            self.close()
