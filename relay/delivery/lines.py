"""Lines: recipients that wait for their turn at a provider, each mail in the line of the one that is next for it.

A mail that no provider takes at present is stranded; one that is to pause (between two batches, or until the disk
works) comes back by a LoopingCall, which runs only while one does. What stands aside waits for whoever put it there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from relay.envelope import Envelope
from relay.schedule import Item
from relay.upstream.pool import Pool
from relay.upstream.router import Ask, next_step

GRAIN = 0.05
"""Seconds by which a pause may be longer than asked for."""


@dataclass(slots=True, eq=False)
class Task:
    """Recipients of one mail, by number, that are to go to one provider; none of them before `not_before`."""

    item: Item
    numbers: list[int]
    not_before: float = 0.0


class Trials(Protocol):
    """What is asked about providers that are paused: see Brakes."""

    def trial(self, envelope: Envelope) -> str | None:
        """The provider that is to be tried with this mail, whose trial begins with that."""

    def choose(self, name: str, waiting: list[Envelope]) -> Envelope | None:
        """Which of the mails that wait is to be tried there."""

    def begin(self, name: str, envelope: Envelope) -> None:
        """A trial with this mail begins."""


class Lines:
    """See the module's docstring.

    trials  says which mail a paused provider is to be tried with
    moved   called when a pause is over
    aside   what is in no line, and comes into none by itself
    """

    def __init__(
        self,
        pools: Mapping[str, Pool],
        clock: IReactorTime,
        trials: Trials,
        moved: Callable[[], None],
    ) -> None:
        self._pools = pools
        self._names = list(pools)
        self._clock = clock
        self._trials = trials
        self._moved = moved
        self._lines: dict[str, deque[Task]] = {name: deque() for name in pools}
        self.aside: list[Task] = []
        self._stranded: deque[Task] = deque()
        self._paused: list[Task] = []
        self._pauses = LoopingCall(self._end_pauses)
        self._pauses.clock = clock

    def put(self, task: Task, first: bool = False) -> None:
        """Split `task` by the provider that each recipient is to go to; `first`: to the head of those lines."""
        item = task.item
        up = [name for name, pool in self._pools.items() if pool.takes_mail]
        parts: dict[str | None, list[int]] = {}
        for number in task.numbers:
            standing = item.standings[number]
            pinned = standing.pinned and standing.provider in self._pools
            order = [standing.provider] if pinned else self._names
            step = next_step(item.rounds.get(number, {}), order, up)
            parts.setdefault(step.provider if isinstance(step, Ask) else None, []).append(number)
        if len(up) < len(self._names) and (paused := self._trials.trial(item.envelope)) is not None:
            self._put_on_trial(item, parts, paused)
        for name, numbers in parts.items():
            line = self._stranded if name is None else self._lines[name]
            (line.appendleft if first else line.append)(Task(item, numbers))

    def take(self) -> Iterator[tuple[Task, Pool]]:
        """What may begin now, one of each line in turn, for as long as the caller asks."""
        found = True
        while found:
            found = False
            for name, line in self._lines.items():
                if line and self._pools[name].room() > 0:
                    found = True
                    yield line.popleft(), self._pools[name]

    def pause(self, task: Task) -> None:
        """Put it into a line once its time has come."""
        self._paused.append(task)
        if not self._pauses.running:
            self._pauses.start(GRAIN, now=False)

    def follow(self) -> None:
        """The providers are others than they were: whoever stood in a line that is no more is stranded."""
        self._names = list(self._pools)
        for name in [name for name in self._lines if name not in self._pools]:
            self._stranded.extend(self._lines.pop(name))
        for name in self._names:
            self._lines.setdefault(name, deque())

    def stop(self) -> None:
        """No more pauses end."""
        if self._pauses.running:
            self._pauses.stop()

    def sort_again(self) -> None:
        """Providers came or went: whoever waits may have to wait elsewhere."""
        waiting = [*self._stranded]
        self._stranded.clear()
        for line in self._lines.values():
            waiting.extend(line)
            line.clear()
        for task in waiting:
            self.put(task)

    def withdraw(self, item: Item) -> list[int]:
        """Take a mail out wherever it waits; the recipients that did."""
        numbers: list[int] = []
        for line in (self._stranded, self._paused, self.aside, *self._lines.values()):
            tasks = [task for task in line if task.item is item]
            for task in tasks:
                line.remove(task)
                numbers += task.numbers
        return numbers

    def place(self, item: Item, number: int) -> str | None:
        """In the line of which provider a recipient stands: "" in none (stranded, or in a pause), None if unknown."""
        for name, line in self._lines.items():
            if any(task.item is item and number in task.numbers for task in line):
                return name
        apart = (*self._stranded, *self._paused, *self.aside)
        others = any(task.item is item and number in task.numbers for task in apart)
        return "" if others else None

    def pausing(self, item: Item, number: int) -> bool:
        """Whether a recipient waits for a pause to end."""
        return any(task.item is item and number in task.numbers for task in self._paused)

    def waiting(self) -> Iterator[Task]:
        """All that wait in a line or are stranded."""
        yield from self._stranded
        for line in self._lines.values():
            yield from line

    def try_again(self, name: str) -> None:
        """Have a mail that waits tried by a paused provider, if one is to be."""
        tasks = {
            task.item.envelope.key: task
            for task in self.waiting()
            if any(name not in task.item.rounds.get(number, {}) for number in task.numbers)
        }
        chosen = self._trials.choose(name, [task.item.envelope for task in tasks.values()])
        if chosen is None:
            return
        task = tasks[chosen.key]
        for line in (self._stranded, *self._lines.values()):
            if task in line:
                line.remove(task)
        self._trials.begin(name, chosen)
        parts: dict[str | None, list[int]] = {None: task.numbers}
        self._put_on_trial(task.item, parts, name)
        for line_name, numbers in parts.items():
            (self._stranded if line_name is None else self._lines[line_name]).append(Task(task.item, numbers))

    def _put_on_trial(self, item: Item, parts: dict[str | None, list[int]], paused: str) -> None:
        """All that has not been asked there goes there, whatever line it was meant for."""
        numbers = [
            number
            for numbers in parts.values()
            for number in numbers
            if paused not in item.rounds.get(number, {}) and not item.standings[number].pinned
        ]
        for name, others in list(parts.items()):
            parts[name] = [number for number in others if number not in numbers]
            if not parts[name]:
                del parts[name]
        if numbers:
            parts[paused] = numbers

    def _end_pauses(self) -> None:
        now = self._clock.seconds()
        over = [task for task in self._paused if task.not_before <= now]
        self._paused = [task for task in self._paused if task.not_before > now]
        if not self._paused:
            self._pauses.stop()
        for task in over:
            self.put(task)
        if over:
            self._moved()
