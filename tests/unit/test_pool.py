"""The connections to one provider."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred as Dialling
from twisted.internet.task import Clock

from relay.envelope import Recipient
from relay.outcome import Deferred, Outcome, ProviderFault, Retired, Stage, Uncertain
from relay.reply import Reply, no_reply
from relay.upstream.breaker import Breaker, Probes
from relay.upstream.ceiling import GROWS
from relay.upstream.links import Job
from relay.upstream.pool import OUT_OF_STEP, Pool
from relay.upstream.sender import Batch, Fault, Result
from tests.providers import REFUSED, TAKEN, ScriptedConnection, ScriptedProvider, always, takes

CLOSING = Reply(421, "4.7.0", ("Too many connections",))


class News:
    """Keeps what a pool tells."""

    def __init__(self) -> None:
        self.said: list[tuple[str, ...]] = []

    def provider_down(self, provider: str, error: str) -> None:
        """See News."""
        self.said.append(("down", provider, error))

    def provider_up(self, provider: str) -> None:
        """See News."""
        self.said.append(("up", provider))


class House:
    """A pool before a scripted provider; `ended` is what became of each transaction."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.provider = ScriptedProvider("p", self.clock, **settings)
        self.news = News()
        self.changes = 0
        self.ended: list[tuple[Outcome, ...]] = []
        self.pool = Pool(
            self.provider.config,
            self.provider.dial,  # type: ignore[arg-type]
            Breaker(Probes(15.0, 600.0), 0.0),
            self.clock,
            self.news,
            self.changed,
        )

    def changed(self) -> None:
        """The provider went up or down."""
        self.changes += 1

    def send(self, mail: int = 1) -> None:
        """One more mail, if there is room for it."""
        assert self.pool.room() > 0
        self.pool.reserved += 1
        self.pool.send(Job(Batch("a@b.c", (Recipient("x@y.z"),), b"", b"x\r\n", 3), mail, self.done, None))

    def done(self, result: Result, _: None) -> None:
        """A transaction is over."""
        self.ended.append(result.outcomes)

    def tick(self, seconds: float) -> None:
        """Time passes, and the pool is tidied as often as it would be."""
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)
            self.pool.tidy()


def test_one_connection_carries_one_after_another() -> None:
    """What is idle is used before anything is opened."""
    house = House()

    for _ in range(3):
        house.send()

    assert house.ended == [(TAKEN,)] * 3
    assert house.provider.dialled == 1
    assert repr(house.pool) == "<Pool p up: 0 busy, 1 idle, 0 opening, 0 waiting, limit 10>"


def test_no_more_connections_than_allowed() -> None:
    """At most `connections` are open, and there is room for no more transactions than that."""
    house = House(connections=2)
    house.provider.prompt = False
    house.send()
    house.send()

    assert house.pool.room() == 0
    assert house.provider.open == 2

    house.provider.answer()

    assert house.pool.room() == 1


def test_the_certificate_of_the_last_connection() -> None:
    """It is known when the provider's certificate ends, as soon as a connection has seen it."""
    house = House()
    house.provider.certificate_ends = 1_700_000_000.0
    assert house.pool.certificate_ends is None

    house.send()

    assert house.pool.certificate_ends == 1_700_000_000.0


def test_a_connection_has_carried_enough() -> None:
    """After messages_per_connection mails it is closed, and the next mail has a new one."""
    house = House(messages_per_connection=2)

    for _ in range(3):
        house.send()

    assert [connection.carried for connection in house.provider.connections] == [2, 1]
    assert house.provider.open == 1


def test_a_connection_idles_too_long() -> None:
    """After idle_timeout it is closed."""
    house = House(idle_timeout=30.0)
    house.send()

    house.tick(29.0)
    assert house.provider.open == 1
    house.tick(2.0)

    assert house.provider.open == 0


def test_a_provider_that_refuses_connections() -> None:
    """It is down with that error; whoever waited is told, and nobody may send there."""
    house = House()
    house.provider.up = REFUSED

    house.send()

    assert house.ended == [(REFUSED,)]
    assert house.news.said == [("down", "p", "connection refused")]
    assert house.pool.room() == 0
    assert house.changes == 1


def test_a_provider_that_comes_back() -> None:
    """It is probed without any mail, and is up once a connection works."""
    house = House()
    house.provider.up = REFUSED
    house.send()

    house.tick(14.0)
    assert house.provider.dialled == 1
    house.tick(2.0)
    assert house.provider.dialled == 2
    house.provider.up = None
    house.tick(28.0)
    assert house.pool.breaker.state == "down"
    house.tick(3.0)

    assert house.news.said[1:] == [("up", "p")]
    assert house.pool.room() == 1


def test_a_fault_in_a_transaction() -> None:
    """The provider is down, its idle connections are closed."""
    house = House()
    house.send()
    house.provider.says = always(ProviderFault(no_reply("timed out")), usable=False)

    house.send()

    assert house.pool.breaker.state == "down"
    assert house.provider.open == 0


def test_a_provider_that_got_out_of_step() -> None:
    """For a day its connections do not use PIPELINING."""
    house = House()
    house.provider.prompt = False
    house.provider.says = always(TAKEN, usable=False)
    house.send()
    house.provider.connections[0].out_of_step = True
    house.provider.answer()

    for seconds in (0.0, OUT_OF_STEP - 1, 1.0):
        house.clock.advance(seconds)
        house.send()
        house.provider.answer()

    assert house.provider.pipelining == [True, False, False, True]


def test_three_connections_and_no_more() -> None:
    """A refused connection beside others that work is the provider's limit, not a fault; it grows again by and by."""
    house = House(connections=5)
    house.provider.prompt = False
    for _ in range(3):
        house.send()
    house.provider.up = REFUSED
    house.send()

    assert house.pool.breaker.state == "up"
    assert house.pool.limit == 3
    house.provider.answer()
    assert len(house.provider.under_way) == 3  # the fourth went over a connection that works

    house.provider.up = None
    house.tick(GROWS + 1)
    assert house.pool.limit == 4


class Door:
    """A provider that opens its connections when it is told."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.knocks: list[Dialling[ScriptedConnection]] = []
        house.pool.dial = self.dial  # type: ignore[assignment]

    def dial(self, _: bool) -> Dialling[ScriptedConnection]:
        """See connect."""
        self.knocks.append(Dialling())
        return self.knocks[-1]

    def opens(self) -> ScriptedConnection:
        """To whoever knocked first."""
        connection = ScriptedConnection(self.house.provider)
        self.knocks.pop(0).callback(connection)
        return connection

    def refuses(self, *, ours: bool = False) -> None:
        """Whoever knocked first; `ours`: we have not even got there."""
        self.knocks.pop(0).errback(Fault(REFUSED, Stage.CONNECT, 0.0, ours=ours))


def test_a_refusal_before_the_others_are_let_in() -> None:
    """Whether it is the limit shows when they are; where none is, the last refusal is a fault."""
    for others_are_in in (True, False):
        house = House(connections=5)
        door = Door(house)
        house.send(1)
        house.send(2)
        door.refuses()
        assert house.pool.breaker.state == "up"
        if others_are_in:
            door.opens()
            assert house.ended == [(TAKEN,), (TAKEN,)]
        else:
            door.refuses()
            assert house.ended == [(REFUSED,), (REFUSED,)]
            assert str(house.pool.breaker.state) == "down"


def test_no_descriptor_for_a_connection() -> None:
    """That is not the provider's fault: nobody is told anything, and it is tried again a moment later."""
    house = House(connections=5)
    door = Door(house)
    house.send(1)
    door.refuses(ours=True)

    assert house.pool.breaker.state == "up"
    assert (house.ended, door.knocks) == ([], [])
    house.tick(0.5)
    door.opens()
    assert house.ended == [(TAKEN,)]


def test_a_connection_that_opens_after_the_provider_is_down() -> None:
    """It is closed at once, so that it keeps no probe out."""
    house = House()
    door = Door(house)
    house.send(1)
    house.send(2)
    house.provider.says = always(ProviderFault(no_reply("the connection was lost")), usable=False)
    door.opens()
    assert house.pool.breaker.state == "down"
    late = door.opens()

    assert not late.open
    assert house.pool.idle == 0


def test_421_before_it_carried_mail() -> None:
    """While another connection works it is the limit too, and the mail is nobody's fault."""
    house = House()
    house.provider.prompt = False
    house.send()
    house.send()
    house.provider.says = always(ProviderFault(CLOSING), usable=False)
    house.provider.under_way.reverse()
    house.provider.answer()

    assert house.ended == [(Retired(CLOSING),)]
    assert house.pool.limit == 1
    assert house.pool.breaker.state == "up"


def test_a_connection_that_retires() -> None:
    """It takes the other idle ones with it, which are likely as old, and no fault is counted."""
    house = House()
    house.provider.prompt = False
    house.send()
    house.send()
    house.provider.answer()
    house.provider.answer()
    house.provider.prompt = True
    house.provider.says = always(Retired(CLOSING), usable=False)

    house.send()

    assert house.provider.open == 0
    assert house.pool.breaker.state == "up"
    house.provider.says = takes
    house.send()
    assert house.ended[-1] == (TAKEN,)


def test_an_idle_connection_ends() -> None:
    """A 421 or a FIN while it idles is no fault; it is not used again."""
    house = House()
    house.send()
    ended = house.provider.connections[0].when_ended
    assert ended is not None

    ended(CLOSING)
    house.send()

    assert house.provider.dialled == 2
    assert house.news.said == []


def test_dots_unanswered() -> None:
    """One lost connection behind a dot leaves the provider up; three in a row do not."""
    house = House()
    house.provider.says = always(Uncertain(no_reply("lost")), usable=False)

    house.send()
    house.send()
    assert house.pool.breaker.state == "up"
    house.send()

    assert str(house.pool.breaker.state) == "down"


def test_a_deferral_says_nothing_of_the_provider() -> None:
    """It stays up, and the connection is used again."""
    house = House()
    house.provider.says = always(Deferred(Reply(451, "4.7.1", ("Greylisted",))))

    house.send()
    house.send()

    assert house.pool.breaker.state == "up"
    assert house.provider.dialled == 1


@pytest.mark.parametrize("state", ["stop", "abort"])
def test_the_end(state: str) -> None:
    """At the stop idle connections are closed, and a fault is nobody's."""
    house = House()
    house.send()

    getattr(house.pool, state)()

    assert house.provider.open == 0


def test_whole_transactions_ahead_of_their_replies() -> None:
    """Where a connection carries several at once, new connections come first, then more on each."""
    house = House(connections=2)
    house.provider.depth = 3
    house.provider.prompt = False
    house.send()
    for _ in range(5):
        house.send()

    assert house.provider.open == 2
    assert [connection for connection, _, _ in house.provider.under_way].count(house.provider.connections[0]) == 3
    assert house.pool.room() == 0


def test_a_connection_with_more_under_way_is_not_closed() -> None:
    """One that has carried enough ends what it has begun."""
    house = House(connections=1, messages_per_connection=3)
    house.provider.depth = 3
    house.provider.prompt = False
    for _ in range(3):
        house.send()
    for _ in range(2):
        house.provider.answer()
    assert house.provider.open == 1

    house.provider.answer()

    assert house.ended == [(TAKEN,)] * 3
    assert house.provider.open == 0


def test_a_provider_that_does_not_answer() -> None:
    """After half a minute its transactions are no worker's, and mail passes it over until it answers."""
    house = House(connections=1)
    house.provider.prompt = False
    house.send()
    house.provider.connections[0].waiting_since = 0.0

    house.tick(29.0)
    assert house.pool.stalled() == 0
    house.tick(2.0)
    assert house.pool.stalled() == 1
    assert not house.pool.takes_mail
    assert house.changes == 1
    house.provider.answer()
    house.tick(1.0)

    assert house.pool.takes_mail
    assert house.changes == 2


def test_the_stop_ends_what_waits_for_a_connection() -> None:
    """What was not begun is nobody's, and no attempt."""
    house = House(connections=1)
    house.provider.dial = lambda pipelining: Dialling()  # type: ignore[method-assign]
    house.pool.dial = house.provider.dial  # type: ignore[assignment]
    house.send()

    house.pool.stop()

    assert [type(outcomes[0]) for outcomes in house.ended] == [Retired]
