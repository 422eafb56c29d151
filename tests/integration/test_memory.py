"""A large mail is streamed in and out: what it takes of memory does not grow with it."""

from __future__ import annotations

import hashlib
import logging
import random
from pathlib import Path

import pytest
import trustme

from tests.running import Running, configure, given
from tests.sink import Sink

MIB = 1024 * 1024
LOG = logging.getLogger(__name__)


def large_mail(octets: int) -> bytes:
    """A mail of at least so many octets in lines of every length up to 200, some of which begin with dots."""
    choose = random.Random(octets)
    lines = [b"Date: Thu, 01 Jan 2026 10:00:00 +0000", b"Message-ID: <large@app.example>", b""]
    size = 0
    while size < octets:
        lines.append(choose.choice([b"", b".", b".."]) + choose.randbytes(choose.randrange(100)).hex().encode())
        size += len(lines[-1]) + 2
    return b"\r\n".join(lines) + b"\r\n"


@pytest.mark.parametrize("tls", ["none", "implicit"])
@pytest.mark.parametrize("extension", ["8BITMIME", "CHUNKING"])
def test_a_mail_of_20_mib(tmp_path: Path, tls: str, extension: str) -> None:
    """It arrives octet by octet as it was, and the daemon never takes 64 MiB more for it, on its way in or out."""
    content = large_mail(20 * MIB)
    with Sink(tls=tls, authority=trustme.CA(), offers=["PIPELINING", "SIZE", extension]) as sink:
        configure(tmp_path, [sink.table(ca_file=sink.write_authority(tmp_path / "ca.pem"))])
        with Running(tmp_path) as relay:
            relay.submit(b"Subject: warm\r\n\r\n")
            relay.event("finished")
            before = relay.memory("VmRSS")
            with relay.client() as client:
                given(client, content)
            relay.event("finished")
            highest, after = relay.memory("VmHWM"), relay.memory("VmRSS")
        _, mail = sink.mails

    LOG.info("MiB before, highest, after: %.1f %.1f %.1f", before / MIB, highest / MIB, after / MIB)
    assert hashlib.sha256(mail.below_trace).digest() == hashlib.sha256(content).digest()
    assert highest - before < 64 * MIB
    assert after - before < 64 * MIB
