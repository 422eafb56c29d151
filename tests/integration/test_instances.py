"""Several instances with one queue: which may die, freeze, stop and start in any number.

MAILRELAY_KILL_ROUNDS and MAILRELAY_KILL_SEED are as in test_kill.py; MAILRELAY_KILL_PAUSE=0 hands in more than can be
carried, so that what nobody has waits ever longer; MAILRELAY_FREEZE=40 really waits so many seconds
for a lease to run out. --log-cli-level=info shows what came of it.
"""

from __future__ import annotations

import logging
import math
import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.applications import Applications
from tests.fleet import Fleet, postgresql
from tests.postgres import Servers
from tests.reckoning import Reckoning, held
from tests.running import letter, soon
from tests.sink import Mail, Says, Sink

ROUNDS = int(os.environ.get("MAILRELAY_KILL_ROUNDS", "2"))
SEED = int(os.environ.get("MAILRELAY_KILL_SEED") or random.SystemRandom().getrandbits(32))
FREEZE = float(os.environ.get("MAILRELAY_FREEZE", "0"))
WORKERS = 10
APART = 3.0
"""Seconds between two kills: who takes over has to have been connected for as long."""

TAKEOVER = 5.0
PACE = 0.05
"""Seconds that the provider takes for a mail, so that some are always under way."""

PAUSE = float(os.environ.get("MAILRELAY_KILL_PAUSE", "0.05"))
"""Seconds between two mails of each of four applications: two instances can carry that, or the queue would grow."""

LOG = logging.getLogger(__name__)


@pytest.fixture
def dsn(postgresql_servers: Servers) -> str:
    """A database in which nothing is, of the PostgreSQL that pip brings."""
    return postgresql_servers["pip"].new()


class Watched(Sink):
    """A provider that knows nobody whose name begins so, and when it was first spoken to about whom.

    asked  when each recipient was named to it
    done   when a mail to each was taken, each time
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: defaultdict[str, list[float]] = defaultdict(list)
        self.done: defaultdict[str, list[float]] = defaultdict(list)
        self._pace = threading.Event()

    def answer(self, step: str, argument: bytes = b"") -> Says:
        """See Sink."""
        if step == "RCPT":
            address = argument.partition(b"<")[2].partition(b">")[0].decode()
            self.asked[address].append(time.monotonic())
            if address.startswith("nobody"):
                return Says("550 5.1.1 No such user")
        elif step == ".":
            self._pace.wait(PACE)
        return super().answer(step, argument)

    def keep(self, mail: Mail) -> None:
        """See Sink."""
        super().keep(mail)
        for recipient in mail.recipients:
            self.done[recipient.decode()].append(time.monotonic())

    def after(self, moment: float, recipients: Collection[str]) -> tuple[float, float]:
        """Until the last of these that had no mail at that moment was named by somebody, and was taken or refused.

        Who was on the way then and came to an end needs nobody else. Seconds; inf for who was never named.
        """
        began, ended = [0.0], [0.0]
        for name in recipients:
            done = [at for at in self.done[name] if not name.startswith("nobody")]
            if done and done[0] < moment:
                continue
            began.append(min((at for at in self.asked[name] if at >= moment), default=moment if done else math.inf))
            ended.append(min((at for at in done if at >= began[-1]), default=began[-1]))
        return max(began[1:], default=moment) - moment, max(ended[1:], default=moment) - moment


@pytest.fixture
def sink() -> Iterator[Watched]:
    """The provider of all instances."""
    with Watched() as sink:
        yield sink


def test_kills_at_random(tmp_path: Path, dsn: str, sink: Watched) -> None:
    """Three under load, one of them killed now and then: nobody is lost, or settled twice, and others go on soon."""
    LOG.info("MAILRELAY_KILL_SEED=%d", SEED)
    choose = random.Random(SEED)
    kills: list[tuple[float, int, set[str], int]] = []
    clock = threading.Event()
    with Fleet(tmp_path, "abc", [sink.table()], postgresql(dsn), {"delivery": {"workers": WORKERS}}) as fleet:
        fleet.start()
        applications = Applications(list(fleet.ports.values()), seed=SEED, largest=4096, pause=PAUSE)
        with applications:
            for _ in range(ROUNDS):
                applications.handed.wait_for(choose.randrange(20, 150))
                clock.wait(max(0.0, APART - (time.monotonic() - kills[-1][0])) if kills else 0.0)
                name = choose.choice("abc")
                fleet.running[name].process.kill()
                kills.append((time.monotonic(), fleet.ports[name], *left_by(dsn, name)))
                fleet.kill(name)
                applications.handed.wait_for(choose.randrange(50))
                fleet.start(name)
        soon(fleet.is_settled, "everything that waited is settled")
        waiting = held(fleet.folder / "a")
    reckoning = Reckoning.of(applications.handed, [sink], waiting)
    takeovers, ends = [], []
    for moment, port, left, others in kills:
        takeover, end = sink.after(moment, left - waiting.keys())
        end = max(end, sink.after(moment, handed_in_before(applications, port, moment))[1])
        LOG.info(
            "it had %d recipients, %d mails were nobody's: begun after %.2f s, all that it took ended after %.2f s",
            len(left),
            others,
            takeover,
            end,
        )
        takeovers.append(takeover)
        ends.append(end)
    twice = [who for who, times in fleet.settled().items() if times > 1]
    LOG.info("%s, told %s", reckoning, dict(applications.said))

    assert reckoning.lost == frozenset()
    assert reckoning.wrong == frozenset()
    assert reckoning.torn == 0
    assert reckoning.copies <= ROUNDS * WORKERS
    assert twice == []
    assert max(takeovers) < TAKEOVER
    assert max(ends) < TAKEOVER or not PAUSE
    assert set(applications.said) <= {421, 451}


def left_by(dsn: str, name: str) -> tuple[set[str], int]:
    """Recipients that wait of what one that has just been killed had; and how many mails are nobody's."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT address FROM recipient JOIN mail ON mail.key = recipient.mail WHERE recipient.state < 2 "
            "AND owner = (SELECT id FROM process WHERE name = %s ORDER BY beat_at DESC LIMIT 1)",
            (name,),
        ).fetchall()
        others = connection.execute("SELECT count(*) FROM mail WHERE owner IS NULL").fetchone()
    assert others is not None
    return {address for (address,) in rows}, int(others[0])


def handed_in_before(applications: Applications, port: int, moment: float) -> list[str]:
    """Whom the provider knows of those that were acknowledged there before that."""
    return [to for to, (where, at) in applications.places.items() if where == port and at < moment and "taken" in to]


def test_the_mail_of_one_that_was_killed(tmp_path: Path, dsn: str, sink: Watched) -> None:
    """All that it had begun is begun by another one within five seconds, though the provider has answered nothing."""
    settings = {"delivery": {"workers": 3}}
    with Fleet(tmp_path, "ab", [sink.table()], postgresql(dsn), settings) as fleet:
        fleet.start("a")
        with sink.gate(".") as gate:
            ids = fleet.running["a"].submit(*[letter(f"mail-{number}") for number in range(3)])
            sink.wait_until_reached(".", 3)
            fleet.start("b")
            began = time.monotonic()
            fleet.kill("a")
            sink.wait_until_reached(".", 6, within=60)
            took = time.monotonic() - began
            gate.opened.set()
            soon(fleet.is_settled, "all is settled")
    LOG.info("takeover %.2f s", took)

    assert took < TAKEOVER
    assert {mail.id for mail in sink.mails} == set(ids)
    assert fleet.finished() == dict.fromkeys(ids, 1)


def test_one_that_freezes(tmp_path: Path, dsn: str, sink: Watched) -> None:
    """Its lease runs out, another one sends its mail; what it wants to write when it wakes up is refused, and told."""
    with Fleet(tmp_path, "ab", [sink.table()], postgresql(dsn)) as fleet:
        fleet.start()
        frozen = fleet.running["a"]
        with sink.gate("."):
            [uuid] = frozen.submit(letter("late"))
            sink.wait_until_reached(".")
            frozen.process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
        if not FREEZE:
            with psycopg.connect(dsn) as connection:
                past = "clock_timestamp() - interval '40 s'"
                connection.execute(f"UPDATE process SET beat_at = {past}, until = {past} WHERE name LIKE '%a%'")
        sink.wait_for(2, within=max(60.0, FREEZE))
        LOG.info("another one had it after %.1f s", time.monotonic() - began)
        assert fleet.await_event("b", "finished")["id"] == uuid
        if FREEZE:
            threading.Event().wait(max(0.0, began + FREEZE - time.monotonic()))
        frozen.process.send_signal(signal.SIGCONT)
        said = frozen.line("came too late")
        LOG.info("%s", said)
        [again] = frozen.submit(letter("again"))
        sink.wait_for(3)
        soon(fleet.is_settled, "all is settled")

    assert fleet.settled() == {(uuid, "b@example.net"): 1, (again, "b@example.net"): 1}
    assert fleet.finished() == {uuid: 1, again: 1}


def test_ten_at_once(tmp_path: Path, dsn: str, sink: Watched) -> None:
    """On an empty database: one schema, and each of them takes mail."""
    names = [f"i{number}" for number in range(10)]
    with Fleet(tmp_path, names, [sink.table()], postgresql(dsn)) as fleet:
        fleet.start()
        ids = [uuid for name in names for uuid in fleet.running[name].submit(letter(name))]
        sink.wait_for(10)
        soon(fleet.is_settled, "all is settled")
        with psycopg.connect(dsn) as connection:
            rows = connection.execute("SELECT count(*) FROM version").fetchone()
            processes = connection.execute("SELECT count(DISTINCT slot) FROM process").fetchone()

    assert (rows, processes) == ((1,), (10,))
    assert sorted(fleet.finished()) == sorted(ids)
    assert fleet.errors() == []


def test_one_that_has_more_than_it_can_begin(tmp_path: Path, dsn: str, sink: Watched) -> None:
    """An idle one takes what waits, within a second."""
    with Fleet(tmp_path, "ab", [sink.table()], postgresql(dsn), {"delivery": {"workers": 2}}) as fleet:
        fleet.start()
        with sink.gate("."):
            began = time.monotonic()
            fleet.running["a"].submit(*[letter(f"mail-{number}") for number in range(4)])
            handed = time.monotonic()
            sink.wait_until_reached(".", 4)
            took = time.monotonic() - handed
        LOG.info("handed in within %.2f s, begun %.2f s later", handed - began, took)
        sink.wait_for(4)
        soon(fleet.is_settled, "all is settled")

    assert took < 1.5
    assert {name for name, _ in fleet.events("delivered")} == {"a", "b"}


def test_one_that_stops(tmp_path: Path, dsn: str, sink: Watched) -> None:
    """What it has not begun others go on with at once, before it has ended."""
    with Fleet(tmp_path, "ab", [sink.table()], postgresql(dsn), {"delivery": {"workers": 2}}) as fleet:
        fleet.start("a")
        with sink.gate(".") as gate:
            ids = fleet.running["a"].submit(*[letter(f"mail-{number}") for number in range(4)])
            sink.wait_until_reached(".", 2)
            fleet.start("b")
            fleet.running["a"].process.terminate()
            sink.wait_until_reached(".", 4)
            gate.opened.set()
            fleet.stop("a")
        soon(fleet.is_settled, "all is settled")

    assert fleet.finished() == dict.fromkeys(ids, 1)
    assert len(sink.mails) == 4
