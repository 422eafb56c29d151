"""Schedule: which mail is in memory with something to do, and when the rest comes in.

It knows ids and times and hands a mail on (`on_ready`) when recipients of it are to be tried; what becomes of them is
`relay.delivery`'s. No more mails are in memory than may be (see Memory); the others stay in the spool and are found
there by key (those that were never tried) or by index when they are due. A mail that has just come need not wait until
all of them have gone, nor do the last few that came while no provider took mail. There is one timer, for the earliest
due time; the sweep, a LoopingCall, only finds what a missed timer would.

Failure: a spool that cannot be read is asked again at the next sweep; nothing is forgotten, since the spool knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall

from relay.envelope import Envelope
from relay.schedule.item import SHOWN, Item, Shown
from relay.schedule.memory import Memory
from relay.spool.spool import Mail, Spool, SpoolError, State, Submission
from relay.turns import Turns

SWEEP = 60.0
"""Seconds between two looks for due mail that no timer announced."""

_NONE = 1 << 63


class Schedule:
    """See the module's docstring. `counts` are the queue's figures.

    takes_mail  whether some provider takes mail: what comes while none does would fill the room that is for new mail
    """

    def __init__(
        self,
        spool: Spool,
        clock: IReactorTime,
        now: Callable[[], float],
        limit: int,
        on_ready: Callable[[Item, list[int]], None],
        on_trouble: Callable[[str], None],
        takes_mail: Callable[[], bool],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._now = now
        self.memory = Memory(limit)
        self.items = self.memory.items
        self._on_ready = on_ready
        self._on_trouble = on_trouble
        self._takes_mail = takes_mail
        tally = spool.tally
        self._counts: dict[Shown, int] = {
            "ready": tally.ready,
            "active": 0,
            "deferred": tally.deferred,
            "held": tally.held,
        }
        self._cursor = 0  # READY mail up to this key is in memory, but for what was passed by
        self._latest: deque[int] = deque()  # the last keys of what was passed by, not more than room is kept free
        self._passed_by = _NONE  # the lowest key that was added while there was no room; not always above the cursor
        self._behind = tally.ready > 0
        self._looked_at = 0.0  # when the backlog was last asked for
        self._passed_since = 0  # mails that were passed by since then
        self._due_waiting = bool(tally.ready or tally.deferred)  # one that is READY may have others that are due
        self._fetching = False
        self._watches: list[set[int]] = []
        self._timer: IDelayedCall | None = None
        self._sweep = LoopingCall(self._look_for_due)
        self._sweep.clock = clock
        self._running = False

    def start(self) -> None:
        """Begin with what the spool holds."""
        self._running = True
        self._looked_at = self._now()
        self._sweep.start(SWEEP, now=False)
        self.refill()

    def stop(self) -> None:
        """Hand out nothing more."""
        self._running = False
        if self._sweep.running:
            self._sweep.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def follow(self, limit: int) -> None:
        """Keep at most so many mails in memory from now on."""
        self.memory.limit = max(limit, 1)
        self.refill()

    @property
    def counts(self) -> Mapping[Shown, int]:
        """Every waiting mail is in exactly one."""
        return self._counts

    @property
    def waiting(self) -> int:
        """Mails in the queue, in whatever state."""
        return sum(self.counts.values())

    def backlog(self) -> int:
        """Mails that were deferred, and those that were never tried and waited at the call before this one as well.

        One that is being tried counts as waiting. To be called at regular intervals: what only flows through in one
        is no backlog.
        """
        in_memory = backlog = 0
        for item in self.items.values():
            in_memory += item.shown == "ready"
            if item.queued:
                state = item.standings[next(iter(item.queued))].state
                backlog += state is State.DEFERRED or item.envelope.received_at < self._looked_at
        # The others come in by their age, so those that came last are among those that are not in memory yet.
        not_in_memory = max(self._counts["ready"] - in_memory - self._passed_since, 0)
        self._looked_at, self._passed_since = self._now(), 0
        return backlog + not_in_memory + self._counts["deferred"]

    def add(self, submission: Submission) -> None:
        """A mail has just become durable: try it now if there is room, else when there is."""
        envelope = submission.envelope
        if submission.due:
            self._counts["deferred"] += 1
            self.due_at(submission.due)
            return
        self._counts["ready"] += 1
        if envelope.key in self.items:
            return  # a read that was under way has found it before we were told
        fresh = self._is_fresh(envelope)
        if not (self._running and self.memory.takes_new(fresh=fresh, behind=self._behind)):
            self._behind = True
            self._passed_by = min(self._passed_by, envelope.key)
            self._passed_since += 1
            if not envelope.report:
                self._latest.append(envelope.key)
            if len(self._latest) > self.memory.kept_free:
                self._latest.popleft()
            return
        if not self._behind:
            self._cursor = max(self._cursor, envelope.key)
        self._enter_new(submission, fresh)

    def show(self, item: Item) -> None:
        """Count the item where it stands now; out of memory with it, if nothing is to be done for it at present."""
        shown = item.look()
        if shown != item.shown:
            self._counts[item.shown] -= 1
            if shown is not None:
                self._counts[shown] += 1
                item.shown = shown
        if not item.active and not item.queued:
            self._leave(item)

    def quarantined(self, was: State | None) -> None:
        """A mail that was counted so was found damaged in the spool, and is held from now on."""
        if was is not None:
            self._counts[SHOWN[was]] -= 1
        self._counts["held"] += 1

    def due_at(self, due: float) -> None:
        """A recipient was put off until `due`: be awake then."""
        if not self._running:
            return
        delay = max(due - self._now(), 0.0)
        timer = self._timer
        if timer is not None and timer.active():
            if timer.getTime() - self._clock.seconds() <= delay:
                return
            timer.cancel()
        self._timer = self._clock.callLater(delay, self._look_for_due)

    @contextmanager
    def watching(self) -> Iterator[set[int]]:
        """Keys of mails that leave memory meanwhile: what was read of them before they did is old."""
        left: set[int] = set()
        self._watches.append(left)
        try:
            yield left
        finally:
            self._watches = [watch for watch in self._watches if watch is not left]

    async def own(self, mail: Mail, until: float) -> Mail | None:
        """The mail as it stands once it is nobody else's; None if it waits no more. `until`: when to give up.

        Raises LostTurn where another process keeps it, SpoolError.
        """
        return mail

    def disown(self, mail: Mail) -> None:
        """Nothing was to be done with a mail that was to be ours."""

    def check_out(self, mail: Mail) -> Item:
        """The mail as it stands in memory, where it is brought if need be; `show` lets go of it.

        Until then none of its recipients that wait is handed on.
        """
        item = self.items.get(mail.envelope.key)
        if item is None:
            item = Item(mail.envelope, mail.head, None, mail.standings, mail.turn)
            item.shown = item.look() or "held"
            self.memory.put(item)
        item.queued.update([standing.number for standing in item.standings if standing.state.waiting])
        return item

    def resume(self, item: Item, numbers: list[int]) -> None:
        """Recipients of a mail that was checked out are READY: try them now if there is room, else when there is."""
        if self.memory.room() >= 0 and self._running:
            self._queue(item, numbers)
            return
        item.queued.difference_update(numbers)
        self._behind = True
        self._passed_by = min(self._passed_by, item.envelope.key)
        self.show(item)

    def _is_fresh(self, envelope: Envelope) -> bool:
        """Not a report, which a provider that refuses everything is not to see at once."""
        return self._takes_mail() and not envelope.report

    def _enter_new(self, submission: Submission, fresh: bool, turn: int = 0) -> None:
        body = submission.body if isinstance(submission.body, bytes) else None
        item = Item(submission.envelope, submission.head, body, submission.standings(), turn, fresh=fresh)
        self._enter(item, list(range(len(item.standings))))

    def _enter(self, item: Item, numbers: list[int]) -> None:
        self.memory.put(item)
        self._queue(item, numbers)

    def _queue(self, item: Item, numbers: list[int]) -> None:
        item.queued.update(numbers)
        self.show(item)
        self._on_ready(item, numbers)

    def _leave(self, item: Item) -> None:
        if not self.memory.drop(item):
            return
        for left in self._watches:
            left.add(item.envelope.key)
        if (self._behind or self._due_waiting) and self.memory.room() > self.memory.limit // 4:
            self.refill()

    def _look_for_due(self) -> None:
        self._due_waiting = True
        self.refill()

    def refill(self) -> None:
        """Bring in what waits, if there is room."""
        if self._running and not self._fetching and (self._behind or self._due_waiting):
            self._fetching = True
            Deferred.fromCoroutine(self._fetch()).addErrback(lambda failure: self._on_trouble(str(failure.value)))

    def ended(self) -> None:
        """A transaction is over: a shared queue is asked for more, in the commit that makes its worker free."""

    async def _fetch(self) -> None:
        """Bring in what is due and what was never tried, each its share, as long as there is room."""
        try:
            while self._running and (self._due_waiting or self._behind):
                await self._fetch_newest()
                if self.memory.room() <= 0:
                    return
                if self._due_waiting:
                    await self._fetch_due()
                if self._behind:
                    await self._fetch_ready()
        except SpoolError as error:
            self._due_waiting = self._behind = True
            self._on_trouble(f"the spool cannot be read, and is asked again in a minute: {error}")
        finally:
            self._fetching = False

    async def _fetch_newest(self) -> None:
        """What was passed by last is fresh all the same, once there is somebody who takes it."""
        memory = self.memory
        many = min(len(self._latest), memory.kept_free - memory.fresh, memory.left)
        if many <= 0 or not self._takes_mail():
            return
        *_, first = [self._latest.pop() for _ in range(many)]
        with self.watching() as left:
            mails = await self._spool.ready_after(first - 1, many)
            await self._take(mails, State.READY, left, many, fresh=True)

    async def _fetch_due(self) -> None:
        """Where new mail waits as well, half of the room is left to that."""
        self._due_waiting = False
        now, limit = self._now(), self.memory.limit
        with self.watching() as left:
            mails = await self._spool.due(now, limit)  # those in memory among them leave enough for the room
            room = self.memory.room()
            await self._take(mails, State.DEFERRED, left, room - room // 2 if self._behind else room)
        if len(mails) == limit:
            self._due_waiting = True
        elif (due := await self._spool.next_due(now)) is not None:
            self.due_at(due)

    async def _fetch_ready(self) -> None:
        room = self.memory.room()
        if room <= 0:
            return
        after, self._passed_by = min(self._cursor, self._passed_by - 1), _NONE
        with self.watching() as left:
            mails = await self._spool.ready_after(after, room)
            self._cursor = mails[-1].envelope.key if mails else after
            await self._take(mails, State.READY, left, room)
        self._behind = len(mails) == room or self._passed_by != _NONE

    async def _take(self, mails: list[Mail], state: State, left: set[int], room: int, *, fresh: bool = False) -> None:
        """Queue recipients of `state` (and due), of `room` mails at most. What is in memory, or `left` it, is newer."""
        now, most, turns = self._now(), len(self.items) + min(room, self.memory.left), Turns(self._clock)
        for mail in mails:
            await turns.give_way()
            key = mail.envelope.key
            item = self.items.get(key)
            if item is None:
                gone, full = key in left, len(self.items) >= most
                if gone or full:  # of one that is gone recipients of this state may wait yet
                    self._due_waiting = self._due_waiting or gone or state is not State.READY
                    if state is State.READY:
                        self._passed_by = min(self._passed_by, key)
                    continue
                is_fresh = fresh and not mail.envelope.report
                item = Item(mail.envelope, mail.head, mail.body, mail.standings, fresh=is_fresh)
                item.shown = item.look() or "ready"
                self._enter(item, self._eligible(item, state, now))
            elif numbers := self._eligible(item, state, now):
                self._queue(item, numbers)

    @staticmethod
    def _eligible(item: Item, state: State, now: float) -> list[int]:
        return [
            standing.number
            for standing in item.standings
            if standing.state is state and standing.due <= now and standing.number not in item.queued
        ]
