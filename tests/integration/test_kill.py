"""kill -9 under load: what was acknowledged arrives, and only what was under way may arrive twice.

MAILRELAY_KILL_ROUNDS says how often the daemon is killed, MAILRELAY_KILL_SEED makes a run that failed happen again as
far as processes do; --log-cli-level=info shows what came of it.
"""

from __future__ import annotations

import email
import hashlib
import logging
import os
import random
import re
import smtplib
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.daemon import PATIENCE
from tests.running import Running, configure, letter, soon
from tests.sink import Mail, Sink

ROUNDS = int(os.environ.get("MAILRELAY_KILL_ROUNDS", "3"))
SEED = int(os.environ.get("MAILRELAY_KILL_SEED") or random.SystemRandom().getrandbits(32))
CLIENTS = 4
WORKERS = 10
LARGE = 300 * 1024
LOG = logging.getLogger(__name__)

FATES = ("taken", "taken", "later", "nobody")
"""What becomes of a recipient: taken at once, at the second try, or never (then a report tells of it)."""

_DIGEST = re.compile(rb"X-Digest: ([0-9a-f]{64})\r\n\r\n(.*)", re.DOTALL)


@dataclass
class Ledger:
    """What applications handed in and what they were told; recipients have names of their own in every mail."""

    acknowledged: set[str] = field(default_factory=set)
    attempted: set[bytes] = field(default_factory=set)
    mails: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, more: int) -> None:
        """Wait until so many more mails were acknowledged."""
        with self.changed:
            goal = self.mails + more
            there = self.changed.wait_for(lambda: self.mails >= goal, PATIENCE)
        assert there, f"{self.mails} mails were taken, not {goal}"

    def hand_in(self, client: smtplib.SMTP, name: str, fates: list[str], octets: int) -> None:
        """Hand one mail in."""
        content = letter(name, octets)
        to = [f"{fate}-{number}-{name}@example.net" for number, fate in enumerate(fates)]
        with self.changed:
            self.attempted.add(content)
        assert client.sendmail(f"from-{name}@example.com", to, content) == {}
        with self.changed:
            self.acknowledged.update(to)
            self.mails += 1
            self.changed.notify_all()


class Fates:
    """What the provider says to each recipient."""

    def __init__(self) -> None:
        self._heard: set[bytes] = set()

    def __call__(self, step: str, argument: bytes) -> str:
        """As Sink.judge is called."""
        if step != "RCPT":
            return ""
        if b"<nobody" in argument:
            return "550 5.1.1 No such user"
        if b"<later" in argument and argument not in self._heard:
            self._heard.add(argument)
            return "450 4.2.1 Later"
        return ""


def load(ledger: Ledger, relay: Running, name: str, seed: float) -> None:
    """One application, until the daemon is gone."""
    choose = random.Random(seed)
    try:
        with relay.client() as client:
            for number in range(1_000_000):
                fates = choose.choices(FATES, k=choose.randrange(1, 4))
                octets = LARGE if choose.random() < 0.1 else choose.randrange(8192)
                ledger.hand_in(client, f"{name}-{number}", fates, octets)
    except (OSError, smtplib.SMTPException):
        return


def sound(mail: Mail) -> bool:
    """Whether the digest in its header is that of its text."""
    found = _DIGEST.search(mail.content)
    return found is not None and hashlib.sha256(found[2]).hexdigest().encode() == found[1]


def reported(mail: Mail) -> list[str]:
    """The recipients of whom a report says that they could not be reached."""
    parts = email.message_from_bytes(mail.content).walk()
    [status] = [part for part in parts if part.get_content_type() == "message/delivery-status"]
    return [part["Final-Recipient"].split(";")[1].strip() for part in status.walk() if part["Action"] == "failed"]


def killed_under_load(folder: Path, ledger: Ledger, number: int, choose: random.Random) -> None:
    """One life of the daemon: some mail goes in, some goes out, and then it is killed."""
    with Running(folder) as relay:
        applications = [
            threading.Thread(target=load, args=(ledger, relay, f"mail-{number}-{client}", choose.random()))
            for client in range(CLIENTS)
        ]
        for each in applications:
            each.start()
        ledger.wait_for(choose.randrange(200))
        relay.process.kill()
        for each in applications:
            each.join()


@pytest.mark.parametrize("depth", [1, 5])
def test_killed_under_load(tmp_path: Path, depth: int) -> None:
    """Nobody is lost, each mail is whole, and a kill makes at most as many copies as transactions were under way."""
    LOG.info("MAILRELAY_KILL_SEED=%d", SEED)
    choose, ledger = random.Random(SEED), Ledger()
    with Sink(offers=["PIPELINING", "SIZE", *(["CHUNKING"] if depth > 1 else [])]) as sink:
        sink.judge = Fates()
        configure(tmp_path, [sink.table(pipeline_depth=depth)], {"delivery": {"workers": WORKERS}})
        for number in range(ROUNDS):
            killed_under_load(tmp_path, ledger, number, choose)
        with Running(tmp_path) as relay:
            soon(lambda: relay.health()["queue"]["total"] == 0, "everything that waited is settled")

    mails = [mail for mail in sink.mails if mail.sender]
    copies = Counter((mail.id, mail.recipients) for mail in sink.mails)
    delivered = Counter(to.decode() for mail in mails for to in mail.recipients)
    bounced = Counter(to for mail in sink.mails if not mail.sender for to in reported(mail))
    extra = copies.total() - len(copies)
    LOG.info("%d mails acknowledged, %d copies in %d kills", ledger.mails, extra, ROUNDS)
    assert ledger.acknowledged - set(delivered) - set(bounced) == set()
    assert {to for to in bounced if not to.startswith("nobody")} == set()
    assert extra <= ROUNDS * WORKERS
    assert bounced.total() - len(bounced) <= ROUNDS * WORKERS
    assert {mail.below_trace for mail in mails} <= ledger.attempted
    assert all(sound(mail) for mail in mails)
    assert list((tmp_path / "spool" / "bodies").iterdir()) == []


def test_what_waited_is_delivered_after_the_kill(tmp_path: Path) -> None:
    """Mail that no provider took before the kill goes on by itself as soon as one does."""
    letters = [letter(f"mail-{number}", LARGE * (number % 2)) for number in range(10)]
    with Sink() as sink:
        sink.stop()
        configure(tmp_path, [sink.table()], {"delivery": {"probe": "1s", "probe_max": "1s"}})
        with Running(tmp_path) as relay:
            ids = relay.submit(*letters)
            relay.event("provider_down")
            relay.process.kill()

        with Running(tmp_path) as relay:
            assert relay.health()["queue"]["total"] == len(letters)
            sink.start()
            for _ in letters:
                assert relay.event("finished")["result"] == "delivered"

        assert sorted(mail.id for mail in sink.mails) == sorted(ids)
        assert {mail.below_trace for mail in sink.mails} == set(letters)


def test_a_mail_under_way_at_three_kills(tmp_path: Path) -> None:
    """It may be what kills: it is held, with an alert, and delays nobody else."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        poison = ""
        for life in range(3):
            with sink.gate(".") as gate, Running(tmp_path) as relay:
                if life == 0:
                    [poison] = relay.submit(letter("poison"))
                sink.wait_until_reached(".", life + 1)
                relay.process.kill()
                relay.process.wait(PATIENCE)
                gate.opened.set()
        with Running(tmp_path) as relay:
            assert relay.event("held")["id"] == poison
            relay.submit(letter("other"))
            relay.event("finished")
            queue = relay.health()["queue"]

    assert queue["held"] == queue["total"] == 1
    assert sink.reached["."] == 4


def test_kills_while_a_provider_says_nothing(tmp_path: Path) -> None:
    """Mail that waits for a connection is not what kills, however often."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configure(tmp_path, [{"host": "127.0.0.1", "port": silent.getsockname()[1], "tls": "none"}])
        for life in range(4):
            with Running(tmp_path) as relay:
                if life == 0:
                    relay.submit(letter("one"), letter("two"))
                silent.accept()[0].close()
                relay.process.kill()
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        with Running(tmp_path):
            sink.wait_for(2)


def test_kills_while_a_provider_is_slow(tmp_path: Path) -> None:
    """Many mails are under way at each kill, none of them is to blame, and all of them are delivered."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        with sink.gate("."):
            for life in range(6):
                before = sink.reached["."]
                with Running(tmp_path) as relay:
                    if life == 0:
                        ids = relay.submit(*[letter(f"mail-{number}") for number in range(30)])
                    sink.wait_until_reached(".", before + (WORKERS if life == 0 else 1))
                    relay.process.kill()
        with Running(tmp_path) as relay:
            soon(lambda: relay.health()["queue"]["total"] == 0, "everything that waited is settled")

    assert {mail.id for mail in sink.mails} == set(ids)


def test_a_kill_behind_a_dot_that_may_not_be_sent_twice(tmp_path: Path) -> None:
    """With `on_uncertain = "hold"` the next start holds that mail, and no copy is ever made."""
    with Sink() as sink:
        configure(tmp_path, [sink.table(on_uncertain="hold")])
        with sink.gate(".") as gate, Running(tmp_path) as relay:
            [uuid] = relay.submit(letter("once"))
            sink.wait_until_reached(".")
            relay.process.kill()
            relay.process.wait(PATIENCE)
            gate.opened.set()
        with Running(tmp_path) as relay:
            held = relay.event("held")
            queue = relay.health()["queue"]

    assert held["id"] == uuid
    assert queue["held"] == queue["total"] == 1
    assert sink.reached["."] == 1
