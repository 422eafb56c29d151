"""Operator: what a person asks of the queue: look at mails, try, hold, release or delete them.

A mail may be in memory or only in the spool, and may change while it is looked for; what is decided is always decided
on how it stands at that moment. A recipient with a transaction under way is never touched: first that ends. All that
changes becomes durable before it counts. A command over a million mails works in pages and gives way in between.

Failure: a change that cannot be written is undone in memory and told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from relay.delivery.account import Account
from relay.delivery.delivery import Delivery
from relay.delivery.selection import Selection
from relay.delivery.view import View, view
from relay.events import Events
from relay.schedule import Item, Schedule, ready_again
from relay.spool.spool import QUARANTINE, LostTurn, Mail, Settlement, Spool, SpoolError, Standing, State
from relay.turns import Turns
from relay.upstream.pool import Pool

PAGE = 100
"""Mails read from the spool at once."""

AT_ONCE = 64
"""Changes on their way to the disk at once."""

WAIT = 5.0
"""Seconds that a change waits for transactions under way to end."""

BY_COMMAND = "by command"


class Order(Enum):
    """What may be asked for mails that wait."""

    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    DELETE = "delete"

    def apply(self, standing: Standing, now: float) -> Standing | None:
        """How a recipient stands afterwards; None where there is nothing to change."""
        state = standing.state
        if self is Order.RETRY and state is State.DEFERRED:
            return replace(standing, due=now)
        if self is Order.HOLD and state in (State.READY, State.DEFERRED):
            reply = f"{BY_COMMAND}; before that: {standing.reply}" if standing.reply else BY_COMMAND
            return replace(standing, state=State.HELD, due=0.0, reply=reply)
        if self is Order.RELEASE and state is State.HELD:
            return replace(ready_again(standing), uncertain=0)
        if self is Order.DELETE and state.waiting:
            return replace(standing, state=State.DELETED, due=0.0)
        return None


@dataclass(slots=True)
class Tally:
    """What came of a command.

    mails, recipients  so many were changed
    busy               mails that were left alone because a transaction was under way
    spared             mails that are damaged, which only their id deletes
    missing            ids of mails that do not wait
    failed             why changes could not be written, each once
    """

    mails: int = 0
    recipients: int = 0
    busy: int = 0
    spared: int = 0
    missing: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Operator:
    """See the module's docstring. `now` is on the spool's scale."""

    def __init__(
        self,
        spool: Spool,
        schedule: Schedule,
        delivery: Delivery,
        pools: Mapping[str, Pool],
        account: Account,
        events: Events,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._schedule = schedule
        self._delivery = delivery
        self._pools = pools
        self._account = account
        self._events = events
        self._clock = clock
        self._now = now

    def view(self, mail: Mail) -> View:
        """A mail as it is now."""
        return view(mail, self._schedule, self._delivery.under_way)

    async def find(self, uuid: str) -> Mail | None:
        """The mail with that id, as it was read; None if none waits under it."""
        return await self._spool.find(uuid)

    async def visit(self, selection: Selection, act: Callable[[Mail, View], Awaitable[None]]) -> list[str]:
        """Have `act` called for each mail that `selection` is about, by age; the ids among it that do not wait.

        What `act` is given is how the mail stands when it is called.
        """
        if selection.ids:
            return [uuid for uuid in selection.ids if not await self._visit_one(uuid, selection, act)]
        after, turns = 0, Turns(self._clock)
        with self._schedule.watching() as left:
            while mails := await self._spool.page(after, PAGE):
                after = mails[-1].envelope.key
                for mail in mails:
                    await turns.give_way()
                    if mail.envelope.key in left and mail.envelope.key not in self._schedule.items:
                        await self._visit_one(mail.envelope.uuid, selection, act)
                    else:
                        await self._show(mail, selection, act)
                left.clear()
        return []

    async def change(self, order: Order, selection: Selection, pulse: Callable[[], Awaitable[None]]) -> Tally:
        """Do as it was ordered, for all that `selection` is about. Where `pulse` raises nothing more is begun."""
        tally = Tally()
        under_way: list[Deferred[None]] = []
        busy: list[str] = []

        async def apply(mail: Mail) -> None:
            if not await self._apply(order, mail, selection, tally, self._clock.seconds()):
                busy.append(mail.envelope.uuid)

        async def act(mail: Mail, seen: View) -> None:
            if "active" in seen.states:
                busy.append(mail.envelope.uuid)
                return
            under_way.append(Deferred.fromCoroutine(apply(mail)))
            if len(under_way) >= AT_ONCE:
                await gatherResults(under_way)
                under_way.clear()
                await pulse()

        try:
            tally.missing = await self.visit(selection, act)
        finally:
            await gatherResults(under_way)
        await self._change_busy(order, selection, tally, busy)
        if order is Order.RETRY:
            self.probe(selection.provider)
        return tally

    def probe(self, paused: str | None = None) -> None:
        """Try providers that are down at once; and the one that is `paused`, with the next mail."""
        for pool in self._pools.values():
            pool.probe()
        if paused is not None and paused in self._pools:
            self._delivery.brakes.release(paused)

    async def _change_busy(self, order: Order, selection: Selection, tally: Tally, busy: list[str]) -> None:
        """Those for which transactions were under way, once these are over, if that is soon."""
        until = self._clock.seconds() + WAIT
        for uuid in busy:
            if not await self._quiet(uuid, until):
                tally.busy += 1
                continue

            async def act(mail: Mail, _: View) -> None:
                tally.busy += not await self._apply(order, mail, selection, tally, until)

            await self._visit_one(uuid, selection, act)

    async def _quiet(self, uuid: str, until: float) -> bool:
        """Wait until nothing is under way for a mail; whether that was so in time."""
        item = next((item for item in self._schedule.items.values() if item.envelope.uuid == uuid), None)
        if item is None or not item.active:
            return True
        waiting = self._delivery.attempts.quiet(item)
        timer = self._clock.callLater(max(until - self._clock.seconds(), 0.0), waiting.cancel)
        try:
            await waiting
        except CancelledError:
            return False
        timer.cancel()
        return True

    async def _visit_one(self, uuid: str, selection: Selection, act: Callable[[Mail, View], Awaitable[None]]) -> bool:
        """The same for one mail; whether it waits."""
        while True:
            with self._schedule.watching() as left:
                mail = await self._spool.find(uuid)
                if mail is None:
                    return False
                if mail.envelope.key not in left or mail.envelope.key in self._schedule.items:
                    await self._show(mail, selection, act)
                    return True

    async def _show(self, mail: Mail, selection: Selection, act: Callable[[Mail, View], Awaitable[None]]) -> None:
        seen = self.view(mail)
        if any(
            selection.fits(seen.envelope, standing, state)
            for standing, state in zip(seen.standings, seen.states, strict=True)
        ):
            await act(mail, seen)

    async def _apply(self, order: Order, mail: Mail, selection: Selection, tally: Tally, until: float) -> bool:
        """Change one mail, unless something is under way for it; whether nothing was. Once it is ours nothing can be.

        until  when to give up asking another process for it
        """
        seen = self.view(mail)
        glance = Tally()
        if not (self._changes(order, seen, selection, glance) or (seen.elsewhere and selection.ids)):
            tally.spared += glance.spared
            return True
        try:
            mine = await self._schedule.own(mail, until)
        except LostTurn:
            return False
        except SpoolError as error:
            tally.failed += [] if str(error) in tally.failed else [str(error)]
            return True
        if mine is None:
            return True
        mail = mine
        changed = self._changes(order, self.view(mail), selection, tally)
        if not changed:
            self._schedule.disown(mail)
            return True
        known = self._schedule.items.get(mail.envelope.key)
        queued = set(known.queued) if known is not None else set()
        withdrawn = self._delivery.withdraw(known) if known is not None else []
        if known is not None and (known.active or queued.difference(withdrawn)):
            if withdrawn:
                self._delivery.ready(known, withdrawn)
            return False  # it was begun meanwhile, is being put into a digest, or changed by another command
        item = self._schedule.check_out(mail)
        try:
            if await self._settle(item, changed, tally):
                self._tell(order, item, changed)
                tally.mails += 1
                tally.recipients += len(changed)
        finally:
            self._let_go(item, withdrawn)
        return True

    def _changes(self, order: Order, seen: View, selection: Selection, tally: Tally) -> list[Standing]:
        """The new standings; those that are tried already need no retry."""
        now = self._now()
        changes: list[Standing] = []
        spared = False
        for standing, state in zip(seen.standings, seen.states, strict=True):
            if not selection.fits(seen.envelope, standing, state) or (order is Order.RETRY and state != "deferred"):
                continue
            if order is Order.DELETE and not selection.ids and standing.reply.startswith(QUARANTINE):
                spared = True
            elif (new := order.apply(standing, now)) is not None:
                changes.append(new)
        tally.spared += spared
        return changes

    async def _settle(self, item: Item, changed: list[Standing], tally: Tally) -> bool:
        """Write it down; whether that worked."""
        new = {standing.number: standing for standing in changed}
        finished = not any(new.get(old.number, old).state.waiting for old in item.standings)
        try:
            await self._spool.settle(
                Settlement(item.envelope.key, item.envelope.uuid, changed, finished=finished, turn=item.turn)
            )
        except SpoolError as error:
            if str(error) not in tally.failed:
                tally.failed.append(str(error))
            return False
        for standing in changed:
            item.standings[standing.number] = standing
            item.rounds.pop(standing.number, None)
        return True

    def _let_go(self, item: Item, withdrawn: list[int]) -> None:
        """Whoever waited in a line does again; whoever is READY by command is tried; the rest waits for its time."""
        states = [standing.state for standing in item.standings]
        again = [number for number in withdrawn if states[number] in (State.READY, State.DEFERRED)]
        ready = [number for number, state in enumerate(states) if state is State.READY and number not in again]
        item.queued.clear()
        item.queued.update(again)
        if ready:
            self._schedule.resume(item, ready)
        if again:
            self._delivery.ready(item, again)
        elif not ready:
            self._schedule.show(item)

    def _tell(self, order: Order, item: Item, changed: list[Standing]) -> None:
        envelope = item.envelope
        to = [standing.recipient.address for standing in changed]
        if order is Order.HOLD:
            self._account.settled(envelope, changed, "")
        elif order is Order.RELEASE:
            self._events.released(envelope.uuid, to)
        elif order is Order.DELETE:
            self._events.deleted(envelope.uuid, to)
            if not any(standing.state.waiting for standing in item.standings):
                self._account.finished(envelope, item.standings, max(self._now() - envelope.received_at, 0.0))
        if order is Order.RETRY:
            self._schedule.due_at(self._now())
        else:
            self._delivery.suspects.seen_to(item)
