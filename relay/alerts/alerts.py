"""Alerts: looks at regular intervals whether all is well, and tells by log, webhook and mail what is not.

What cannot wait is looked for at each `tick`. How many mails are held for which reason is asked of the spool; the
answer is judged when it comes, so that a disk that hangs keeps no other alert back.

Failure: who could not be told is a line in the log; the alert stays active, and is repeated in its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from relay.alerts.decision import Alert, Change, Reading, decide
from relay.alerts.figures import Bounds
from relay.alerts.lookout import Lookout
from relay.alerts.outbox import Outbox
from relay.alerts.readings import gone, held_readings, readings, urgent
from relay.events import Events
from relay.spool.spool import Held, Spool, SpoolError

SHARED = frozenset({"backlog", "oldest", "stalled", "quarantine", "uncertain_held", "provider_paused"})
"""Alerts about the queue: the first words of their names."""


class Alerts:
    """See the module's docstring.

    bounds    see there; `repeat` in seconds, 0: never
    outboxes  the ways besides the log
    wall      seconds since the epoch
    speaks    whether it is this process that tells what is wrong with a queue that several share
    """

    def __init__(
        self,
        bounds: Bounds,
        repeat: float,
        outboxes: Sequence[Outbox],
        lookout: Lookout,
        spool: Spool,
        clock: IReactorTime,
        wall: Callable[[], float],
        events: Events,
        speaks: Callable[[], bool] = lambda: True,
    ) -> None:
        self._bounds = bounds
        self._repeat = repeat
        self._outboxes = outboxes
        self._leaving: Sequence[Outbox] = ()
        self._lookout = lookout
        self._spool = spool
        self._clock = clock
        self._wall = wall
        self._events = events
        self._speaks = speaks
        self._told: set[str] = set()
        self._active: dict[str, Alert] = {}
        self._asking = False
        self._checks = LoopingCall(self._check)
        self._checks.clock = clock

    @property
    def active(self) -> Sequence[Alert]:
        """Those that are active, the oldest first."""
        return list(self._active.values())

    def start(self) -> None:
        """Check from now on; for the first time once an interval has passed."""
        self._checks.start(self._bounds.check_interval, now=False)

    def stop(self) -> None:
        """Look no more, and tell nothing more."""
        if self._checks.running:
            self._checks.stop()
        for outbox in (*self._outboxes, *self._leaving):
            outbox.stop()

    def reload(self, bounds: Bounds, repeat: float, outboxes: Sequence[Outbox]) -> None:
        """Go on with these; what is active stays so until the next check, and what was to be told is told as it was."""
        self._leaving = [outbox for outbox in (*self._leaving, *self._outboxes) if outbox.busy]
        self._bounds, self._repeat, self._outboxes = bounds, repeat, outboxes
        self._checks.stop()
        self.start()

    def tick(self) -> None:
        """To be called often: tells what is not to wait for a check."""
        if self._lookout.troubled():
            self._judge(urgent(self._lookout.glance(), self._bounds))

    def _check(self) -> None:
        found = list(readings(self._lookout.look(), self._bounds))
        known = {reading.name for reading in found}
        found += [gone(name) for name in self._active if ":" in name and name not in known]
        self._judge(found)
        if not self._asking:
            self._asking = True
            self._spool.held().addCallbacks(self._held, self._unknown)

    def _held(self, held: Held) -> None:
        self._asking = False
        self._judge(held_readings(held.quarantine, held.uncertain))

    def _unknown(self, failure: Failure) -> None:
        """The spool does not say, which is told in other places; nothing is concluded from it."""
        self._asking = False
        failure.trap(SpoolError)

    def _judge(self, found: Iterable[Reading]) -> None:
        self._active, changes = decide(found, self._active, self._clock.seconds(), self._wall(), self._repeat)
        for change in self._to_be_told(changes):
            say = self._events.alert_cleared if change.state == "cleared" else self._events.alert
            say(change.alert, change.message)
            for outbox in self._outboxes:
                outbox.put(change)

    def _to_be_told(self, changes: Sequence[Change]) -> Iterator[Change]:
        """Those that are this process's to tell. What another one told before its end is told anew."""
        speaks = self._speaks()
        for change in changes:
            if not is_shared(change.alert) or (speaks and change.state != "raised" and change.alert in self._told):
                yield change
            if change.state == "cleared":
                self._told.discard(change.alert)
        for alert in self._active.values() if speaks else ():
            if is_shared(alert.name) and alert.name not in self._told:
                self._told.add(alert.name)
                yield Change(alert.name, "raised", alert.message, alert.since)
        if not speaks:
            self._told.clear()


def is_shared(alert: str) -> bool:
    """Whether an alert is about the queue, which several processes may share, and not about this one."""
    return alert.partition(":")[0] in SHARED
