"""A queue in PostgreSQL that several processes share: whose mail is whose, and what becomes of it when one is gone."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relay.config.secret import Secret
from relay.envelope import Envelope, Recipient
from relay.schedule import SharedSchedule
from relay.spool.postgresql import PostgresqlSpool, figures, open_spool, server, statements
from relay.spool.spool import (
    LARGE,
    LEFT_UNDER_WAY,
    UNDER_WAY,
    Held,
    LostTurn,
    Mail,
    Settlement,
    SpoolError,
    SpoolFailing,
    Standing,
    State,
    Submission,
)
from tests.contract.pump import Pump
from tests.postgres import Postgres, Servers, build
from tests.running import soon


@dataclass
class Crew:
    """Processes that share a queue, all in this one; what their threads ask for is called while something is awaited.

    dsn, folder  where the queue is, and where their control sockets would be
    """

    dsn: str
    folder: Path
    pump: Pump = field(default_factory=Pump)
    spools: list[PostgresqlSpool] = field(default_factory=list)

    def join(self, name: str = "a", room: int = 0) -> PostgresqlSpool:
        """One more, which has room for so many mails."""
        spool = open_spool(
            Secret(self.dsn),
            self.folder,
            name=name,
            reactor=self.pump,
            now=time.time,
            random_bits=random.SystemRandom().getrandbits,
        )
        spool.room = lambda: room - spool.promised - len(mine(spool))
        self.spools.append(spool)
        return spool

    def wait(self, deferred: Deferred[Any]) -> Any:
        """What it fires with."""
        return self.pump.wait(deferred)

    def submit(self, spool: PostgresqlSpool, *people: str, body: bytes = b"Hello.\r\n") -> Submission:
        """A durable mail that came by way of that process."""
        key, uuid = spool.next_id()
        recipients = tuple([Recipient(address) for address in people or ("b@example.net",)])
        envelope = Envelope(key, uuid, "a@example.com", recipients, time.time(), len(body))
        submission = Submission(envelope, b"\r\n", body)
        self.wait(spool.submit(submission))
        return submission

    def claim(self, spool: PostgresqlSpool, limit: int = 100, *, suspects: bool = True) -> list[Mail]:
        """See SharedSpool."""
        claimed: list[Mail] = self.wait(spool.claim(time.time(), limit, suspects=suspects))
        return claimed

    def end(self, spool: PostgresqlSpool, mail: Mail | Submission, turn: int = 1) -> None:
        """Its mail was delivered."""
        envelope = mail.envelope
        turn = mail.turn if isinstance(mail, Mail) else turn
        self.wait(spool.settle(Settlement(envelope.key, envelope.uuid, (), finished=True, turn=turn)))

    def defer(self, spool: PostgresqlSpool, mail: Mail, due: float) -> None:
        """Its mail is put off."""
        standing = replace(mail.standings[0], state=State.DEFERRED, attempts=1, due=due)
        key, uuid = mail.envelope.key, mail.envelope.uuid
        self.wait(spool.settle(Settlement(key, uuid, (standing,), turn=mail.turn, released=True)))

    def until(self, condition: Callable[[], bool]) -> None:
        """Call what is asked for until that is so."""
        self.pump.until(condition)

    def kill(self, spool: PostgresqlSpool) -> None:
        """As a kill does: its sessions end, and nothing of it is said any more."""
        me = spool._membership.member.id
        spool._pulse.close()
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("UPDATE process SET beat_at = beat_at - interval '4 s' WHERE id = %s", (me,))

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of an answer."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(statement.encode(), values).fetchall()


def mine(spool: PostgresqlSpool) -> set[int]:
    """The keys of the mails that a process has."""
    return spool._mine


def keys(mails: list[Mail]) -> list[int]:
    """Theirs."""
    return [mail.envelope.key for mail in mails]


@pytest.fixture
def crew(postgresql_servers: Servers, tmp_path: Path) -> Iterator[Crew]:
    """A queue in which nothing is, and nobody."""
    crew = Crew(postgresql_servers["pip"].new(), tmp_path)
    yield crew
    for spool in crew.spools:
        crew.wait(spool.close())


def test_mail_that_finds_a_free_worker_is_ours_at_once(crew: Crew) -> None:
    """As many as there is room for; what comes behind those is anybody's."""
    one, other = crew.join("a", room=2), crew.join("b")
    submitted = [crew.submit(one) for _ in range(3)]
    key = submitted[2].envelope.key

    assert [one.has(each.envelope.key) for each in submitted] == [True, True, False]
    assert keys(crew.claim(other)) == [key]
    assert crew.claim(one) == []


def test_claims_never_overlap(crew: Crew) -> None:
    """None is in two memories, none has more than it asked for, and the oldest go first."""
    one, other = crew.join("a"), crew.join("b")
    submitted = [crew.submit(one).envelope.key for _ in range(10)]
    claims = [(spool, spool.claim(time.time(), 2, suspects=True)) for _ in range(3) for spool in (one, other)]
    claimed = [keys(crew.wait(claim)) for _, claim in claims]

    assert max(map(len, claimed)) <= 2
    assert sorted(key for some in claimed for key in some) == submitted
    assert sorted(mine(one) | mine(other)) == submitted
    assert not mine(one) & mine(other)


def test_due_mail_gets_half_of_what_the_newest_leaves(crew: Crew) -> None:
    """Where new mail waits too; what is not due yet is not claimed."""
    spool = crew.join()
    for _ in range(4):
        crew.submit(spool)
    early, late = crew.claim(spool, 4)[:2], time.time() + 3600
    for mail in early:
        crew.defer(spool, mail, time.time() - 1)
    due = keys(early) + keys(others := crew.claim(spool, 2))
    for mail in others:
        crew.defer(spool, mail, time.time() - 1)
    new = [crew.submit(spool).envelope.key for _ in range(4)]
    claimed = keys(crew.claim(spool, 4))

    assert len(claimed) == 4
    assert set(claimed) >= {new[0], *new[2:]}
    assert set(claimed) & set(due)
    for mail in crew.wait(spool.page(0, 100)):
        if mail.turn:
            crew.defer(spool, mail, late)
    assert not set(keys(crew.claim(spool, 100))) & set(claimed)


def test_what_has_just_come_gets_half_of_the_places(crew: Crew) -> None:
    """Where mail has waited for longer, too: of an odd number the last one in turn. Each is claimed once."""
    spool = crew.join()
    submitted = [crew.submit(spool).envelope.key for _ in range(12)]
    claimed = [keys(crew.claim(spool, limit)) for limit in (4, 1, 1, 2, 100)]

    assert claimed[0] == [*submitted[:2], *submitted[-2:]]
    assert sorted(claimed[1] + claimed[2]) == [submitted[2], submitted[-3]]
    assert claimed[3] == [submitted[3], submitted[-4]]
    assert claimed[4] == submitted[4:-4]


def test_one_puts_reports_together(crew: Crew) -> None:
    """Those that were put off as too many are the one's that speaks for all, so that they become one digest."""
    one, other = crew.join("a"), crew.join("b")
    crew.until(lambda: one.speaks or other.speaks)
    first, second = (one, other) if one.speaks else (other, one)
    key, uuid = one.next_id()
    envelope = Envelope(key, uuid, "", (Recipient("a@example.com"),), time.time(), 9, report=True)
    crew.wait(one.submit(Submission(envelope, b"", b"Sorry.\r\n\r\n", due=time.time() - 1)))

    assert crew.claim(second) == []
    assert keys(crew.claim(first)) == [key]


def test_reports_that_nobody_puts_together(crew: Crew) -> None:
    """Who is to may have no provider: in a minute they are anybody's."""
    one, other = crew.join("a"), crew.join("b")
    crew.until(lambda: one.speaks or other.speaks)
    silent = other if one.speaks else one
    key, uuid = silent.next_id()
    envelope = Envelope(key, uuid, "", (Recipient("a@example.com"),), time.time(), 9, report=True)
    crew.wait(silent.submit(Submission(envelope, b"", b"Sorry.\r\n\r\n", due=time.time() - 61)))

    assert keys(crew.claim(silent)) == [key]


def test_due_mail_fills_all_places_where_nothing_else_waits(crew: Crew) -> None:
    """At once: each claim takes half of what is left, and the next one follows."""
    other = crew.join()
    for _ in range(12):
        crew.submit(other)
    for mail in crew.claim(other, 12):
        crew.defer(other, mail, time.time() - 1)
    spool = crew.join("b")
    schedule: SharedSchedule
    schedule = SharedSchedule(
        spool,
        Clock(),
        time.time,
        limit=100,
        on_ready=lambda item, numbers: None,
        on_trouble=pytest.fail,
        takes_mail=lambda: True,
        free=lambda fresh: 10 - len(schedule.items),
        suspects=lambda: True,
        on_crashed=lambda key, times: None,
    )
    schedule.start()

    crew.until(lambda: len(schedule.items) == 10)
    schedule.stop()


def test_fresh_mail_is_ours_while_what_waits_fills_the_places(crew: Crew) -> None:
    """It is taken with its lease and handed out, as far as there is room for such; all else is anybody's."""
    spool = crew.join("a")
    handed: list[int] = []
    schedule = SharedSchedule(
        spool,
        Clock(),
        time.time,
        limit=100,
        on_ready=lambda item, numbers: handed.append(item.envelope.key),
        on_trouble=pytest.fail,
        takes_mail=lambda: True,
        free=lambda fresh: 2 - len(handed) if fresh else 0,
        suspects=lambda: True,
        on_crashed=lambda key, times: None,
    )
    schedule.start()

    submitted = []
    for _ in range(3):
        submitted.append(crew.submit(spool))
        schedule.add(submitted[-1])

    assert handed == [each.envelope.key for each in submitted[:2]]
    assert keys(crew.claim(crew.join("b"))) == [submitted[2].envelope.key]
    schedule.stop()


def test_what_is_given_back_is_anybodys(crew: Crew) -> None:
    """By a settlement that says so, by release, and by the end of a process, which others hear of."""
    one, other = crew.join("a", room=3), crew.join("b")
    submitted = [crew.submit(one) for _ in range(3)]
    (mail,) = [mail for mail in crew.wait(one.page(0, 1)) if mail.turn]
    crew.defer(one, mail, time.time() - 1)
    one.release(submitted[1].envelope.key)
    crew.wait(one.forget(()))

    assert sorted(keys(crew.claim(other))) == sorted(each.envelope.key for each in submitted[:2])

    waits: list[bool] = []
    other.waits = lambda ready, _: waits.append(ready)
    crew.spools.remove(one)
    crew.wait(one.close())
    crew.until(lambda: any(waits))

    assert keys(crew.claim(other)) == [submitted[2].envelope.key]
    assert crew.ask("SELECT crashes FROM mail WHERE key = %s", submitted[2].envelope.key) == [(0,)]


def test_the_mail_of_the_dead(crew: Crew) -> None:
    """It is taken over once its row is 3 s old, its lock free and the other one 3 s there; its end is counted."""
    one, other = crew.join("a", room=2), crew.join("b")
    whole = crew.submit(one)
    marked = crew.submit(one)
    standing = Standing(0, marked.envelope.recipients[0], State.HELD, reply=UNDER_WAY)
    crew.wait(one.settle(Settlement(marked.envelope.key, marked.envelope.uuid, (standing,), turn=1)))
    gone: list[tuple[object, ...]] = []
    other.gone = lambda *what: gone.append(what)
    began = time.monotonic()
    crew.kill(one)
    crew.until(lambda: bool(gone))

    assert gone == [("a", 2, ((marked.envelope.uuid, "b@example.net"),))]
    assert time.monotonic() - began < 5
    assert crew.wait(other.held()) == Held(uncertain=1)
    assert crew.wait(other.find(marked.envelope.uuid)).standings[0].reply == LEFT_UNDER_WAY
    (mail,) = crew.claim(other)
    assert (mail.envelope.key, mail.crashes) == (whole.envelope.key, 1)

    refused: list[str] = []
    one.lost = refused.append
    with pytest.raises(LostTurn):
        crew.end(one, whole)
    crew.until(lambda: bool(refused))
    crew.end(other, mail)
    assert keys(crew.claim(one)) == []
    assert keys(crew.wait(other.page(0, 10))) == [marked.envelope.key]


def test_the_mail_of_the_dead_goes_first(crew: Crew) -> None:
    """Before what waits longer, and what is due."""
    one, other = crew.join("a", room=2), crew.join("b")
    older = [crew.submit(other) for _ in range(2)]
    (mail,) = crew.claim(other, 1)
    crew.defer(other, mail, time.time() - 1)
    had = [crew.submit(one).envelope.key for _ in range(2)]
    gone: list[tuple[object, ...]] = []
    other.gone = lambda *what: gone.append(what)
    crew.kill(one)
    crew.until(lambda: bool(gone))

    assert keys(crew.claim(other, 1) + crew.claim(other, 1)) == had
    assert sorted(keys(crew.claim(other))) == [each.envelope.key for each in older]


def test_who_was_there_at_two_ends_comes_alone(crew: Crew) -> None:
    """One at a time, and only where it is asked for; of one end nobody is suspected. The others wait in no memory."""
    had: list[int] = []
    other = crew.join("b")
    for crashes in (1, 2):
        one = crew.join(f"a{crashes}", room=3)
        had += [crew.submit(one).envelope.key for _ in range(3)] if not had else keys(crew.claim(one))
        gone: list[tuple[object, ...]] = []
        other.gone = lambda *what, gone=gone: gone.append(what)
        crew.kill(one)
        crew.until(lambda gone=gone: bool(gone))  # type: ignore[misc]  # of a lambda with a default
    new = crew.submit(other).envelope.key

    assert had[:3] == had[3:]
    assert keys(crew.claim(other, suspects=False)) == [new]
    for key in had[:3]:
        assert [(mail.envelope.key, mail.crashes) for mail in crew.claim(other)] == [(key, 2)]


def test_a_process_that_lost_everything_begins_anew(crew: Crew) -> None:
    """Under another id and in another slot; mail that comes meanwhile is taken all the same."""
    one = crew.join("a", room=1)
    crew.submit(one)
    before = one._membership.member
    crew.ask("DELETE FROM process RETURNING 1")
    crew.ask("DELETE FROM tally WHERE process <> 0 RETURNING 1")
    submission = crew.submit(one)

    assert one._membership.member.id != before.id
    assert not mine(one) - {submission.envelope.key}
    assert submission.envelope.key in keys(crew.wait(one.page(0, 10)))


def test_a_body_whose_upload_is_gone_is_not_acknowledged(crew: Crew) -> None:
    """Pieces go with their process; its mail must not be there without them."""
    spool = crew.join()
    writer = spool.new_body()
    writer.write(b"x" * (LARGE + 1))
    key, uuid = spool.next_id()
    crew.wait(writer.finish(uuid))
    crew.ask("DELETE FROM upload RETURNING 1")
    envelope = Envelope(key, uuid, "a@example.com", (Recipient("b@example.net"),), time.time(), LARGE + 1)
    with pytest.raises(SpoolError):
        crew.wait(spool.submit(Submission(envelope, b"", writer)))

    assert crew.wait(spool.page(0, 10)) == []


def test_a_mail_that_is_asked_for(crew: Crew) -> None:
    """Who has it hears of that; until it is given back it is kept, then it goes to who asked, and to nobody else."""
    one, other, third = crew.join("a", room=1), crew.join("b"), crew.join("c")
    key = crew.submit(one).envelope.key
    wanted: list[int] = []
    heard: list[int] = []
    one.wanted, third.wanted = wanted.append, heard.append
    with pytest.raises(LostTurn):
        crew.wait(other.obtain(key))
    other.ask_for(key)
    crew.until(lambda: wanted == [key] == heard)
    one.release(key)
    crew.wait(one.forget(()))

    assert crew.claim(third) == []
    assert crew.wait(other.obtain(key)).envelope.key == key
    assert crew.wait(other.obtain(key + 1)) is None


def test_what_others_have_is_shown_so(crew: Crew) -> None:
    """In a list, with how often it crashed; and nobody writes about it who has no lease."""
    one, other = crew.join("a", room=1), crew.join("b")
    submission = crew.submit(one)
    (mine_,), (theirs,) = crew.wait(one.page(0, 10)), crew.wait(other.page(0, 10))

    assert (mine_.turn, mine_.elsewhere) == (1, False)
    assert (theirs.turn, theirs.elsewhere) == (0, True)
    with pytest.raises(LostTurn):
        crew.end(other, submission, turn=0)
    crew.end(one, submission)


def test_figures_are_the_whole_queue_s(crew: Crew) -> None:
    """Whoever moves mail: each sees all of it within a second or so, the own at once; also what the dead have left."""
    one, other = crew.join("a"), crew.join("b")
    for _ in range(3):
        crew.submit(one)
    assert one.figures.written == (3, 0, 0)
    crew.until(lambda: other.figures.written == (3, 0, 0))
    mails = crew.claim(other, 2)
    crew.defer(other, mails[0], time.time() + 100)
    crew.end(other, mails[1])
    assert other.figures.written == (1, 1, 0)
    crew.until(lambda: one.figures.written == (1, 1, 0))
    other.shown = (-1, 1, 0, 0)
    crew.until(lambda: one.figures.others == (-1, 1, 0, 0))

    crew.kill(other)
    crew.until(lambda: len(crew.ask("SELECT 1 FROM process")) == 1 and one.figures.others == (0, 0, 0, 0))
    assert one.figures.written == (1, 1, 0)


def test_one_speaks(crew: Crew) -> None:
    """Of all that share a queue; another one does when that one is gone."""
    one, other = crew.join("a"), crew.join("b")
    crew.until(lambda: one.speaks or other.speaks)
    assert one.speaks != other.speaks
    first, second = (one, other) if one.speaks else (other, one)
    crew.kill(first)
    crew.until(lambda: second.speaks)


def test_another_one_speaks_when_that_one_is_frozen(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its session is there, and holds the lock: it is ended with the process."""
    monkeypatch.setattr("relay.spool.postgresql.pulse.LONG", 0.0)
    one, other = crew.join("a"), crew.join("b")
    crew.until(lambda: one.speaks or other.speaks)
    frozen, second = (one, other) if one.speaks else (other, one)
    monkeypatch.setattr(frozen._pulse, "_safely", lambda step: False)
    monkeypatch.setattr(frozen._pulse, "_wait", lambda seconds: time.sleep(0.05))
    me = frozen._membership.member.id
    past = "beat_at = now() - interval '40 s', until = now() - interval '10 s'"
    crew.ask(f"UPDATE process SET {past} WHERE id = %s RETURNING 1", me)

    crew.until(lambda: second.speaks)


def test_reports_are_counted_together(crew: Crew) -> None:
    """So many to one address go at once, whoever writes them; the others when its hour ends."""
    one, other = crew.join("a"), crew.join("b")
    admitted = [crew.wait(spool.admit("A@example.com", 3, 1000.0 + n)) for n in range(3) for spool in (one, other)]

    assert admitted == [None] * 3 + [4600.0] * 3
    assert crew.wait(one.admit("b@example.com", 0, 1000.0)) == 4600.0
    assert crew.wait(other.admit("a@example.com", 3, 4600.0)) is None


def test_notes_are_heard(crew: Crew) -> None:
    """What one writes down with an outcome the others read again."""
    one, other = crew.join("a", room=1), crew.join("b")
    noted: list[object] = []
    other.noted = noted.append
    submission = crew.submit(one)
    envelope = submission.envelope
    notes = (("brake:p", "text"),)
    crew.wait(one.settle(Settlement(envelope.key, envelope.uuid, (), notes=notes, finished=True, turn=1)))

    crew.until(lambda: {"brake:p": "text"} in noted)


def test_ten_start_at_once(crew: Crew) -> None:
    """On a database in which nothing is: one schema, ten slots."""
    wrong: list[BaseException] = []

    def start(number: int) -> None:
        try:
            crew.join(f"i{number}")
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert crew.ask("SELECT count(DISTINCT slot), max(slot) FROM process") == [(10, 9)]
    assert crew.ask("SELECT number FROM version") == [(1,)]
    made = [spool.next_id()[0] for _ in range(5) for spool in crew.spools]
    assert len(set(made)) == 50


class TestServer:
    """Which servers mail is trusted to."""

    def test_fsync_off_is_refused(self, tmp_path: Path) -> None:
        """What it says is written may be lost."""
        with Postgres(build("pip"), {"fsync": "off"}) as server, pytest.raises(SpoolError, match="fsync = off"):
            Crew(server.dsn(), tmp_path).join()

    def test_several_hosts_without_a_synchronous_standby(self, postgresql_servers: Servers, tmp_path: Path) -> None:
        """A promotion would lose mail: whoever runs it is told."""
        server = postgresql_servers["pip"]
        dsn = server.new().replace("host=127.0.0.1", "host=127.0.0.1,127.0.0.1")
        crew = Crew(dsn, tmp_path)
        spool = crew.join()

        assert "no synchronous standby" in spool.doubts[0]
        crew.wait(spool.close())

    @pytest.mark.parametrize(
        "dsn",
        [
            "host=x pass word=geheim",
            "postgresql://mail:ein@geheim@127.0.0.1/mail",
            "postgresql://mail:geheim/@127.0.0.1/mail",
            "postgresql://mail:1/geheim@127.0.0.1/mail",
            "host=127.0.0.1 port=1 user=mail password=x sslmode=geheim",
        ],
    )
    def test_a_dsn_that_is_none_is_not_shown(self, tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Since it may hold a password, or be a part of one."""
        monkeypatch.setattr("relay.spool.postgresql.opening.START", 0.0)
        with pytest.raises(SpoolError) as caught:
            Crew(dsn, tmp_path).join()

        assert "geheim" not in f"{caught.value}{caught.value.__cause__}{caught.value.__context__}"

    def test_a_newer_schema_is_refused(self, crew: Crew) -> None:
        """Both numbers are named."""
        crew.wait(crew.join().close())
        crew.spools.clear()
        crew.ask("UPDATE version SET number = 99 RETURNING 1")
        with pytest.raises(SpoolError, match=r"schema 99.*knows 1"):
            crew.join()

    def test_a_server_that_hangs(self, crew: Crew) -> None:
        """No mail is to be begun where none was written for so long; that is over with the first that is."""
        spool = crew.join("a")
        with psycopg.connect(crew.dsn) as other:
            other.execute("LOCK TABLE tally")
            soon(lambda: not spool.health.writable, "it is found out", within=10.0)
        soon(lambda: spool.health.writable, "it goes on")

    def test_away_and_back(self, tmp_path: Path) -> None:
        """What is asked for meanwhile fails; leases, figures and outcomes go on where they were."""
        with Postgres(build("pip")) as server:
            crew = Crew(server.dsn(), tmp_path)
            spool = crew.join("a", room=2)
            kept, ended = crew.submit(spool), crew.submit(spool)
            server.stop("immediate")
            with pytest.raises(SpoolFailing):
                crew.submit(spool)
            assert not spool.health.writable
            with pytest.raises(SpoolFailing):
                crew.end(spool, ended)
            server.start()
            soon(lambda: spool.health.writable, "the spool works again")
            crew.end(spool, ended)

            assert keys(crew.wait(spool.page(0, 10))) == [kept.envelope.key]
            assert spool.figures.written == (1, 0, 0)
            crew.end(spool, kept)
            crew.wait(spool.close())

    def test_a_session_that_the_server_has_ended(self, crew: Crew) -> None:
        """What is read is asked once more, by a new one."""
        spool = crew.join("a")
        kept = crew.submit(spool)
        assert keys(crew.wait(spool.page(0, 10))) == [kept.envelope.key]
        crew.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mailrelay a'")

        assert keys(crew.wait(spool.page(0, 10))) == [kept.envelope.key]


class Between:
    """Between a process and its server: lets everything through, but for the answer to one COMMIT.

    cuts  where this is sent, the answer to its COMMIT ends the connection instead of being passed on, once
    """

    def __init__(self, port: int) -> None:
        self.cuts = b""
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._begin(self._accept)

    def close(self) -> None:
        """Nobody comes through any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                cut = threading.Event()
                self._begin(self._ask, client, server, cut)
                self._begin(self._answer, server, client, cut)

    def _ask(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError), client, server:
            while octets := client.recv(65536):
                if self.cuts and self.cuts in octets:
                    self.cuts = b""
                    cut.set()
                server.sendall(octets)
            server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError), client, server:
            while octets := server.recv(65536):
                if cut.is_set() and b"COMMIT\0" in octets:
                    break
                client.sendall(octets)
            for each in (server, client):
                each.shutdown(socket.SHUT_RDWR)


class TestUnknownOutcome:
    """A COMMIT whose answer never came: refused at once, and found out about on the next connection."""

    @pytest.fixture
    def between(self, crew: Crew) -> Iterator[Between]:
        """The crew's way to its server."""
        before, _, rest = crew.dsn.partition("port=")
        port, _, after = rest.partition(" ")
        between = Between(int(port))
        crew.dsn = f"{before}port={between.port} {after}"
        yield between
        between.close()

    def test_a_mail(self, crew: Crew, between: Between) -> None:
        """Its client was told to send it again, so what was committed all the same is deleted."""
        one = crew.join("a", room=5)
        kept = crew.submit(one)
        for _ in range(2):
            between.cuts = b"Hello."
            with pytest.raises(SpoolFailing):
                crew.submit(one)
            soon(lambda: one.health.writable, "the spool works again")
        one.room = lambda: 0
        between.cuts = b"Hello."
        with pytest.raises(SpoolFailing):
            crew.submit(one)
        soon(lambda: one.health.writable, "the spool works again")

        assert keys(crew.wait(one.page(0, 10))) == [kept.envelope.key]
        assert one.figures.written == (1, 0, 0)
        assert mine(one) == {kept.envelope.key}
        assert crew.ask("SELECT count(*) FROM piece") == [(1,)]
        crew.end(one, kept)

    def test_a_mail_from_a_file(self, crew: Crew, between: Between) -> None:
        """The note that it was taken goes with it, or its file would be removed."""
        one = crew.join("a", room=5)
        key, uuid = one.next_id()
        envelope = Envelope(key, uuid, "a@example.com", (Recipient("b@example.net"),), time.time(), 8)
        submission = Submission(envelope, b"\r\n", b"Hello.\r\n", origin="drop 1")
        between.cuts = b"Hello."
        with pytest.raises(SpoolFailing):
            crew.wait(one.submit(submission))
        soon(lambda: one.health.writable, "the spool works again")

        assert crew.wait(one.page(0, 10)) == []
        assert crew.wait(one.origins("drop ")) == []

    def test_an_outcome(self, crew: Crew, between: Between) -> None:
        """It is asked for again, and is written once, with its report."""
        one = crew.join("a", room=5)
        submission = crew.submit(one)
        key, uuid = one.next_id()
        envelope = Envelope(key, uuid, "", (Recipient("a@example.com"),), time.time(), 9, report=True)
        report = Submission(envelope, b"", b"Sorry.\r\n\r\n")
        settlement = Settlement(
            submission.envelope.key, submission.envelope.uuid, (), reports=(report,), finished=True, turn=1
        )
        between.cuts = b"Sorry."
        with pytest.raises(SpoolFailing):
            crew.wait(one.settle(settlement))
        soon(lambda: one.health.writable, "the spool works again")
        crew.wait(one.settle(settlement))

        assert keys(crew.wait(one.page(0, 10))) == [key]
        assert one.figures.written == (1, 0, 0)
        assert keys(crew.claim(one)) == [key]

    def test_a_claim(self, crew: Crew, between: Between) -> None:
        """What was claimed is nobody's, and is claimed again."""
        one = crew.join("a")
        submission = crew.submit(one)
        between.cuts = b"SKIP LOCKED"
        with pytest.raises(SpoolFailing):
            crew.claim(one)
        soon(lambda: one.health.writable, "the spool works again")

        assert keys(crew.claim(one)) == [submission.envelope.key]


def test_a_claim_goes_by_the_index(crew: Crew) -> None:
    """However much waits: whatever is asked of the mails while all goes well, no table is read from end to end."""
    spool = crew.join()
    envelope, count = crew.submit(spool).envelope, 5000
    columns = (
        "uuid, sender, received_at, size, eight_bit, report, ret, envid, client, head, body_size, body_crc, checksum"
    )
    crew.ask(
        f"INSERT INTO mail (key, {columns}, body, state, due, generation) SELECT key + n, {columns}, key + n, n %% 3, "
        "CASE n %% 3 WHEN 0 THEN 0 WHEN 1 THEN n END, 0 FROM mail, generate_series(1, %s) AS n WHERE key = %s "
        "RETURNING 1",
        count,
        envelope.key,
    )
    now = time.time()
    asked = [
        (statements.CLAIM, ("{}", now, 1, "{}", 10, "{}", 11, "{}", now, True, 0.0, 11, "{}", 10, 1)),
        (statements.OBTAIN, (1, envelope.key)),
        (statements.OLDEST, (0,)),
        (statements.END_MAIL, ("{1}", "{0}", 0)),
        (figures.LOOK, (envelope.key, figures.MANY, 1, 1, 1, 1)),
    ]
    for statement, values in asked:
        with server.Server(Secret(crew.dsn), "plan").connect() as connection:
            plan = connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF) {statement}".encode(), values).fetchall()
        lines = [line for (line,) in plan]
        assert not [line for line in lines if "Seq Scan on mail" in line or "Seq Scan on recipient" in line], lines
        assert not [line for line in lines if "Bitmap" in line], lines
        passed_by = [line.split()[-1] for line in lines if "Rows Removed by" in line]
        assert sum(map(int, passed_by)) <= 20, lines


def test_nothing_is_begun_by_one_that_is_not_known(crew: Crew) -> None:
    """From 25 s after the last beat that found its row, mail in memory may be another's."""
    one = crew.join("a", room=1)
    crew.submit(one)
    assert one.in_force
    one._heard_at -= 26
    assert not one.in_force
    crew.until(lambda: one.in_force)
    one._heard_at -= 26
    crew.ask("DELETE FROM process RETURNING 1")
    crew.ask("DELETE FROM tally WHERE process <> 0 RETURNING 1")
    lost: list[str] = []
    one.lost = lost.append
    crew.until(lambda: bool(lost))
    crew.until(lambda: one.in_force)
    assert not mine(one)
