"""Service: the only wiring. `make_service` puts a configuration's parts together, in the order of start and stop.

Start: log, spool (which recovers what a crash left), providers, delivery, listeners; then what waited is taken up.
Stop: listeners close, transactions under way end (for at most GRACE seconds), the spool closes, the log is flushed.

Failure: what makes a start impossible is told in one line on file descriptor 2, and the process exits with status 1.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import LoopingCall
from twisted.logger import globalLogPublisher
from twisted.python import runtime

import relay
from relay import policies
from relay.alerts.alerts import Alerts
from relay.alerts.lookout import Lookout
from relay.alerts.outbox import Outbox
from relay.alerts.ways import ways
from relay.clock import SpoolClock
from relay.config import Config, ConfigErrors
from relay.config.check import CONTROL_SOCKET
from relay.config.reload import needs_restart, reloaded
from relay.config.values import Listener, Provider
from relay.control.channel import ControlFactory
from relay.control.commands import Commands
from relay.control.opening import open_socket
from relay.control.trial import Trial
from relay.delivery.account import Account
from relay.delivery.brakes import Brakes
from relay.delivery.delivery import Delivery
from relay.delivery.flights import Flights, places
from relay.delivery.operator import Operator
from relay.delivery.reasons import Reasons
from relay.delivery.reports import Reports
from relay.drop.folder import Folder
from relay.drop.pickup import Pickup
from relay.events import Events, take_over, take_over_python
from relay.http import figures
from relay.http.history import History
from relay.http.site import make_site
from relay.intake import Intake
from relay.limits import Window
from relay.listening import CannotStart, open_listener
from relay.log import Log
from relay.metrics import Metrics
from relay.notify import Notifier
from relay.observer import Observer
from relay.schedule import Schedule
from relay.smtp.server.factory import LocalSMTPFactory
from relay.smtp.server.policy import Policy as ServerPolicy
from relay.spool.background import Background
from relay.spool.spool import LEFT_UNDER_WAY, Mail, Settlement, SpoolError, State
from relay.spool.sqlite import open_spool
from relay.upstream.breaker import Breaker
from relay.upstream.pool import Pool
from relay.upstream.resolver import Resolver
from relay.upstream.sender import Connection, Trust, connect, endpoint, trust

GRACE = 28.5
"""Seconds that transactions under way have to end after SIGTERM."""

LAST = 1.0
"""Seconds to write down what came of those that did not, and to close the spool, if the disk allows it."""

TICK = 0.5
"""Seconds between two looks at connections that idle and providers that are to be probed."""

DRIFT = "drift"
"""The note in which it is kept how far the system's clock was set since the mail was taken."""

LEAP = 5.0
"""Seconds by which a clock is set before that is worth a note."""


def make_service(config: Config, reactor: Any, read_again: Callable[[], Config] | None = None) -> IService:
    """The daemon that `config` describes. Nothing is opened before startService.

    At SIGHUP it goes on with what `read_again` reads, in a thread; without one SIGHUP ends the process.
    """
    return Relay(config, reactor, read_again)


class _Read(NamedTuple):
    """A configuration that was read again. `later`: the keys that take effect only after a restart."""

    config: Config
    later: Sequence[str]
    trusts: dict[str, Trust | None]
    outboxes: list[Outbox]


class Relay(Service):
    """The daemon."""

    name = "mailrelay"

    def __init__(self, config: Config, reactor: Any, read_again: Callable[[], Config] | None = None) -> None:
        self._config = config
        self._reactor = reactor
        self._notifier = Notifier(os.environ, reactor)
        self._read_again = read_again
        self._reading = self._to_be_read = False
        self._left: list[Pool] = []  # of providers that a reload has left out
        self._ports: list[IListeningPort] = []
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
        self._clock = SpoolClock(time.time, time.monotonic)
        self._spool = open_spool(
            config.spool.directory,
            reactor=reactor,
            now=self._clock,
            random_bits=random.SystemRandom().getrandbits,
            min_free=config.spool.min_free,
            committed=self._committed,
        )
        self._spool.quarantined = self._quarantined
        self._drift = 0.0
        if self._spool.newest:
            self._drift = float(self._spool.notes.get(DRIFT, "0"))
            self._clock.resume(self._drift, self._spool.newest)
        self._wire()
        smtp = self._listen(config.smtp.listen, self._smtp)
        http = self._listen(config.http.listen, make_site(self._observer, self._metrics, clock=reactor, now=time.time))
        self._log.start()
        take_over(globalLogPublisher, self._events)
        take_over_python(self._events)
        for warning in config.warnings:
            self._events.warning(warning)
        for damage in self._spool.found_damage:
            self._events.error(damage)
        for mail in self._spool.left_under_way:
            self._events.held(
                mail.envelope.uuid,
                [each.recipient.address for each in mail.standings if each.reply == LEFT_UNDER_WAY],
                LEFT_UNDER_WAY,
            )
        self._schedule.start()
        self._ticks.start(TICK, now=False)
        self._samples.start(1.0, now=False)
        self._pickup = self._empty_drop()
        self._control = self._answer_commands()
        self._alerts.start()
        self._open = True
        if self._read_again is not None:
            signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(self._hang_up))
        self._events.started(version=relay.__version__, instance=config.instance, smtp=smtp, http=http)
        self._taking = f"mail is taken at {', '.join(smtp)}"
        self._notifier.ready(self._taking)

    def _open_log(self) -> None:
        log = self._config.log
        try:
            self._log = Log(log.file, log.format, time.time)
        except OSError as error:
            raise CannotStart(f"the log file {log.file} cannot be opened: {error.strerror}") from None
        self._events = Events(self._log, time.time)

    def _wire(self) -> None:
        config, reactor, events = self._config, self._reactor, self._events
        self._metrics = Metrics(relay.__version__)
        self._metrics.gauges = lambda: figures.gauges(self._observer.health(), self._log.dropped)
        history = History(self._clock(), time.time())
        self._account = Account(events, self._metrics, time.time, history.took)
        self._pools = {provider.name: self._pool(provider, trust(provider)) for provider in config.providers}
        self._reports = Reports(policies.reports(config), self._spool, self._clock, time.time)
        self._flying = self._flights()
        self._delivery = Delivery(
            policies.delivery(config),
            self._spool,
            self._pools,
            reactor,
            self._clock,
            random.uniform,
            self._reports,
            Brakes(self._pools, self._spool.notes, self._clock, events),
            self._flying,
            self._account,
            events,
        )
        self._schedule = Schedule(
            self._spool, reactor, self._clock, config.delivery.queue_size, self._delivery.ready, events.warning
        )
        self._delivery.start(self._schedule)
        limit = config.smtp.rate_limit
        self._intake = Intake(
            policies.intake(config),
            self._spool,
            Window(limit.messages, limit.per),
            self._schedule.add,
            self._clock,
            time.time,
            events,
            self._metrics,
        )
        self._smtp = LocalSMTPFactory(
            ServerPolicy.of(config),
            self._intake,
            reactor,
            self._unexpected,
        )
        self._alerts = self._watch()
        self._observer = Observer(
            config.instance,
            self._spool,
            self._schedule,
            self._pools,
            self._intake,
            self._account,
            self._alerts,
            history,
            lambda: self._open,
            self._clock,
            reactor.seconds,
            time.time,
        )
        self._ticks = LoopingCall(self._tick)
        self._samples = LoopingCall(self._observer.sample)
        self._ticks.clock = self._samples.clock = reactor

    def _dial(self, provider: Provider, tls: Trust | None) -> Callable[[bool], Deferred[Connection]]:
        reactor, hostname = self._reactor, self._config.hostname
        where = endpoint(reactor, provider)
        return lambda pipelining: connect(reactor, provider, hostname, where, tls, pipelining=pipelining)

    def _pool(self, provider: Provider, tls: Trust | None) -> Pool:
        self._metrics.provider(provider.name)
        return Pool(
            provider,
            self._dial(provider, tls),
            Breaker(policies.probes(self._config), self._reactor.seconds()),
            self._reactor,
            self._events,
            lambda: self._delivery.changed(),
        )

    def _watch(self) -> Alerts:
        config, reactor = self._config, self._reactor
        return Alerts(
            policies.bounds(config),
            config.alerts.repeat,
            self._ways(config),
            Lookout(
                self._spool,
                self._schedule,
                lambda: list(self._pools.values()),
                self._account.newest,
                reactor,
                self._clock,
                time.time,
            ),
            self._spool,
            reactor,
            time.time,
            self._events,
        )

    def _ways(self, config: Config) -> list[Outbox]:
        return ways(
            config,
            lambda: list(self._pools.values()),
            self._reactor,
            time.time,
            random.getrandbits,
            self._events.warning,
        )

    def _answer_commands(self) -> ControlFactory:
        """Open the control socket."""
        config, reactor, events, delivery = self._config, self._reactor, self._events, self._delivery
        operator = Operator(
            self._spool, self._schedule, delivery, self._pools, self._account, events, reactor, self._clock
        )
        self._reasons = reasons = Reasons(
            self._schedule, delivery, self._pools, policies.limits(config), self._clock, reactor.seconds
        )
        self._trial = Trial(config.alerts.mail_from, self._intake, self._spool, operator, reasons, events, reactor)
        commands = Commands(
            self._spool,
            operator,
            reasons,
            self._trial,
            self._observer.health,
            lambda at: time.time() + at - self._clock(),
        )
        factory = ControlFactory(
            commands.table(), reactor, lambda failure: events.error("a command could not be answered", failure)
        )
        path = config.spool.directory / CONTROL_SOCKET
        try:
            self._ports.append(open_socket(reactor, path, factory))
        except (CannotListenError, OSError) as error:
            cause = getattr(error, "socketError", error)
            raise CannotStart(f"the control socket {path} cannot be opened: {cause}") from None
        return factory

    def _empty_drop(self) -> Pickup | None:
        """Take what was left in the drop folder, now and from time to time. None where it cannot be used."""
        spool, events = self._config.spool, self._events
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
            self._smtp.policy,
            self._intake,
            self._spool,
            Background(self._reactor, 1, "drop"),
            self._reactor,
            events,
        )
        pickup.start()
        return pickup

    def _flights(self) -> Flights | None:
        why: str | None = ""
        for path in places(self._config.spool.directory):
            try:
                return Flights(path, self._clock)
            except OSError as error:
                why = error.strerror
        self._events.warning(f"mail that ends the daemon will not be found out: flights: {why}")
        return None

    def _hang_up(self) -> None:
        """Read the configuration again; if that is being done already, once more."""
        self._to_be_read = True
        if not self._reading and self._open:
            self._reading = True
            Deferred.fromCoroutine(self._reload()).addErrback(
                lambda failure: self._events.error("the configuration could not be read again", failure)
            )

    async def _reload(self) -> None:
        threads = Background(self._reactor, 1, "reload")
        self._notifier.reloading()
        try:
            while self._to_be_read and self._open:
                self._to_be_read = False
                self._log.reopen(self._config.log.file, self._config.log.format)
                try:
                    self._follow(await threads.call(self._read))
                except ConfigErrors as errors:
                    for line in str(errors).splitlines():
                        self._events.error(f"the configuration is not taken, what runs goes on: {line}")
                    self._probe()
                except (OSError, ValueError) as error:
                    self._events.error(f"the configuration is not taken, what runs goes on: {error}")
                    self._probe()
        finally:
            self._reading = False
            threads.close()
            if self._open:
                self._notifier.ready(self._taking)

    def _read(self) -> _Read:
        """The new configuration, with all of it that waits for a disk. In a thread."""
        assert self._read_again is not None
        written = self._read_again()
        config = reloaded(self._config, written)
        trusts = {provider.name: trust(provider) for provider in config.providers}
        return _Read(config, needs_restart(self._config, written), trusts, self._ways(config))

    def _follow(self, read: _Read) -> None:
        """Go by a new configuration from now on; no connection is dropped, and no mail touched."""
        config = self._config = read.config
        self._log.reopen(config.log.file, config.log.format)
        self._follow_providers(config, read.trusts)
        self._reports.follow(policies.reports(config))
        self._schedule.follow(config.delivery.queue_size)
        self._intake.policy = policies.intake(config)
        limit, window = config.smtp.rate_limit, self._intake.window
        window.messages, window.per = limit.messages, limit.per
        policy = ServerPolicy.of(config)
        self._smtp.follow(policy)
        if self._pickup is not None:
            self._pickup.policy = policy
        self._reasons.limits = policies.limits(config)
        self._trial.sender = config.alerts.mail_from
        self._alerts.reload(policies.bounds(config), config.alerts.repeat, read.outboxes)
        self._probe()
        for warning in config.warnings:
            self._events.warning(warning)
        later = f", but not until a restart: {', '.join(read.later)}" if read.later else ""
        self._events.reloaded(f"the configuration was read again and is in force{later}")

    def _follow_providers(self, config: Config, trusts: dict[str, Trust | None]) -> None:
        """The same pools in their new order, with new ones among them. One that is not among them ends its work."""
        before = dict(self._pools)
        self._pools.clear()
        for provider in config.providers:
            tls, pool = trusts[provider.name], before.pop(provider.name, None)
            self._pools[provider.name] = self._pool(provider, tls) if pool is None else pool
        self._delivery.follow(policies.delivery(config))
        for provider in config.providers:
            pool = self._pools[provider.name]
            pool.breaker.probes = policies.probes(config)
            pool.follow(provider, self._dial(provider, trusts[provider.name]))
        for pool in before.values():
            pool.stop()
        self._left = [pool for pool in (*self._left, *before.values()) if pool.busy]

    def _probe(self) -> None:
        """Try at once every provider that gets no mail."""
        for name, pool in self._pools.items():
            pool.probe()
            self._delivery.brakes.release(name)

    def _tick(self) -> None:
        for pool in self._pools.values():
            pool.tidy()
        self._delivery.tick()
        self._alerts.tick()
        self._note_drift()

    def _note_drift(self) -> None:
        """The system's clock was set: how far is to be known after a restart, or mail would be as old as the step."""
        drift = self._clock.drift
        if abs(drift - self._drift) > LEAP:
            self._drift = drift
            note = Settlement(0, "", (), notes=((DRIFT, str(drift)),))
            self._spool.settle(note).addErrback(lambda failure: self._events.error(str(failure.value)))

    def _committed(self, writes: int, seconds: float) -> None:
        self._metrics.commit_seconds.observe(seconds)
        self._metrics.commit_messages.observe(writes)

    def _quarantined(self, mail: Mail, was: State | None) -> None:
        self._schedule.quarantined(was)
        envelope = mail.envelope
        self._events.held(envelope.uuid, [each.address for each in envelope.recipients], mail.standings[0].reply)

    def _unexpected(self, failure: Any, session: object) -> None:
        self._events.error("unexpected, the client was told to try again", failure)

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
        self._notifier.stopping()
        self._events.stopping()
        self._alerts.stop()
        for port in self._ports:
            await _maybe(port.stopListening())
        self._control.stop()
        self._schedule.stop()
        self._ticks.stop()
        self._samples.stop()
        ending = [self._delivery.stop(), self._smtp.stop()]
        if self._pickup is not None:
            ending.append(Deferred.fromCoroutine(self._pickup.stop()))
        for pool in self._pools.values():
            pool.stop()
        timer = self._reactor.callLater(GRACE, self._end_now)
        late = [each for each in ending if not await self._ends(each, timer.getTime() + LAST)]
        last = max(timer.getTime(), self._reactor.seconds()) + LAST
        if timer.active():
            timer.cancel()
        if not await self._ends(self._spool.close(), last) or late:
            self._events.error("the disk was not waited for any longer: what could not be written down is sent again")
        elif self._flying is not None:
            self._flying.close()
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
        self._smtp.abort()
        for pool in (*self._pools.values(), *self._left):
            pool.abort()


async def _maybe(result: Any) -> None:
    if isinstance(result, Deferred):
        await result
