"""The database ends, comes back, is another one, or does not answer: what applications are told; nothing is lost.

MAILRELAY_AWAY_ROUNDS says how often; --log-cli-level=info shows what came of it.
"""

from __future__ import annotations

import logging
import os
import smtplib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.applications import Applications
from tests.cutting import Cutting
from tests.fleet import Fleet, postgresql
from tests.postgres import Postgres, build
from tests.reckoning import Reckoning, held
from tests.running import given, letter, soon
from tests.sink import Sink

ROUNDS = int(os.environ.get("MAILRELAY_AWAY_ROUNDS", "2"))
LOG = logging.getLogger(__name__)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """The provider of all instances."""
    with Sink() as sink:
        sink.judge = lambda step, what: "550 5.1.1 No such user" if step == "RCPT" and b"<nobody" in what else ""
        yield sink


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of the test's own."""
    with Postgres(build("pip")) as server:
        yield server


def reckoned(fleet: Fleet, applications: Applications, sink: Sink) -> Reckoning:
    """What came of it, once all is settled; nobody was lost, or settled twice."""
    soon(fleet.is_settled, "everything that waited is settled")
    reckoning = Reckoning.of(applications.handed, [sink], held(fleet.folder / "a"))
    LOG.info("%s", reckoning)
    LOG.info("told %s, connections lost %d", dict(applications.said), applications.lost)
    assert reckoning.lost == frozenset()
    assert reckoning.wrong == frozenset()
    assert reckoning.torn == 0
    assert reckoning.held == 0
    assert [who for who, times in fleet.settled().items() if times > 1] == []
    assert set(applications.said) <= {451}
    assert applications.refused == {}
    return reckoning


def test_it_crashes_under_load(tmp_path: Path, sink: Sink, server: Postgres) -> None:
    """Mail gets 451 until it is back; what was acknowledged is delivered, once."""
    with Fleet(tmp_path, "ab", [sink.table()], postgresql(server.new())) as fleet:
        fleet.start()
        with Applications(list(fleet.ports.values()), largest=4096) as applications:
            for _ in range(ROUNDS):
                applications.handed.wait_for(100)
                server.restart("immediate")
            applications.handed.wait_for(100)
        reckoning = reckoned(fleet, applications, sink)

    assert 451 in applications.said
    assert reckoning.copies == 0


@pytest.mark.parametrize("ends", [Postgres.kill, Postgres.freeze])
def test_a_standby_is_promoted_under_load(
    tmp_path: Path, sink: Sink, server: Postgres, ends: Callable[[Postgres], None]
) -> None:
    """Instances find it by themselves, and it has all that was acknowledged: also where the primary only hangs."""
    with server.standby() as standby:
        server.synchronous()
        both = server.new(standby)
        with Fleet(tmp_path, "ab", [sink.table()], postgresql(both)) as fleet:
            fleet.start()
            with Applications(list(fleet.ports.values()), largest=4096) as applications:
                applications.handed.wait_for(200)
                ends(server)
                began = time.monotonic()
                standby.promote()
                applications.handed.wait_for(1)
                LOG.info("mail is taken again after %.1f s", time.monotonic() - began)
                applications.handed.wait_for(200)
            server.kill()
            reckoned(fleet, applications, sink)

    assert applications.lost == 0


def test_no_standby_to_wait_for(tmp_path: Path, sink: Sink, server: Postgres) -> None:
    """Who waits behind a dot is told 451 in time, sessions do not pile up, and all goes on once it is back."""
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'mailrelay%%' AND %s"
    with server.standby() as standby:
        server.synchronous()
        with Fleet(tmp_path, "a", [sink.table()], postgresql(server.new())) as fleet:
            fleet.start()
            relay = fleet.running["a"]
            taken = relay.submit(letter("before"))
            standby.kill()
            with relay.client() as client, pytest.raises(smtplib.SMTPResponseException) as refused:
                given(client, letter("without"))
            soon(lambda: not relay.health()["spool"]["writable"], "it is known to be away")
            fleet.await_event("a", "refused")
            ((highest,),) = server.ask(sessions, True)
            standby.start()
            soon(lambda: relay.health()["spool"]["writable"], "it is known to be back")
            taken += relay.submit(letter("after"))
            soon(fleet.is_settled, "everything that waited is settled")
            said = [str(entry["message"]) for _, entry in fleet.events("error", "warning")]

    assert (refused.value.smtp_code, refused.value.smtp_error[:6]) == (451, b"4.3.0 ")
    assert "the spool takes no mail: it has not answered for 5 s" in said
    assert [message for message in said if message.startswith("the spool takes mail again, after ")]
    assert highest <= 8
    assert set(taken) <= {mail.id for mail in sink.mails}
    assert len(sink.mails) <= 3


def test_the_answer_to_a_commit_is_lost(tmp_path: Path, sink: Sink, server: Postgres) -> None:
    """Nobody knows then whether it was done: 451, never 250; what was acknowledged is delivered."""
    with Cutting(server.port) as cutting:
        dsn = server.new().replace(f"port={server.port}", f"port={cutting.port}")
        with Fleet(tmp_path, "ab", [sink.table()], postgresql(f"{dsn} sslmode=disable gssencmode=disable")) as fleet:
            fleet.start()
            with Applications(list(fleet.ports.values()), largest=4096) as applications:
                for _ in range(5 * ROUNDS):
                    applications.handed.wait_for(20)
                    cutting.cut()
                applications.handed.wait_for(20)
            reckoning = reckoned(fleet, applications, sink)
    LOG.info("%d cuts, %d copies", cutting.cuts, reckoning.copies)


def test_it_is_away(tmp_path: Path, sink: Sink, server: Postgres) -> None:
    """451, and not ready; once it is back, all goes on by itself."""
    with Fleet(tmp_path, "a", [sink.table()], postgresql(server.new())) as fleet:
        fleet.start()
        relay = fleet.running["a"]
        relay.submit(letter("before"))
        sink.wait_for(1)
        server.stop()
        soon(lambda: not relay.health()["spool"]["writable"], "it is known to be away")
        with relay.client() as client, pytest.raises(smtplib.SMTPResponseException) as refused:
            given(client, letter("away"))
        server.start()
        soon(lambda: relay.health()["spool"]["writable"], "it is known to be back")
        relay.submit(letter("after"))
        sink.wait_for(2)

    assert (refused.value.smtp_code, refused.value.smtp_error[:6]) == (451, b"4.3.0 ")
    assert len(sink.mails) == 2


@pytest.mark.parametrize(
    ("settings", "words"), [({"fsync": "off"}, ["fsync"]), ({"fsync": "on"}, ["cannot", "PostgreSQL"])]
)
def test_a_server_that_no_mail_is_trusted_to(
    tmp_path: Path, sink: Sink, settings: dict[str, str], words: list[str]
) -> None:
    """A start says why there is none: no fsync, nobody there."""
    with Postgres(build("pip"), settings) as server:
        dsn = server.new()
        if settings["fsync"] == "on":
            server.stop()
        with Fleet(tmp_path, "a", [sink.table()], postgresql(dsn)) as fleet, pytest.raises(AssertionError) as wrong:
            fleet.start()

    for word in words:
        assert word in str(wrong.value)


def test_several_hosts_and_no_standby(tmp_path: Path, sink: Sink, server: Postgres) -> None:
    """A start says what a promotion could lose."""
    with Fleet(tmp_path, "a", [sink.table()], postgresql(server.new(server))) as fleet:
        fleet.start()
        assert "synchronous" in fleet.running["a"].line('"level":"warning"')
