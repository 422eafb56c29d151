"""SharedSchedule: the same for a queue that is shared: what is in memory is what this process has a lease for.

A mail that is taken while a worker is free, or will be in a moment but for mail that has waited longer, is ours from
its first commit on. All else is claimed, in the commit that settles an earlier mail where there is one, and never more
than is begun in a moment. What leaves memory is given back.

Failure: a claim that cannot be made is made again when the spool says that something waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from relay.schedule.item import SHOWN, Item, Shown
from relay.schedule.schedule import Schedule
from relay.spool.shared import SharedSpool
from relay.spool.spool import LostTurn, Mail, SpoolError, State, Submission

ASK = 0.1
"""Seconds between two tries to get a mail that another process has."""


class SharedSchedule(Schedule):
    """See the module's docstring.

    free        how many transactions may be begun beside those that are in memory; told whether with fresh mail
    suspects    whether a mail may come now that two such ends have made suspect: it is to go alone
    on_crashed  told of each claimed mail that was in the memory of processes that ended, and of how many
    """

    def __init__(
        self,
        spool: SharedSpool,
        clock: IReactorTime,
        now: Callable[[], float],
        limit: int,
        on_ready: Callable[[Item, list[int]], None],
        on_trouble: Callable[[str], None],
        takes_mail: Callable[[], bool],
        free: Callable[[bool], int],
        suspects: Callable[[], bool],
        on_crashed: Callable[[int, int], None],
    ) -> None:
        super().__init__(spool, clock, now, limit, on_ready, on_trouble, takes_mail)
        self._shared = spool
        self._free = free
        self._suspects = suspects
        self._suspected = False  # whether one has come: others may wait for it to be over
        self._on_crashed = on_crashed
        self._asked = 0
        self._troubled = False
        spool.room = self.room_for_fresh
        spool.waits = self._waits

    @property
    def counts(self) -> Mapping[Shown, int]:
        """Those of the whole queue, as of a second ago, with what this process has done since."""
        ready, deferred, held = self._shared.figures.written
        shown = self._shown()
        others = self._shared.figures.others
        return {
            "ready": max(ready + shown[0] + others[0], 0),
            "active": max(shown[1] + others[1], 0),
            "deferred": max(deferred + shown[2] + others[2], 0),
            "held": max(held + shown[3] + others[3], 0),
        }

    def _shown(self) -> tuple[int, int, int, int]:
        """By how much what is in memory differs from what is written of it; the others are told that too."""
        more = dict.fromkeys(("ready", "active", "deferred", "held"), 0)
        for item in self.items.values():
            written = self._shared.written(item.envelope.key)  # HELD, where a dot is marked as under way
            if written is not None and written.waiting:
                more[item.shown] += 1
                more[SHOWN[written]] -= 1
        shown = (more["ready"], more["active"], more["deferred"], more["held"])
        self._shared.shown = shown
        return shown

    def backlog(self) -> int:
        """See Schedule. Of the whole queue."""
        ready, deferred, _ = self._shared.figures.written
        old = min(self._shared.figures.old, max(ready, 0))
        self._shared.old_before = self._looked_at = self._now()
        return old + max(deferred, 0)

    def room(self) -> int:
        """How many more mails may be ours now."""
        if not self._running:
            return 0
        return min(self._free(False), self.memory.left) - self._asked - self._shared.promised

    def room_for_fresh(self) -> int:
        """How many more of those that are handed in may be ours."""
        if not self._running:
            return 0
        return min(self._free(True), self.memory.left) - self._shared.promised

    def add(self, submission: Submission) -> None:
        """See Schedule. A mail that found no free worker is anybody's."""
        key = submission.envelope.key
        if submission.due:
            self.due_at(submission.due)
        elif key in self.items:
            return  # it was claimed in the commit that took it, and we were told of that first
        elif not self._shared.has(key):
            self._behind = True
            self.refill()
        elif self._running:
            self._enter_new(submission, self._is_fresh(submission.envelope), turn=1)
        else:
            self._shared.release(key)

    async def own(self, mail: Mail, until: float) -> Mail | None:
        """See Schedule. Who has it is asked for it, and gives it back as soon as nothing is under way for it."""
        key = mail.envelope.key
        while key not in self.items:
            try:
                return await self._shared.obtain(key)
            except LostTurn:
                if self._clock.seconds() >= until:
                    raise
            self._shared.ask_for(key)
            pause: Deferred[None] = Deferred()
            self._clock.callLater(ASK, pause.callback, None)
            await pause
        return mail

    def disown(self, mail: Mail) -> None:
        """See Schedule."""
        if mail.envelope.key not in self.items:
            self._shared.release(mail.envelope.key)

    def resume(self, item: Item, numbers: list[int]) -> None:
        """See Schedule. Others may have a worker that is free."""
        if self.room() > 0:
            self._queue(item, numbers)
            return
        item.queued.difference_update(numbers)
        self._behind = True
        self.show(item)

    def quarantined(self, was: State | None) -> None:
        """See Schedule. The spool counts."""

    def refill(self) -> None:
        """See Schedule."""
        if self._suspected and self._suspects():
            self._suspected, self._behind = False, True
        if (self._behind or self._due_waiting) and not self._fetching and self.room() > 0:
            super().refill()

    def ended(self) -> None:
        """See Schedule."""
        self.refill()

    def _waits(self, ready: bool, due: float | None) -> None:
        """The spool has looked: whether READY mail waits that nobody has, and when the next DEFERRED one is due."""
        if ready:
            self._behind = True
            self.refill()
        if due is not None:
            self.due_at(due)

    def _leave(self, item: Item) -> None:
        super()._leave(item)
        self._shared.release(item.envelope.key)
        self.refill()

    def _look_for_due(self) -> None:
        now = self._now()
        for item in list(self.items.values()):
            if numbers := self._eligible(item, State.DEFERRED, now):
                self._queue(item, numbers)
        super()._look_for_due()

    async def _fetch(self) -> None:
        try:
            while (self._behind or self._due_waiting) and (room := self.room()) > 0:
                self._behind = self._due_waiting = False
                mails = await self._claim(room)
                for mail in mails:
                    self._come(mail)
                if len(mails) >= (room + 1) // 2:  # half of the places is what deferred mail gets: more may wait
                    self._behind = True
            self._troubled = False
        except SpoolError as error:
            if not self._troubled:
                self._on_trouble(f"no mail can be claimed, which is tried again: {error}")
            self._troubled = self._behind = True
        finally:
            self._fetching = False

    async def _claim(self, room: int) -> list[Mail]:
        self._asked = room
        try:
            return await self._shared.claim(self._now(), room, suspects=self._suspects())
        finally:
            self._asked = 0

    def _come(self, mail: Mail) -> None:
        """A mail is ours."""
        key = mail.envelope.key
        if key in self.items or not self._running:
            self._shared.release(key)
            return
        item = Item(mail.envelope, mail.head, mail.body, mail.standings, mail.turn)
        item.shown = item.look() or "ready"
        if mail.crashes:
            self._on_crashed(key, mail.crashes)
            self._suspected = True
        now = self._now()
        self._enter(item, self._eligible(item, State.READY, now) + self._eligible(item, State.DEFERRED, now))
