"""Intake: makes what an application hands in durable, and only then lets it be acknowledged.

One for all listeners. It decides what `smtp.server` cannot know: whether there is room on the disk, whether the
spool works, whether this client has its rate, where an address leads. Small mails stand in memory until their one
commit; what grows larger is written to a file while it arrives.

Failure: whatever the spool cannot do is answered 451 or 452 and leaves nothing behind; never 250 and never 5xx, so
that no application throws its mail away for trouble of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from twisted.internet.defer import Deferred
from twisted.mail.interfaces import IMessageDelivery
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.addresses import Rules
from relay.envelope import Envelope, Recipient
from relay.events import Events
from relay.limits import Window
from relay.metrics import Metrics
from relay.reply import Reply
from relay.smtp.data.header import head
from relay.smtp.submission import Findings, Refused, Rewriting, Session
from relay.spool.spool import LARGE, BodyWriter, Spool, SpoolFull, Submission

DISK = (Reply(452, "4.3.1", ("the disk is almost full, try again later",)), "disk")
SPOOL = (Reply(451, "4.3.0", ("the mail could not be written down, try again later",)), "spool")
RATE = (Reply(451, "4.7.1", ("too many messages, try again later",)), "rate")


@dataclass(frozen=True, slots=True)
class Policy:
    """What of the configuration the intake goes by. `min_free` is in octets; `by` is client or sender."""

    hostname: str
    rules: Rules
    min_free: int
    by: str


@implementer(IMessageDelivery)
class Intake:
    """See the module's docstring. `wall` gives the system's time, for the dates in header fields.

    received  mails taken since the start
    deliver   is told of each of them (`added`)
    """

    def __init__(
        self,
        policy: Policy,
        spool: Spool,
        window: Window,
        added: Callable[[Submission], None],
        now: Callable[[], float],
        wall: Callable[[], float],
        events: Events,
        metrics: Metrics,
    ) -> None:
        self.policy = policy
        self.window = window
        self.received = 0
        self._spool = spool
        self.deliver = added
        self._now = now
        self._wall = wall
        self._events = events
        self._metrics = metrics

    @property
    def taking(self) -> bool:
        """Whether a mail would be taken now."""
        health = self._spool.health
        return health.writable and health.free_bytes >= self.policy.min_free

    def receivedHeader(self, helo: tuple[bytes, bytes], origin: str, recipients: list[str]) -> bytes:
        """Nothing: our `Received:` names the mail's id, and is made when that is known."""
        return b""

    def validateFrom(self, helo: tuple[bytes, bytes], origin: str) -> str:
        """The sender as it goes on. Raises Refused: no space, no working spool, or the rate is used up."""
        health = self._spool.health
        if not health.writable:
            raise Refused(*SPOOL)
        if health.free_bytes < self.policy.min_free:
            raise Refused(*DISK)
        key = origin.lower() if self.policy.by == "sender" else helo[1].decode()
        now = self._now()
        if not self.window.allows(key, now):
            raise Refused(*RATE)
        self.window.count(key, now)
        return self.policy.rules.sender(origin)

    def rewriting(self, origin: str, sender: str) -> Rewriting | None:
        """From: holds `sender` wherever it held `origin`; None if they are the same."""
        return None if sender == origin else partial(self.policy.rules.rewrite_from, old=origin, new=sender)

    def validateTo(self, user: str) -> None:
        """Everybody is taken: a provider may know better."""

    def begin(self, session: Session, sender: str, recipients: tuple[Recipient, ...], ret: str, envid: str) -> Arrival:
        """One mail on its way in."""
        return Arrival(self, session, sender, self.policy.rules.expand(recipients), ret, envid)

    def refused(self, client: str, reply: Reply, reason: str) -> None:
        """An application was refused for a reason that counts."""
        self._metrics.refused[reason].inc()
        self._events.refused(reason=reason, reply=reply, client=client)

    def taken(self, submission: Submission) -> None:
        """A mail is durable: count it, and say so."""
        self.received += 1
        self._metrics.received.inc()
        self._events.received(submission.envelope)


class Arrival:
    """One mail on its way in: see `relay.smtp.submission.Incoming`.

    origin  where else it lies, to be known after a restart (see Submission); "" for what comes over a connection
    at      when it was handed in, in seconds since the epoch by the wall's clock; None: now
    """

    __slots__ = (
        "_envid",
        "_intake",
        "_pieces",
        "_recipients",
        "_ret",
        "_sender",
        "_session",
        "_size",
        "_writer",
        "at",
        "origin",
    )

    def __init__(
        self,
        intake: Intake,
        session: Session,
        sender: str,
        recipients: tuple[Recipient, ...],
        ret: str,
        envid: str,
    ) -> None:
        self._intake = intake
        self._session = session
        self._sender = sender
        self._recipients = recipients
        self._ret = ret
        self._envid = envid
        self._pieces: list[bytes] = []
        self._size = 0
        self._writer: BodyWriter | None = None
        self.origin = ""
        self.at: float | None = None

    def write(self, octets: bytes) -> Deferred[None] | None:
        """Take a piece; a Deferred says: pause until it fires."""
        self._size += len(octets)
        if self._writer is not None:
            return self._writer.write(octets)
        self._pieces.append(octets)
        if self._size <= LARGE:
            return None
        self._writer = self._intake._spool.new_body()
        body = b"".join(self._pieces)
        self._pieces.clear()
        return self._writer.write(body)

    def finish(self, findings: Findings) -> Deferred[str]:
        """Make it durable; fires with its uuid, or fails with Refused."""
        answer: Deferred[str] = Deferred()
        pieces, writer = self._pieces, self._writer
        if writer is not None:
            submission = self._submission(writer, findings)
            durable = Deferred.fromCoroutine(self._submit_large(submission, writer))
        else:
            submission = self._submission(pieces[0] if len(pieces) == 1 else b"".join(pieces), findings)
            durable = self._intake._spool.submit(submission)
        durable.addCallbacks(self._durable, self._not_durable, (submission, answer), {}, (answer,))
        return answer

    def abandon(self) -> None:
        """Forget it."""
        self._pieces.clear()
        if self._writer is not None:
            self._writer.abandon()

    async def _submit_large(self, submission: Submission, writer: BodyWriter) -> None:
        try:
            await writer.finish(submission.envelope.uuid)
            await self._intake._spool.submit(submission)
        except Exception:
            writer.abandon()
            raise

    def _submission(self, body: bytes | BodyWriter, findings: Findings) -> Submission:
        intake = self._intake
        key, uuid = intake._spool.next_id()
        at = intake._wall() if self.at is None else self.at
        top = head(intake.policy.hostname, self._session, uuid, at, findings)
        envelope = Envelope(
            key,
            uuid,
            self._sender,
            self._recipients,
            intake._now(),
            len(top) + self._size,
            findings.eight_bit,
            self._ret,
            self._envid,
            self._session.client,
        )
        return Submission(envelope, top, body, origin=self.origin)

    def _durable(self, _: None, submission: Submission, answer: Deferred[str]) -> None:
        """The application is told before its mail goes on: it has waited for that."""
        self._intake.taken(submission)
        answer.callback(submission.envelope.uuid)
        if self._writer is not None and (body := self._writer.whole()) is not None:
            submission = replace(submission, body=body)
        self._intake.deliver(submission)

    def _not_durable(self, failure: Failure, answer: Deferred[str]) -> None:
        answer.errback(self._refusal(failure))

    def _refusal(self, failure: Failure) -> Refused:
        """Say why to the log, and 4xx to the application."""
        self._intake._events.error(f"a mail could not be written down: {failure.value}")
        return Refused(*(DISK if failure.check(SpoolFull) else SPOOL))
