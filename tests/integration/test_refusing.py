"""A provider that refuses everything, as a suspended account does: a few mails bounce, and the others wait."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.daemon import PATIENCE
from tests.reckoning import reported
from tests.running import Running, configure, letter, soon
from tests.sink import Sink

MAILRELAY = Path(sys.executable).with_name("mailrelay")
MAILS = 60


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "."])
def test_a_suspended_account(tmp_path: Path, step: str) -> None:
    """Sixty wait for it; five bounce; once a person has it tried again, the others are delivered, each of them once."""

    def judge(reached: str, argument: bytes) -> str:
        return "550 5.7.1 Account suspended" if suspended and reached == step else ""

    suspended = True
    with Sink() as sink:
        port = sink.table()
        sink.stop()
        sink.judge = judge
        configure(tmp_path, [port], {"delivery": {"probe": "1s"}, "retry": {"schedule": ["2s"], "interval": "2s"}})
        with Running(tmp_path) as relay:
            ids = relay.submit(*[letter(f"mail-{number}") for number in range(MAILS)])
            relay.event("provider_down")
            sink.start()
            relay.event("provider_paused")
            waiting = relay.health()["queue"]["total"]
            suspended = False
            command: list[str | Path] = [MAILRELAY, "queue", "retry", "--provider", "sink"]
            subprocess.run(command, cwd=tmp_path, check=True, timeout=PATIENCE, capture_output=True)
            soon(lambda: relay.health()["queue"]["total"] == 0, "everything has come to its end")
            bounced = [line for line in relay.errors if '"event":"bounced"' in line]

    delivered = Counter(mail.id for mail in sink.mails if mail.sender and mail.reply.startswith("2"))
    told = [to for mail in sink.mails if not mail.sender and mail.reply.startswith("2") for to in reported(mail)]
    assert len(bounced) == len(told) == 5
    assert waiting >= MAILS - 5
    assert set(delivered.values()) == {1}
    assert len(delivered) == MAILS - 5
    assert set(delivered) <= set(ids)
