"""sendmail(1) while the daemon comes and goes: nothing is lost, and what half a call left behind is never sent.

MAILRELAY_SENDMAIL_CALLS says how many calls there are, a few of them at a time.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path

from tests.daemon import PATIENCE
from tests.running import Running, configure, soon
from tests.sending import SENDMAIL
from tests.sink import Sink

CALLS = int(os.environ.get("MAILRELAY_SENDMAIL_CALLS", "60"))
SEED = int(os.environ.get("MAILRELAY_KILL_SEED") or random.SystemRandom().getrandbits(32))
AT_ONCE = 3
LOG = logging.getLogger(__name__)


class Calls:
    """Calls of sendmail(1), some of which are killed. `fine`: those that ended with 0; `begun`: all."""

    def __init__(self, folder: Path, choose: random.Random) -> None:
        self.fine: set[bytes] = set()
        self.begun: set[bytes] = set()
        self._environ = os.environ | {"MAILRELAY_CONFIG": str(folder / "relay.toml")}
        self._choose = choose
        self._lock = threading.Lock()

    def call(self, number: int) -> None:
        """One. Every fifth is killed at some instant."""
        with self._lock:
            killed_after = self._choose.uniform(0.0, 0.2) if number % 5 == 4 else PATIENCE
        subject = b"mail-%d" % number
        with subprocess.Popen(
            [SENDMAIL, "-i", "b@example.net"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=self._environ
        ) as process:
            self.begun.add(subject)
            try:
                process.communicate(b"Subject: %b\n\nbody\n" % subject, timeout=killed_after)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode == 0:
            self.fine.add(subject)
        else:
            assert process.returncode == -signal.SIGKILL

    def many(self, numbers: range) -> None:
        """Several at a time."""
        rest = iter(numbers)

        def some() -> None:
            while True:
                with self._lock:
                    number = next(rest, None)
                if number is None:
                    return
                self.call(number)

        threads = [threading.Thread(target=some) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def subjects(sink: Sink) -> Counter[bytes]:
    """How often each came."""
    return Counter(mail.content.partition(b"Subject: ")[2].partition(b"\r\n")[0] for mail in sink.mails)


def test_half_of_the_calls_without_a_daemon(tmp_path: Path) -> None:
    """Whoever was told 0 has its mail delivered, through kills of the daemon while it empties the folder."""
    LOG.info("MAILRELAY_KILL_SEED=%d", SEED)
    choose = random.Random(SEED)
    calls = Calls(tmp_path, choose)
    with Sink() as sink:
        listen = ["tcp:0:interface=127.0.0.1", "unix:smtp.sock"]
        configure(tmp_path, [sink.table()], {"smtp": {"listen": listen}})
        with Running(tmp_path) as daemon:
            calls.many(range(CALLS // 4))
            daemon.process.kill()
        calls.many(range(CALLS // 4, CALLS * 3 // 4))
        for _ in range(3):
            with Running(tmp_path) as daemon:
                few = choose.randrange(CALLS // 2)
                soon(lambda few=few: len(list((tmp_path / "drop").iterdir())) <= few, "mail is taken")  # type: ignore[misc]
                daemon.process.kill()
        with Running(tmp_path) as daemon:
            calls.many(range(CALLS * 3 // 4, CALLS))
            soon(lambda: calls.fine <= set(subjects(sink)), "everything is delivered")
            soon(lambda: daemon.health()["queue"]["total"] == 0, "nothing waits")
            daemon.stop()
        copies = subjects(sink)

    left = [file.name for file in (tmp_path / "drop").iterdir()]
    LOG.info("%d fine of %d, %d parts left", len(calls.fine), len(calls.begun), len(left))
    assert calls.fine - set(copies) == set()
    assert set(copies) <= calls.begun
    assert all(name.endswith(".part") for name in left)
    assert sum(copies.values()) - len(copies) <= 4 * 10  # the transactions that were under way at a kill
