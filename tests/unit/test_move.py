"""Mail that goes over from one spool into another: all of it, as it stood, whatever comes in between."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from relay.clock import DRIFT
from relay.move import NEVER, Move, Moved
from relay.spool.spool import LARGE, Mail, Settlement, SpoolFailing, Standing, State
from relay.spool.sqlite import SqliteSpool, open_spool
from tests.contract.pump import Pump
from tests.contract.spool_contract import Bench

WRITES = ("submit", "settle", "forget")


class Breaking:
    """A spool whose writes fail from the `last` one on: that one before it is done, or (`after`) when it is."""

    def __init__(self, spool: SqliteSpool, last: list[int], after: bool) -> None:
        self._spool = spool
        self._last = last
        self._after = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._spool, name)
        return (lambda what: self._write(method, what)) if name in WRITES else method

    def _write(self, method: Callable[[Any], Deferred[None]], what: Any) -> Deferred[None]:
        self._last[0] -= 1
        if self._last[0] < 0 or (self._last[0] == 0 and not self._after):
            return fail(SpoolFailing("interrupted"))
        done = method(what)
        if self._last[0] == 0:
            done.addCallback(lambda _: fail(SpoolFailing("interrupted")))
        return done


@pytest.fixture
def benches(tmp_path: Path) -> Iterator[tuple[Bench, Bench]]:
    """The old spool's and the new one's."""

    def start(name: str) -> Callable[[Pump, Callable[[], float], int], SqliteSpool]:
        bits = random.Random(name).getrandbits
        return lambda pump, now, _: open_spool(tmp_path / name, reactor=pump, now=now, random_bits=bits, min_free=0)

    old, new = Bench(start("old")), Bench(start("new"))
    new.pump = old.pump
    old.open()
    new.open()
    yield old, new
    old.close()
    new.close()


def filled(old: Bench) -> dict[str, Mail]:
    """One mail of each kind, by id."""
    old.submit("plain@example.net")
    old.submit_large(LARGE * 2 + 1)
    mixed = old.submit("done@example.net", "later@example.net", "held@example.net", envid="e")
    people = mixed.envelope.recipients
    old.settle(
        mixed,
        Standing(0, people[0], State.DELIVERED, 1, provider="p", reply="250 2.0.0 Ok"),
        Standing(1, people[1], State.DEFERRED, 3, old.time + 60, "p", True, 1, True, "450 4.2.1 Later"),
        Standing(2, people[2], State.HELD, reply="by hand"),
    )
    due = old.submit_large()[0]
    old.defer(due, old.time + 5)
    return all_of(old)


def all_of(bench: Bench) -> dict[str, Mail]:
    """Every mail that waits there, by id."""
    return {mail.envelope.uuid: mail for mail in bench.page()}


def bodies(bench: Bench) -> dict[str, bytes]:
    """What they say."""
    return {uuid: bench.body(mail) for uuid, mail in all_of(bench).items()}


def moved(old: Bench, new: Bench, *wrap: Callable[[Any], Any]) -> Moved:
    """What came of a move."""
    first, second = wrap or (lambda spool: spool, lambda spool: spool)
    return old.pump.wait(Deferred.fromCoroutine(Move(first(old.spool), second(new.spool), "old").run()))


def test_all_of_it(benches: tuple[Bench, Bench]) -> None:
    """Envelopes, standings and bodies are what they were, and the old spool is empty; nothing is noted any more."""
    old, new = benches
    mails, said = filled(old), bodies(old)
    kept = old.pump.wait(old.spool.settle(Settlement(0, "", (), notes=(("brake p", "5"), (DRIFT, "0")))))
    assert kept is None
    old.open()

    assert moved(old, new) == Moved(4, [], [])

    assert all_of(new) == mails
    assert bodies(new) == said
    assert all_of(old) == {}
    assert new.pump.wait(new.spool.origins("")) == []
    assert dict(new.open().notes) == {"brake p": "5"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_interrupted_anywhere(benches: tuple[Bench, Bench], after: bool) -> None:
    """At each write, which was done or was not: the next time goes on, and what was delivered meanwhile stays so."""
    old, new = benches
    mails, said = filled(old), bodies(old)
    gone: set[str] = set()
    for write in range(1, 40):
        breaking = partial(Breaking, last=[write], after=after)
        try:
            moved(old, new, breaking, breaking)
        except SpoolFailing:
            pass
        else:
            break
        assert set(all_of(old)) | set(all_of(new)) | gone == set(mails)
        old.open()
        new.open()
        ready = [mail for mail in new.ready() if mail.envelope.uuid not in gone]
        for mail in ready[:1]:
            new.pump.wait(new.spool.settle(Settlement(mail.envelope.key, mail.envelope.uuid, (), finished=True)))
            gone.add(mail.envelope.uuid)
            assert said[mail.envelope.uuid] is not None
    else:
        raise AssertionError("it never came to its end")

    assert gone
    assert new.pump.wait(new.spool.origins("")) == []
    assert all_of(old) == {}
    assert all_of(new) == {uuid: mail for uuid, mail in mails.items() if uuid not in gone}
    assert bodies(new) == {uuid: body for uuid, body in said.items() if uuid not in gone}


@pytest.mark.parametrize("write", range(1, 8))
def test_what_is_not_whole_waits(benches: tuple[Bench, Bench], write: int) -> None:
    """A mail some of whose recipients have it is tried by nobody before its standings are there."""
    old, new = benches
    mails = filled(old)
    with pytest.raises(SpoolFailing):
        moved(old, new, lambda spool: spool, lambda spool: Breaking(spool, [write], after=True))

    for mail in (*new.ready(), *new.due(NEVER - 1)):
        assert mail.standings == mails[mail.envelope.uuid].standings


def test_another_scale_of_time(benches: tuple[Bench, Bench]) -> None:
    """Where the old daemon's clock was set while mail waited, it is as old and as soon due as before."""
    old, new = benches
    submission = old.submit()
    old.defer(submission, old.time + 60)
    old.pump.wait(old.spool.settle(Settlement(0, "", (), notes=((DRIFT, "1000"),))))
    old.open()

    moved(old, new)

    [mail] = new.page()
    assert mail.envelope.received_at == submission.envelope.received_at + 1000
    assert mail.standings[0].due == old.time + 1060


def test_damage(benches: tuple[Bench, Bench], tmp_path: Path) -> None:
    """What is damaged stays where it is, and is named; the rest goes over."""
    old, new = benches
    old.submit("plain@example.net")
    bad, _ = old.submit_large()
    [file] = [each for each in (tmp_path / "old" / "bodies").rglob("*") if each.is_file()]
    file.write_bytes(file.read_bytes()[:-1] + b"?")

    assert moved(old, new) == Moved(1, [bad.envelope.uuid], [])

    assert list(all_of(old)) == [bad.envelope.uuid]
    assert len(all_of(new)) == 1
