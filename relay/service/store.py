"""Store: the spool that a configuration names, with what differs between one daemon's own and one that is shared."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from relay.clock import DRIFT, SpoolClock
from relay.config import Config
from relay.delivery.crashes import Crashes
from relay.delivery.delivery import Delivery
from relay.delivery.flights import Flights, places
from relay.events import Events
from relay.listening import CannotStart
from relay.schedule import Schedule, SharedSchedule
from relay.spool.shared import SharedSpool
from relay.spool.spool import LEFT_UNDER_WAY, Settlement, Spool
from relay.spool.sqlite import SqliteSpool, open_spool

LEAP = 5.0
"""Seconds by which a clock is set before that is worth a note."""

SWITCH = 0.001
"""Seconds after which Python lets another thread go on, where each commit waits for a server.

The thread that writes has nothing to do but to wait: five milliseconds, as is usual, it would wait for its turn then.
"""

Committed = Callable[[int, float], None]


class Store(Protocol):
    """See the module's docstring."""

    @property
    def spool(self) -> Spool:
        """Where mail waits."""

    @property
    def flights(self) -> Flights | Crashes | None:
        """Who knows which mail was under way when a process ended; None where that cannot be known."""

    @property
    def shared(self) -> SharedSpool | None:
        """The same spool, if it is the queue of several processes."""

    def others_idle(self) -> float | None:
        """For how many seconds those who share the queue have delivered nothing, if there are any who did."""

    @property
    def speaks(self) -> bool:
        """Whether it is this process that does what is done once for a queue: alerts, and trials by the clock."""

    def schedule(self, delivery: Delivery, config: Config) -> Schedule:
        """What hands mail to `delivery`."""

    def tell(self) -> None:
        """Say in the log what the start found."""

    def tick(self) -> None:
        """To be called about every half second."""

    def hand_back(self, delivery: Delivery) -> None:
        """The daemon stops: what it does not need any more is others'."""


def open_store(config: Config, reactor: Any, clock: SpoolClock, events: Events, committed: Committed) -> Store:
    """The one that `config` names. Waits for the disk, or the server. Raises SpoolError, CannotStart."""
    if config.spool.backend == "postgresql":
        return SharedStore(config, reactor, clock, events, committed)
    return LocalStore(config, reactor, clock, events, committed)


class LocalStore:
    """One daemon's own, in a folder."""

    shared = None
    speaks = True

    def others_idle(self) -> None:
        """See Store."""

    def __init__(self, config: Config, reactor: Any, clock: SpoolClock, events: Events, committed: Committed) -> None:
        self._reactor = reactor
        self._clock = clock
        self._events = events
        self.spool: SqliteSpool = open_spool(
            config.spool.directory,
            reactor=reactor,
            now=clock,
            random_bits=random.SystemRandom().getrandbits,
            min_free=config.spool.min_free,
            committed=committed,
        )
        self._drift = 0.0
        if self.spool.newest:
            self._drift = float(self.spool.notes.get(DRIFT, "0"))
            clock.resume(self._drift, self.spool.newest)
        self.flights = self._flights(config)

    def schedule(self, delivery: Delivery, config: Config) -> Schedule:
        """See Store."""
        limit = config.delivery.queue_size
        troubled, takes_mail = self._events.warning, lambda: delivery.takes_mail
        return Schedule(self.spool, self._reactor, self._clock, limit, delivery.ready, troubled, takes_mail)

    def tell(self) -> None:
        """See Store."""
        for damage in self.spool.found_damage:
            self._events.error(damage)
        for mail in self.spool.left_under_way:
            self._events.held(
                mail.envelope.uuid,
                [each.recipient.address for each in mail.standings if each.reply == LEFT_UNDER_WAY],
                LEFT_UNDER_WAY,
            )

    def tick(self) -> None:
        """The system's clock was set: how far is to be known after a restart, or mail would be as old as the step."""
        drift = self._clock.drift
        if abs(drift - self._drift) > LEAP:
            self._drift = drift
            note = Settlement(0, "", (), notes=((DRIFT, str(drift)),))
            self.spool.settle(note).addErrback(lambda failure: self._events.error(str(failure.value)))

    def hand_back(self, delivery: Delivery) -> None:
        """See Store. There are no others."""

    def _flights(self, config: Config) -> Flights | None:
        why: str | None = ""
        for path in places(config.spool.directory):
            try:
                return Flights(path, self._clock)
            except OSError as error:
                why = error.strerror
        self._events.warning(f"mail that ends the daemon will not be found out: flights: {why}")
        return None


class SharedStore:
    """A queue in PostgreSQL. Its server's clock is the scale of time of all who share it."""

    def __init__(self, config: Config, reactor: Any, clock: SpoolClock, events: Events, committed: Committed) -> None:
        try:
            from relay.spool.postgresql import open_spool as open_shared
        except ImportError as error:
            raise CannotStart(
                f'spool.backend = "postgresql" needs psycopg (pip install "mailrelay[postgresql]"): {error}'
            ) from None
        sys.setswitchinterval(SWITCH)
        self._reactor = reactor
        self._clock = clock
        self._events = events
        spool = open_shared(
            config.spool.dsn,
            config.spool.directory,
            name=config.instance,
            reactor=reactor,
            now=clock,
            random_bits=random.SystemRandom().getrandbits,
            committed=committed,
        )
        clock.resume(-spool.ahead, 0.0)
        self._doubts, self._left_held = spool.doubts, spool.left_held
        self._delivery: Delivery
        self.spool: SharedSpool = spool
        self.shared = self.spool
        self.flights = Crashes()

    def others_idle(self) -> float | None:
        """See Store."""
        return self.spool.figures.idle

    @property
    def speaks(self) -> bool:
        """See Store."""
        return self.spool.speaks

    def schedule(self, delivery: Delivery, config: Config) -> Schedule:
        """See Store."""
        spool, events = self.spool, self._events
        self._delivery = delivery

        def lost(why: str) -> None:
            events.error(f"all mail in memory is others' by now, and this process begins anew: {why}")
            delivery.hand_all_back()

        def gone(name: str, freed: int, held: Sequence[tuple[str, str]]) -> None:
            events.warning(f"{name} has ended without a word; {freed} mails that it had are free")
            self._tell_held(held)

        def wanted(key: int) -> None:
            if (item := delivery.item(key)) is not None:
                delivery.hand_back(item)

        spool.lost, spool.gone, spool.wanted = lost, gone, wanted

        def noted(notes: Mapping[str, str]) -> None:
            if again := delivery.brakes.heard(notes):
                spool.settle(Settlement(0, "", (), notes=again)).addErrback(lambda _: None)  # the next one will do

        spool.noted = noted
        spool.idle = delivery.idle
        return SharedSchedule(
            spool,
            self._reactor,
            self._clock,
            config.delivery.queue_size,
            delivery.ready,
            events.warning,
            lambda: delivery.takes_mail,
            delivery.room,
            lambda: delivery.suspects.may_come(self._reactor.seconds()),
            self.flights.add,
        )

    def tell(self) -> None:
        """See Store."""
        for doubt in self._doubts:
            self._events.warning(doubt)
        self._tell_held(self._left_held)

    def _tell_held(self, held: Sequence[tuple[str, str]]) -> None:
        of_mail: dict[str, list[str]] = {}
        for uuid, address in held:
            of_mail.setdefault(uuid, []).append(address)
        for uuid, addresses in of_mail.items():
            self._events.held(uuid, addresses, LEFT_UNDER_WAY)

    def tick(self) -> None:
        """See Store. What no provider takes from here, or not soon, others may be able to deliver."""
        if not self._delivery.may_begin:
            self._delivery.hand_all_back()
        self._delivery.hand_rest_back()

    def hand_back(self, delivery: Delivery) -> None:
        """See Store."""
        delivery.hand_all_back()
