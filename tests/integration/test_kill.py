"""kill -9 under load: what was acknowledged arrives, and only what was under way may arrive twice.

MAILRELAY_KILL_ROUNDS says how often the daemon is killed, MAILRELAY_KILL_SEED makes a run that failed happen again as
far as processes do; --log-cli-level=info shows what came of it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import re
import smtplib
import threading
from collections import Counter
from pathlib import Path

from tests.daemon import PATIENCE
from tests.running import Running, configure, given, letter, soon
from tests.sink import Mail, Sink

ROUNDS = int(os.environ.get("MAILRELAY_KILL_ROUNDS", "3"))
SEED = int(os.environ.get("MAILRELAY_KILL_SEED") or random.SystemRandom().getrandbits(32))
CLIENTS = 4
WORKERS = 10
LARGE = 300 * 1024
LOG = logging.getLogger(__name__)

_DIGEST = re.compile(rb"X-Digest: ([0-9a-f]{64})\r\n\r\n(.*)", re.DOTALL)


class Ledger:
    """What applications handed in and what they were told. They go on until `close`, or until the daemon is gone."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.attempted: set[bytes] = set()
        self._changed = threading.Condition()

    def wait_for(self, more: int) -> None:
        """Wait until so many more were acknowledged."""
        with self._changed:
            goal = len(self.acknowledged) + more
            there = self._changed.wait_for(lambda: len(self.acknowledged) >= goal, PATIENCE)
        assert there, f"{len(self.acknowledged)} mails were taken, not {goal}"

    def hand_in(self, client: smtplib.SMTP, name: str, octets: int) -> None:
        """Hand one mail in."""
        content = letter(name, octets)
        with self._changed:
            self.attempted.add(content)
        uuid = given(client, content)
        with self._changed:
            self.acknowledged.add(uuid)
            self._changed.notify_all()


def load(ledger: Ledger, relay: Running, name: str, sizes: random.Random) -> None:
    """One application, until the daemon is gone."""
    try:
        with relay.client() as client:
            number = 0
            while True:
                number += 1
                ledger.hand_in(client, f"{name}-{number}", LARGE if sizes.random() < 0.1 else sizes.randrange(8192))
    except (OSError, smtplib.SMTPException):
        return


def sound(mail: Mail) -> bool:
    """Whether the digest in its header is that of its text."""
    found = _DIGEST.search(mail.content)
    return found is not None and hashlib.sha256(found[2]).hexdigest().encode() == found[1]


def killed_under_load(folder: Path, ledger: Ledger, number: int, choose: random.Random) -> None:
    """One life of the daemon: some mail goes in, some goes out, and then it is killed."""
    with Running(folder) as relay:
        applications = [
            threading.Thread(
                target=load, args=(ledger, relay, f"mail-{number}-{client}", random.Random(choose.random()))
            )
            for client in range(CLIENTS)
        ]
        for each in applications:
            each.start()
        ledger.wait_for(choose.randrange(200))
        relay.process.kill()
        for each in applications:
            each.join()


def test_killed_under_load(tmp_path: Path) -> None:
    """None is lost, each is whole, and every kill makes at most as many copies as transactions were under way."""
    LOG.info("MAILRELAY_KILL_SEED=%d", SEED)
    choose, ledger = random.Random(SEED), Ledger()
    with Sink() as sink:
        configure(tmp_path, [sink.table()], {"delivery": {"workers": WORKERS}})
        for number in range(ROUNDS):
            killed_under_load(tmp_path, ledger, number, choose)
        with Running(tmp_path) as relay:
            soon(lambda: relay.health()["queue"]["total"] == 0, "everything that waited is delivered")
        copies = Counter(mail.id for mail in sink.mails)

    duplicates = sum(copies.values()) - len(copies)
    LOG.info("%d acknowledged, %d delivered, %d copies", len(ledger.acknowledged), len(copies), duplicates)
    assert ledger.acknowledged - set(copies) == set()
    assert duplicates <= ROUNDS * WORKERS
    assert {mail.below_trace for mail in sink.mails} <= ledger.attempted
    assert all(sound(mail) for mail in sink.mails)
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
