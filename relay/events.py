"""Events: the closed list of what the log says, each with its fields, and the door for what Twisted itself logs.

Every line is a dict with `time`, `level`, `event`, then `id` where one mail is meant, then the fields of that event.
Tools of other people read these names: `docs/reference/log-events.md` lists them, and a test compares.

An outcome is logged once it is durable. Nothing here is ever given a secret: not a password, not a webhook's URL.
"""

from __future__ import annotations

import errno
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, LogPublisher, formatEvent
from twisted.python.failure import Failure
from zope.interface import provider

from relay.envelope import Envelope
from relay.log import timestamp
from relay.reply import Reply

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

Entry = dict[str, object]
"""One line: JSON-ready values by name, in the order in which they are written."""

Result = Literal["expired", "bounced", "deleted", "delivered"]
"""How a mail ended: the worst that befell one of its recipients, the worst first."""

_NONE_LEFT = (errno.EMFILE, errno.ENFILE)

NAMED = 3
"""As many recipients does `received` name; a mail to a thousand is one readable line."""


class Sink(Protocol):
    """Where lines go: `relay.log.Log`, or a list in a test."""

    def write(self, entry: Entry) -> None:
        """Take one line; at once, whoever reads it."""


class Events:
    """Says what happened, as one line of `sink`; `now` gives seconds since the epoch, by the wall's clock."""

    def __init__(self, sink: Sink, now: Callable[[], float]) -> None:
        self._write = sink.write
        self._now = now
        self._followers: dict[object, Callable[[Entry], None]] = {}

    def follow(self, uuid: str, hear: Callable[[Entry], None]) -> None:
        """Have `hear` called with each line about one mail, too."""
        self._followers[uuid] = hear

    def leave(self, uuid: str) -> None:
        """No more of that."""
        self._followers.pop(uuid, None)

    # The daemon

    def started(self, *, version: str, instance: str, smtp: Sequence[str], http: Sequence[str]) -> None:
        """All listeners are open. `smtp`, `http`: where, as people write it ("127.0.0.1:2525")."""
        self._say(
            "info",
            "started",
            {
                "version": version,
                "instance": instance,
                "smtp": list(smtp),
                "http": list(http),
            },
        )

    def reloaded(self, message: str) -> None:
        """A new configuration is in force; `message` names what needs a restart, if anything."""
        self._say("info", "reloaded", {"message": message})

    def stopping(self) -> None:
        """Listeners close, transactions under way end."""
        self._say("info", "stopping", {})

    def stopped(self) -> None:
        """Everything is durable and closed; the last line."""
        self._say("info", "stopped", {})

    # Taking mail

    def received(self, envelope: Envelope) -> None:
        """A mail is durable and its 250 leaves."""
        recipients = envelope.recipients
        self._say(
            "info",
            "received",
            {
                "id": envelope.uuid,
                "from": envelope.sender,
                "to": [recipient.address for recipient in recipients[:NAMED]],
                "recipients": len(recipients),
                "size": envelope.size,
                "client": envelope.client,
            },
        )

    def refused(self, *, reason: str, reply: Reply, client: str, sender: str = "", to: str = "") -> None:
        """An application was told 4xx or 5xx. `reason` is a label of `mailrelay_messages_refused_total`."""
        self._say(
            "warning",
            "refused",
            {
                "reason": reason,
                "reply": str(reply),
                "client": client,
                "from": sender,
                "to": to,
            },
        )

    # Outcomes: `to` are the recipients of one transaction that got one reply

    def delivered(self, uuid: str, to: Sequence[str], provider: str, reply: Reply, seconds: float) -> None:
        """A provider took it; `seconds` from the beginning of the transaction to the reply, as in the next three."""
        self._outcome("info", "delivered", uuid, to, provider, reply, seconds)

    def deferred(self, uuid: str, to: Sequence[str], provider: str, reply: Reply, seconds: float) -> None:
        """Not now; it is tried again."""
        self._outcome("warning", "deferred", uuid, to, provider, reply, seconds)

    def rejected(self, uuid: str, to: Sequence[str], provider: str, reply: Reply, seconds: float) -> None:
        """This provider refuses it; another one may still take it."""
        self._outcome("warning", "rejected", uuid, to, provider, reply, seconds)

    def uncertain(self, uuid: str, to: Sequence[str], provider: str, reply: Reply, seconds: float) -> None:
        """The final dot had left and no reply came."""
        self._outcome("warning", "uncertain", uuid, to, provider, reply, seconds)

    # The end of a recipient or of a mail

    def bounced(self, uuid: str, to: Sequence[str], provider: str, reply: str, report: str = "") -> None:
        """Refused for good; `report` is the id of the mail that tells the sender, "" where none is owed."""
        self._end("bounced", uuid, to, provider=provider, reply=reply, report=report)

    def expired(self, uuid: str, to: Sequence[str], provider: str, reply: str, report: str = "") -> None:
        """Too old; `reply` is what was said last."""
        self._end("expired", uuid, to, provider=provider, reply=reply, report=report)

    def held(self, uuid: str, to: Sequence[str], reply: str) -> None:
        """Waits for a person; `reply` says why."""
        self._end("held", uuid, to, reply=reply)

    def released(self, uuid: str, to: Sequence[str]) -> None:
        """A person lets it go on."""
        self._say("info", "released", {"id": uuid, "to": list(to)})

    def deleted(self, uuid: str, to: Sequence[str]) -> None:
        """A person removed it; nobody is told."""
        self._end("deleted", uuid, to)

    def finished(self, uuid: str, result: Result, seconds: float) -> None:
        """Nothing of it waits any more; `seconds` since it was received."""
        self._say(
            "info",
            "finished",
            {
                "id": uuid,
                "result": result,
                "seconds": round(seconds, 3),
            },
        )

    # Providers and alerts

    def provider_down(self, provider: str, error: str) -> None:
        """No mail goes there until a probe succeeds."""
        self._say("warning", "provider_down", {"provider": provider, "error": error})

    def provider_up(self, provider: str) -> None:
        """It takes mail again."""
        self._say("info", "provider_up", {"provider": provider})

    def provider_paused(self, provider: str, error: str) -> None:
        """It refused everything; refusals are deferred until one mail is taken."""
        self._say("error", "provider_paused", {"provider": provider, "error": error})

    def alert(self, alert: str, message: str) -> None:
        """A bound is passed, or still is."""
        self._say("error", "alert", {"alert": alert, "message": message})

    def alert_cleared(self, alert: str, message: str) -> None:
        """It is over."""
        self._say("info", "alert_cleared", {"alert": alert, "message": message})

    # What has no event of its own

    def warning(self, message: str, **fields: object) -> None:
        """Something to know; `fields` are JSON-ready, `id` among them where one mail is meant."""
        self._say("warning", "warning", {"message": message, **fields})

    def error(self, message: str, failure: Failure | None = None, **fields: object) -> None:
        """Something to mend; `failure` adds its `traceback`, without the values of variables."""
        traced = {} if failure is None else {"traceback": failure.getTraceback()}
        self._say("error", "error", {"message": message, **fields, **traced})

    def _outcome(
        self,
        level: str,
        event: str,
        uuid: str,
        to: Sequence[str],
        provider: str,
        reply: Reply,
        seconds: float,
    ) -> None:
        self._say(
            level,
            event,
            {
                "id": uuid,
                "to": list(to),
                "provider": provider,
                "reply": str(reply),
                "seconds": round(seconds, 3),
            },
        )

    def _end(self, event: str, uuid: str, to: Sequence[str], **fields: object) -> None:
        self._say("warning", event, {"id": uuid, "to": list(to), **fields})

    def _say(self, level: str, event: str, fields: Entry) -> None:
        entry = {"time": timestamp(self._now()), "level": level, "event": event, **fields}
        self._write(entry)
        if self._followers and (hear := self._followers.get(fields.get("id"))) is not None:
            hear(entry)


def take_over(publisher: LogPublisher, events: Events) -> None:
    """Make `events` the only one that hears what Twisted logs through `publisher`.

    twistd's own observer writes text to standard output in the reactor's thread, and would wait there for a reader.
    """
    for other in list(publisher._observers):
        publisher.removeObserver(other)
    publisher.addObserver(twisted_observer(events))


def take_over_python(events: Events) -> None:
    """Make `events` hear what the interpreter itself would write on file descriptor 2 as text.

    That is what ended a thread, what came up where nobody can catch it, and warnings.
    """

    def thread_ended(it: threading.ExceptHookArgs) -> None:
        if it.exc_type is not SystemExit:
            name = it.thread.name if it.thread is not None else "?"
            events.error(f"the thread {name} ended", Failure(it.exc_value, it.exc_type, it.exc_traceback))

    def not_raised(it: UnraisableHookArgs) -> None:
        where = f"{it.err_msg or 'ignored, since nobody could catch it'}: {it.object!r}"
        events.error(where, Failure(it.exc_value, it.exc_type, it.exc_traceback) if it.exc_value else None)

    def warned(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        events.warning(f"{filename}:{lineno}: {category.__name__}: {message}")

    threading.excepthook = thread_ended
    sys.unraisablehook = not_raised
    warnings.showwarning = cast(Any, warned)


def twisted_observer(events: Events) -> ILogObserver:
    """An observer that says Twisted's warnings and errors as ours.

    No file descriptor left is a warning: the host lacks something, and no traceback tells where.
    What it logs at lower levels (listening ports, factories, sessions) is dropped: our own events say what matters.
    """

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        failure = event.get("log_failure")
        if failure is None and level < LogLevel.warn:
            return
        text = formatEvent(event).strip()
        lacking = getattr(getattr(failure, "value", None), "errno", None) in _NONE_LEFT
        if failure is not None:
            text = ": ".join(part for part in (text.rstrip(":"), _named(failure)) if part)
        if not lacking and (failure is not None or level > LogLevel.warn):
            events.error(text, failure)
        else:
            events.warning(text)

    return cast(ILogObserver, observe)


def _named(failure: Failure) -> str:
    """The last line of a traceback: the exception's class and what it says."""
    said = failure.getErrorMessage()
    name = failure.type.__name__ if failure.type is not None else ""
    return f"{name}: {said}" if said else name
