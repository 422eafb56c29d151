"""Lines: recipients that wait for their turn at a provider, each mail in a line of the one that is next for it.

A provider has two, one for mail that has just come and one for mail that has waited, and they move in turn: who waits
for a mail that is new does not wait for a backlog, nor the backlog for what is new.

A mail that no provider takes at present is stranded; one that is to pause (between two batches, or until the disk
works) comes back by a LoopingCall, which runs only while one does. Where nobody is left to be asked while something was
said, the round is over, and whoever takes from the lines has to write that down. What stands aside waits for whoever
put it there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from relay.delivery.judgement import is_pinned
from relay.envelope import Envelope
from relay.schedule import Item
from relay.upstream.pool import Pool
from relay.upstream.router import Ask, Wait, next_step

GRAIN = 0.05
"""Seconds by which a pause may be longer than asked for."""


@dataclass(slots=True, eq=False)
class Task:
    """Recipients of one mail, by number, that are to go to one provider; none of them before `not_before`.

    failed  the provider that failed while it had them, or "": others are to be tried there before them
    """

    item: Item
    numbers: list[int]
    not_before: float = 0.0
    failed: str = ""


Pair = tuple[deque[Task], deque[Task]]
"""The lines of one provider, by whether a mail is fresh (see Item)."""


class Trials(Protocol):
    """What is asked about providers that are paused: see Brakes."""

    def suits(self, name: str, envelope: Envelope) -> bool:
        """Whether it is to be tried with this mail, which has just come."""

    def choose(self, name: str, waiting: list[Envelope]) -> Envelope | None:
        """Which of the mails that wait is to be tried there."""

    def begin(self, name: str, envelope: Envelope) -> None:
        """A trial with this mail begins."""


class Lines:
    """See the module's docstring.

    trials   says which mail a paused provider is to be tried with
    moved    called when a pause is over
    strands  told of each mail that is stranded
    over     what is in no line since its round is over
    aside    what is in no line, and comes into none by itself
    """

    def __init__(
        self,
        pools: Mapping[str, Pool],
        clock: IReactorTime,
        trials: Trials,
        moved: Callable[[], None],
        strands: Callable[[Item], None],
    ) -> None:
        self._pools = pools
        self._names: list[str] = []
        self._clock = clock
        self._trials = trials
        self._moved = moved
        self._strands = strands
        self._lines: dict[str, Pair] = {}
        self._turns: deque[tuple[str, deque[Task]]] = deque()  # all of them, the one whose turn is next first
        self.over: deque[Task] = deque()
        self.aside: list[Task] = []
        self._stranded: deque[Task] = deque()
        self._paused: list[Task] = []
        self._stopped = False
        self._pauses = LoopingCall(self._end_pauses)
        self._pauses.clock = clock
        self.follow()

    def put(self, task: Task, first: bool = False) -> None:
        """Split `task` by the provider that each recipient is to go to; `first`: to the head of those lines.

        Not where a provider has just failed: the same mail again and again might be what it fails at.
        """
        item, numbers = task.item, task.numbers
        up = [name for name, pool in self._pools.items() if pool.takes_mail]
        if len(up) < len(self._names):
            numbers = self._without_trial(item, numbers)
        elif up and not (first or item.rounds or [number for number in numbers if item.standings[number].pinned]):
            self._lines[up[0]][item.fresh].append(task)  # nearly always: nobody was asked yet, and everybody may be
            return
        parts: dict[int, tuple[deque[Task], list[int]]] = {}
        for number in numbers:
            line = self._line_of(item, number, up)
            parts.setdefault(id(line), (line, []))[1].append(number)
        behind = (self._stranded, *self._lines.get(task.failed, ())) if task.failed else ()
        for line, some in parts.values():
            if line is self._stranded:
                self._strands(item)
            ahead = first and not any(line is other for other in behind)
            (line.appendleft if ahead else line.append)(Task(item, some, failed=task.failed))

    def _line_of(self, item: Item, number: int, up: list[str]) -> deque[Task]:
        standing, said = item.standings[number], item.rounds.get(number, {})
        order = (standing.provider,) if is_pinned(standing, said, self._names) else self._names
        step = next_step(said, order, up)
        if isinstance(step, Ask):
            return self._lines[step.provider][item.fresh]
        return self._stranded if isinstance(step, Wait) else self.over

    def drop_pins(self, item: Item, numbers: list[int]) -> set[str]:
        """Who waits for a provider that is not configured any more may go to any other; the names of those."""
        gone: set[str] = set()
        for number in numbers:
            standing = item.standings[number]
            if standing.pinned and standing.provider not in self._pools:
                gone.add(standing.provider)
                item.standings[number] = replace(standing, pinned=False)
        return gone

    def take(self) -> tuple[Task, Pool] | None:
        """What may begin now: the first of the next line that has one, and whose provider has room."""
        for _ in range(len(self._turns)):
            name, line = self._turns[0]
            self._turns.rotate(-1)
            if line and self._pools[name].room() > 0:
                return line.popleft(), self._pools[name]
        return None

    def waiting(self) -> int:
        """Tasks that wait for nothing but their turn."""
        return sum([len(line) for _, line in self._turns])

    def fresh(self) -> int:
        """Those among them whose mail has just come."""
        return sum([len(fresh) for _, fresh in self._lines.values()])

    def last(self, many: int) -> list[Item]:
        """The mails of so many tasks that can wait longest: what has just come is the last to be among them."""
        tasks = [task for fresh in (True, False) for pair in self._lines.values() for task in pair[fresh]]
        return [task.item for task in tasks[-many:]]

    def pause(self, task: Task) -> None:
        """Put it into a line once its time has come."""
        self._paused.append(task)
        if not (self._pauses.running or self._stopped):
            self._pauses.start(GRAIN, now=False)

    def follow(self) -> None:
        """The providers are others than they were: whoever stood in a line that is no more is stranded."""
        self._names = list(self._pools)
        for name in [name for name in self._lines if name not in self._pools]:
            for line in self._lines.pop(name):
                self._stranded.extend(line)
        for name in self._names:
            self._lines.setdefault(name, (deque(), deque()))
        self._turns = deque((name, self._lines[name][fresh]) for fresh in (True, False) for name in self._names)

    def stop(self) -> None:
        """No more pauses end."""
        self._stopped = True
        if self._pauses.running:
            self._pauses.stop()

    def sort_again(self) -> None:
        """Providers came or went: whoever waits may have to wait elsewhere, but for the one on trial."""
        waiting: list[Task] = []
        lines = [line for name, line in self._turns if not self._pools[name].on_trial]
        for line in (self._stranded, self.over, *lines):
            waiting.extend(line)
            line.clear()
        for task in sorted(waiting, key=lambda task: bool(task.failed)):
            self.put(task)

    def withdraw(self, item: Item) -> list[int]:
        """Take a mail out wherever it waits; the recipients that did."""
        numbers: list[int] = []
        for line in (self._stranded, self._paused, self.over, self.aside, *[line for _, line in self._turns]):
            tasks = [task for task in line if task.item is item]
            for task in tasks:
                line.remove(task)
                numbers += task.numbers
        return numbers

    def place(self, item: Item, number: int) -> str | None:
        """In the line of which provider a recipient stands: "" in none (stranded, or in a pause), None if unknown."""
        for name, line in self._turns:
            if any(task.item is item and number in task.numbers for task in line):
                return name
        apart = (*self._stranded, *self._paused, *self.over, *self.aside)
        others = any(task.item is item and number in task.numbers for task in apart)
        return "" if others else None

    def pausing(self, item: Item, number: int) -> bool:
        """Whether a recipient waits for a pause to end."""
        return any(task.item is item and number in task.numbers for task in self._paused)

    def try_again(self, name: str) -> None:
        """Have a mail that waits tried by a paused provider, if one is to be."""
        found: dict[int, tuple[deque[Task], Task]] = {}
        for line in (self._stranded, *[line for _, line in self._turns]):
            for task in line:
                if self._unasked(task.item, task.numbers, name):
                    found.setdefault(task.item.envelope.key, (line, task))
        chosen = self._trials.choose(name, [task.item.envelope for _, task in found.values()])
        if chosen is None:
            return
        line, task = found[chosen.key]
        line.remove(task)
        numbers = self._begin_trial(task.item, task.numbers, name)
        if numbers:
            line.appendleft(Task(task.item, numbers))

    def end_trial(self, name: str) -> None:
        """The provider is on trial: if its mail is gone (by command, or with a connection) another one may be tried."""
        if not any(self._lines[name]):
            self._pools[name].end_trial()

    def _without_trial(self, item: Item, numbers: list[int]) -> list[int]:
        """Those of a mail that has just come that go into no trial; of the others it begins."""
        for name, pool in self._pools.items():
            if pool.may_be_tried and self._unasked(item, numbers, name) and self._trials.suits(name, item.envelope):
                return self._begin_trial(item, numbers, name)
        return numbers

    def _begin_trial(self, item: Item, numbers: list[int], name: str) -> list[int]:
        """All that may be asked there goes there; the rest."""
        chosen = self._unasked(item, numbers, name)
        self._trials.begin(name, item.envelope)
        self._lines[name][item.fresh].append(Task(item, chosen))
        return [number for number in numbers if number not in chosen]

    def _unasked(self, item: Item, numbers: list[int], name: str) -> list[int]:
        """Those that this provider was not asked for in their round, and that are pinned to no other one."""
        return [
            number
            for number in numbers
            if name not in (said := item.rounds.get(number, {}))
            and (item.standings[number].provider == name or not is_pinned(item.standings[number], said, self._names))
        ]

    def _end_pauses(self) -> None:
        now = self._clock.seconds()
        over = [task for task in self._paused if task.not_before <= now]
        self._paused = [task for task in self._paused if task.not_before > now]
        for task in over:
            self.put(task)
        if over:
            self._moved()  # which may bring new pauses
        if not self._paused and self._pauses.running:
            self._pauses.stop()
