"""Relay: the daemon, in the order of start and stop.

Start: log, spool (which recovers what a crash left), providers, delivery, listeners; then what waited is taken up.
Stop: listeners close, transactions under way end (for at most GRACE seconds), the spool closes, the log is flushed.

Failure: what makes a start impossible is told in one line on file descriptor 2, and the process exits with status 1.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import LoopingCall
from twisted.logger import globalLogPublisher
from twisted.python import runtime

import relay
from relay.config import Config
from relay.config.check import CONTROL_SOCKET
from relay.config.values import Listener
from relay.control.channel import ControlFactory
from relay.control.opening import open_socket
from relay.descriptors import raise_limit, regain_reserve
from relay.door import Door
from relay.drop.folder import Folder
from relay.drop.pickup import Pickup
from relay.events import Events, take_over, take_over_python
from relay.http.site import make_site
from relay.listening import CannotStart, open_listener
from relay.log import Log
from relay.notify import Notifier
from relay.service.lapse import Lapse
from relay.service.parts import Parts
from relay.service.reload import Reload
from relay.spool.background import Background
from relay.spool.spool import SpoolError
from relay.upstream.resolver import Resolver

GRACE = 28.5
"""Seconds that transactions under way have to end after SIGTERM."""

LAST = 1.0
"""Seconds to write down what came of those that did not, and to close the spool, if the disk allows it."""

TICK = 0.5
"""Seconds between two looks at connections that idle and providers that are to be probed."""


def make_service(config: Config, reactor: Any, read_again: Callable[[], Config] | None = None) -> IService:
    """The daemon that `config` describes. Nothing is opened before startService.

    At SIGHUP it goes on with what `read_again` reads, in a thread; without one SIGHUP ends the process.
    """
    return Relay(config, reactor, read_again)


class Relay(Service):
    """The daemon."""

    name = "mailrelay"

    def __init__(self, config: Config, reactor: Any, read_again: Callable[[], Config] | None = None) -> None:
        self._config = config
        self._reactor = reactor
        self._notifier = Notifier(os.environ, reactor)
        self._read_again = read_again
        self._ports: list[Door] = []
        self._open = False

    def startService(self) -> None:
        """Start everything, or exit with status 1."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted gives it no types
        if self._reactor.seconds is runtime.seconds:
            self._reactor.seconds = time.monotonic  # timers must not follow a clock that may be set
            self._reactor.installNameResolver(Resolver(self._reactor.callFromThread))
        self._notifier.start()
        self._notifier.status("the spool is opened")
        try:
            self._start()
        except (CannotStart, SpoolError) as trouble:
            os.write(2, f"mailrelay: {trouble}\n".encode())
            raise SystemExit(1) from None

    def stopService(self) -> Deferred[None]:
        """Fires when all is durable and closed."""
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        return Deferred.fromCoroutine(self._stop())

    def _start(self) -> None:
        config, reactor = self._config, self._reactor
        self._open_log()
        events = self._events
        self._parts = parts = Parts(config, reactor, self._log, events, self._is_open, raise_limit())
        smtp = self._listen(config.smtp.listen, parts.smtp)
        site = make_site(parts.observer, parts.metrics, clock=reactor, now=time.time)
        http = self._listen(config.http.listen, site)
        self._log.start()
        take_over(globalLogPublisher, events)
        take_over_python(events)
        for warning in filter(None, (*config.warnings, parts.shortage(config))):
            events.warning(warning)
        parts.store.tell()
        self._lapse = Lapse(lambda: parts.spool.health, parts.clock, events)
        parts.schedule.start()
        self._ticks, self._samples = LoopingCall(self._tick), LoopingCall(parts.observer.sample)
        self._ticks.clock = self._samples.clock = reactor
        self._ticks.start(TICK, now=False)
        self._samples.start(1.0, now=False)
        self._pickup = self._empty_drop()
        self._control = self._answer_commands()
        parts.alerts.start()
        self._open = True
        taking = f"mail is taken at {', '.join(smtp)}"
        if self._read_again is not None:
            self._reload_at_sighup(self._read_again, taking)
        events.started(version=relay.__version__, instance=config.instance, smtp=smtp, http=http)
        self._notifier.ready(taking)
        gc.collect()
        gc.freeze()  # else each full collection walks through every module again, for which all waits 30 ms or more

    def _is_open(self) -> bool:
        return self._open

    def _open_log(self) -> None:
        log = self._config.log
        try:
            self._log = Log(log.file, log.format, time.time)
        except OSError as error:
            raise CannotStart(f"the log file {log.file} cannot be opened: {error.strerror}") from None
        self._events = Events(self._log, time.time)

    def _answer_commands(self) -> ControlFactory:
        """Open the control socket."""
        reactor, events = self._reactor, self._events
        factory = ControlFactory(
            self._parts.commands.table(),
            reactor,
            lambda failure: events.error("a command could not be answered", failure),
        )
        path = self._config.spool.directory / CONTROL_SOCKET
        try:
            self._ports.append(Door(open_socket(reactor, path, factory)))
        except (CannotListenError, OSError) as error:
            cause = getattr(error, "socketError", error)
            raise CannotStart(f"the control socket {path} cannot be opened: {cause}") from None
        return factory

    def _empty_drop(self) -> Pickup | None:
        """Take what was left in the drop folder, now and from time to time. None where it cannot be used."""
        parts, spool, events = self._parts, self._config.spool, self._events
        try:
            folder = Folder(spool.drop, spool.directory / "damaged", time.time)
        except OSError as error:
            events.warning(
                f"the drop folder {spool.drop} cannot be used, so that mailrelay-sendmail can leave no mail while no "
                f"daemon runs: {error.strerror}"
            )
            return None
        pickup = Pickup(
            folder,
            f"{self._config.hostname}:{spool.drop} ",
            parts.smtp.policy,
            parts.intake,
            parts.spool,
            Background(self._reactor, 1, "drop"),
            self._reactor,
            events,
        )
        pickup.start()
        return pickup

    def _reload_at_sighup(self, read_again: Callable[[], Config], taking: str) -> None:
        reactor = self._reactor
        reload = Reload(
            self._parts, self._pickup, self._log, self._notifier, reactor, read_again, self._is_open, taking
        )
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reload.begin))

    def _tick(self) -> None:
        parts = self._parts
        for pool in parts.pools.values():
            pool.tidy()
        parts.delivery.tick()
        parts.alerts.tick()
        parts.store.tick()
        self._lapse.tick()
        self._rest_where_full()

    def _rest_where_full(self) -> None:
        """Who comes while no file descriptor is left waits for one: it is not to be taken before we have ours back."""
        resting = not regain_reserve()
        for port in self._ports:
            port.rest(resting)

    def _listen(self, listeners: Sequence[Listener], factory: ServerFactory) -> list[str]:
        """Open each; where they really are."""
        places: list[str] = []
        for listener in listeners:
            opened = open_listener(self._reactor, listener, factory)
            if opened is None:
                self._events.warning(f"{listener.endpoint} is left out: this host has no such address")
            else:
                port, place = opened
                self._ports.append(port)
                places.append(place)
        return places

    async def _stop(self) -> None:
        if not self._open:
            return
        self._open = False
        parts, store = self._parts, self._parts.store
        self._notifier.stopping()
        self._events.stopping()
        parts.alerts.stop()
        for port in self._ports:
            await _maybe(port.stopListening())
        self._control.stop()
        parts.schedule.stop()
        self._ticks.stop()
        self._samples.stop()
        ending = [parts.delivery.stop(), parts.smtp.stop()]
        store.hand_back(parts.delivery)
        if self._pickup is not None:
            ending.append(Deferred.fromCoroutine(self._pickup.stop()))
        for pool in parts.pools.values():
            pool.stop()
        timer = self._reactor.callLater(GRACE, self._end_now)
        late = [each for each in ending if not await self._ends(each, timer.getTime() + LAST)]
        last = max(timer.getTime(), self._reactor.seconds()) + LAST
        if timer.active():
            timer.cancel()
        if not await self._ends(parts.spool.close(), last) or late:
            self._events.error("the spool was not waited for any longer: what could not be written down is sent again")
        elif store.flights is not None:
            store.flights.close()
        self._events.stopped()
        self._log.close(2.0)
        self._notifier.stop()

    async def _ends(self, ending: Deferred[None], last: float) -> bool:
        """Whether it came to its end until then."""
        try:
            await ending.addTimeout(max(last - self._reactor.seconds(), 0.0), self._reactor)
        except TookTooLong:
            return False
        return True

    def _end_now(self) -> None:
        """The grace is over: a dot that is unanswered is written down as uncertain."""
        self._parts.smtp.abort()
        for pool in (*self._parts.pools.values(), *self._parts.left):
            pool.abort()


async def _maybe(result: Any) -> None:
    if isinstance(result, Deferred):
        await result
