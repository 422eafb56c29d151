"""What is under way to whom, where the way is slow."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from relay.alerts.decision import Change, State
from relay.alerts.outbox import AT_ONCE, Outbox, Outdated


def change(alert: str, state: State = "raised") -> Change:
    return Change(alert, state, "words", 0.0)


class Way:
    """A way on which each message is under way until it is told to be over."""

    def __init__(self) -> None:
        self.under_way: list[tuple[Change, Outdated, Deferred[None]]] = []
        self.begun: list[Change] = []
        self.warnings: list[str] = []
        self.outbox = Outbox(self.carry, self.warnings.append)

    async def carry(self, change: Change, outdated: Outdated) -> None:
        """See Carry."""
        done: Deferred[None] = Deferred()
        self.begun.append(change)
        self.under_way.append((change, outdated, done))
        await done

    def end(self, number: int = 0) -> None:
        """One that is under way has arrived."""
        self.under_way.pop(number)[2].callback(None)


def test_a_few_at_once() -> None:
    """More wait, and follow in their order."""
    way = Way()
    for number in range(AT_ONCE + 2):
        way.outbox.put(change(str(number)))
    assert len(way.begun) == AT_ONCE

    way.end(1)
    way.end(0)

    assert [each.alert for each in way.begun] == [str(number) for number in range(AT_ONCE + 2)]


def test_the_newest_wins() -> None:
    """While one message about an alert is under way the next waits; of those that wait the newest is told."""
    way = Way()
    way.outbox.put(change("disk"))
    _, outdated, _ = way.under_way[0]
    assert not outdated()

    way.outbox.put(change("disk", "repeated"))
    way.outbox.put(change("disk", "cleared"))
    assert outdated()
    assert len(way.begun) == 1

    way.end()

    assert [each.state for each in way.begun] == ["raised", "cleared"]


def test_a_way_that_hangs() -> None:
    """One alert's message that goes nowhere keeps no other one back."""
    way = Way()
    way.outbox.put(change("disk"))
    for _ in range(5):
        way.outbox.put(change("backlog"))
        way.end(1)

    assert [each.alert for each in way.begun] == ["disk", *["backlog"] * 5]


def test_the_end() -> None:
    """What is under way is dropped without a word, what waits is not begun."""
    way = Way()
    for number in range(AT_ONCE + 1):
        way.outbox.put(change(str(number)))

    way.outbox.stop()

    assert len(way.begun) == AT_ONCE
    assert all(outdated() for _, outdated, _ in way.under_way)
    assert way.warnings == []
    way.outbox.put(change("late"))
    assert len(way.begun) == AT_ONCE


def test_an_error_that_holds_a_secret() -> None:
    """Only its name is said, and the next message goes on."""
    way = Way()
    way.outbox.put(change("disk"))
    way.outbox.put(change("disk", "cleared"))

    way.under_way[0][2].errback(ValueError("https://hooks.example/sesame"))

    assert way.warnings == ["an alert could not be told: unexpected ValueError"]
    assert way.begun[-1].state == "cleared"
