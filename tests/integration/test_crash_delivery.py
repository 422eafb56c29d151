"""kill -9 while providers fail in every way: nobody is lost, and what arrives twice is explained.

MAILRELAY_CRASH_ROUNDS says how often the daemon is killed, MAILRELAY_CRASH_SEED makes a run that failed happen again as
far as processes do; --log-cli-level=info shows what came of it.
"""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path

import pytest

from tests.reckoning import Handed, Moody, Reckoning, held, is_settled
from tests.running import Running, configure, soon

ROUNDS = int(os.environ.get("MAILRELAY_CRASH_ROUNDS", "2"))
SEED = int(os.environ.get("MAILRELAY_CRASH_SEED") or random.SystemRandom().getrandbits(32))
WORKERS = 10
MOOD = 0.03
LOG = logging.getLogger(__name__)


@pytest.mark.parametrize("on_uncertain", ["retry", "hold"])
def test_killed_while_providers_fail(tmp_path: Path, on_uncertain: str) -> None:
    """Held mail is none that was lost; with `hold` no second copy is ever made."""
    LOG.info("MAILRELAY_CRASH_SEED=%d", SEED)
    choose, handed = random.Random(SEED), Handed()
    first, second = (Moody(name, MOOD, random.Random(choose.random())) for name in ("first", "second"))
    with first, second:
        configure(
            tmp_path,
            [sink.table(on_uncertain=on_uncertain, timeout="5s") for sink in (first, second)],
            {
                "delivery": {"workers": WORKERS, "probe": "1s", "probe_max": "1s", "batch_size": 3, "batch_delay": 0},
                "retry": {"schedule": ["1s"], "interval": "1s"},
                "bounce": {"per_hour": 1_000_000},
            },
        )
        for number in range(ROUNDS):
            with Running(tmp_path) as relay:
                applications = handed.applying(relay, f"mail-{number}", choose)
                handed.wait_for(choose.randrange(150))
                relay.process.kill()
                for each in applications:
                    each.join()
        first.mood = second.mood = 0.0
        with Running(tmp_path) as relay:
            soon(lambda: is_settled(relay), "everything that waited is settled", 300.0)
            result = Reckoning.of(handed, [first, second], held(tmp_path))
    LOG.info("%d kills: %s", ROUNDS, result)

    assert result.lost == frozenset()
    assert result.wrong == frozenset()
    assert result.ghosts == frozenset()
    assert result.torn == 0
    assert result.copies <= (ROUNDS * WORKERS + result.uncertain if on_uncertain == "retry" else 0)
    assert list((tmp_path / "spool" / "bodies").iterdir()) == [] or result.held
