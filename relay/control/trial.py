"""Trial: a mail sent to see whether mail can be sent, and what happens to it step by step.

It goes the way of every other mail, also through the queue: what it meets is what mail meets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from relay.bounce import mime
from relay.control.channel import Answer, CommandFailed, Request
from relay.delivery.operator import Operator
from relay.delivery.reasons import Reasons
from relay.envelope import Recipient
from relay.events import Entry, Events
from relay.intake import Intake
from relay.smtp.grammar import paths
from relay.smtp.grammar.paths import PathError
from relay.smtp.submission import Findings, Refused, Session
from relay.spool.spool import Spool

PATIENCE = 2.0
"""Seconds without a step after which it is said what the mail waits for."""

LONGEST = 3600.0
"""Seconds that anybody may ask this to wait."""

_TIMES = re.compile(r"\d+ (?:d|h|min|s)\b")

_TEXT = (
    "This mail was sent by `mailrelay send-test` to see whether mail can be sent.\r\n"
    "That you read it says that it can.\r\n"
)


class Trial:
    """See the module's docstring. `sender` is who it is from where nobody is named; it may change at any time."""

    def __init__(
        self,
        sender: str,
        intake: Intake,
        spool: Spool,
        operator: Operator,
        reasons: Reasons,
        events: Events,
        clock: IReactorTime,
    ) -> None:
        self.sender = sender
        self._intake = intake
        self._spool = spool
        self._operator = operator
        self._reasons = reasons
        self._events = events
        self._clock = clock

    async def command(self, request: Request, answer: Answer) -> Mapping[str, object]:
        """`to` an address, `from` another (or none), and wait for `seconds` at most."""
        to, sender, seconds = request.get("to"), request.get("from") or self.sender, request.get("seconds")
        if not isinstance(to, str) or not isinstance(sender, str) or not to:
            raise CommandFailed("to and from are addresses")
        if not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST:
            raise CommandFailed(f"seconds are a number of at most {LONGEST:.0f}")
        uuid = await self._hand_in(_address(sender), _address(to))
        steps = _Steps(self._clock)
        self._events.follow(uuid, steps.add)
        try:
            await answer.say({"step": f"taken, durable, and queued as {uuid}"})
            return {"id": uuid, "result": await self._watch(uuid, steps, answer, self._clock.seconds() + seconds)}
        finally:
            self._events.leave(uuid)

    async def _hand_in(self, sender: str, to: str) -> str:
        """Make the mail durable; its id. Raises CommandFailed."""
        rules = self._intake.policy.rules
        sender, to = rules.sender(sender), rules.complete(to)
        fields = [
            mime.from_field(sender) if sender.isascii() else f"From: {sender}\r\n".encode(),
            mime.to_field(to),
            mime.field("Subject", f"Test of mailrelay at {self._intake.policy.hostname}"),
            mime.field("Auto-Submitted", "auto-generated"),
        ]
        octets = b"".join([*fields, b"\r\n", _TEXT.encode()])
        session = Session("control", "localhost", "local")
        arrival = self._intake.begin(session, sender, (Recipient(to),), "", "")
        arrival.write(octets)
        findings = Findings(has_header=True, has_date=False, has_message_id=False, eight_bit=not octets.isascii())
        try:
            return await arrival.finish(findings)
        except Refused as refused:
            raise CommandFailed(str(refused.reply)) from None

    async def _watch(self, uuid: str, steps: _Steps, answer: Answer, until: float) -> str:
        """Say each step; how it ended, or "waiting"."""
        said = ""
        while True:
            entry = await steps.next(min(PATIENCE, until - self._clock.seconds()))
            if entry is not None:
                await answer.say({"step": _sentence(entry)})
                if entry["event"] in ("finished", "held"):
                    return str(entry.get("result", "held"))
            elif self._clock.seconds() >= until:
                return "waiting"
            else:
                why = await self._why(uuid)
                if why and _TIMES.sub("", why) != said:
                    await answer.say({"step": why})
                said = _TIMES.sub("", why)
            await answer.flush()

    async def _why(self, uuid: str) -> str:
        mail = await self._spool.find(uuid)
        return "" if mail is None else " ".join(self._reasons.sentences(self._operator.view(mail))[1:])


class _Steps:
    """Lines of the log about one mail, in their order, for somebody who waits for them."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._come: list[Entry] = []
        self._wake: Callable[[], None] | None = None

    def add(self, entry: Entry) -> None:
        """One more."""
        self._come.append(entry)
        if self._wake is not None:
            self._wake()

    async def next(self, seconds: float) -> Entry | None:
        """The next one, or None if none comes for so long."""
        if not self._come:
            waiting: Deferred[None] = Deferred()
            timer = self._clock.callLater(max(seconds, 0.0), waiting.callback, None)

            def wake() -> None:
                if timer.active():
                    timer.cancel()
                    waiting.callback(None)

            self._wake = wake
            await waiting
            self._wake = None
        return self._come.pop(0) if self._come else None


def _sentence(entry: Entry) -> str:
    event, provider = str(entry["event"]), str(entry.get("provider", ""))
    words = [event, f"by {provider}" if provider else "", f"after {entry['seconds']} s" if "seconds" in entry else ""]
    if event == "finished":
        words[0] = f"finished: {entry['result']}"
    reply = entry.get("reply", "")
    return " ".join(filter(None, words)) + (f": {reply}" if reply else "")


def _address(text: str) -> str:
    try:
        return paths.parse(text.encode("utf-8", "surrogateescape"))
    except PathError as error:
        raise CommandFailed(f"{text}: {error}") from None
