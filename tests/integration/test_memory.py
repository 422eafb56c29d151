"""A large mail is streamed in and out: what it takes of memory does not grow with it."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from tests.running import Running, configure, given, letter
from tests.sink import Sink
from tests.speaking import Dialogue

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


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """The provider behind all of these."""
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def relay(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One daemon for all of these; it has seen a mail."""
    folder = tmp_path_factory.mktemp("relay")
    configure(folder, [sink.table()])
    with Running(folder) as relay:
        relay.submit(letter("warm"))
        relay.event("finished")
        yield relay


HEAD = b"Date: Thu, 01 Jan 2026 10:00:00 +0000\r\nMessage-ID: <odd@app.example>\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "says", "delivered"),
    [
        pytest.param(b"x" * MIB + b"\r\n", "250 2.0.0", b"x" * MIB + b"\r\n", id="a line of 1 MiB"),
        pytest.param(b"x" * (MIB + 1) + b"\r\n", "554 5.6.0", None, id="a longer line"),
        pytest.param(b"x" * (25 * MIB - 100) + b"\r\n", "554 5.6.0", None, id="25 MiB in one line"),
        pytest.param(b"x" * (30 * MIB) + b"\r\n", "552 5.3.4", None, id="more than is taken, in one line"),
        pytest.param((b"x" * 998 + b"\r\n") * 30_000, "552 5.3.4", None, id="more than is taken"),
        pytest.param(b"\0" * (20 * MIB) + b"\r\n", "550 5.6.0", None, id="NULs"),
        pytest.param(b"..\r\n" * (MIB // 4), "250 2.0.0", b".\r\n" * (MIB // 4), id="dots"),
        pytest.param(b".." + b"." * (MIB - 1) + b"\r\n", "250 2.0.0", b"." * MIB + b"\r\n", id="a line of dots"),
        pytest.param(b"\r" * (MIB // 2) + b"x\r\n", "250 2.0.0", b"\r\n" * (MIB // 2) + b"x\r\n", id="lone CRs"),
        pytest.param(b"\n" * (MIB // 2) + b"x\r\n", "250 2.0.0", b"\r\n" * (MIB // 2) + b"x\r\n", id="lone LFs"),
        pytest.param(
            b"x\n.\n\r.\r" * 99_999 + b"\r\n",
            "250 2.0.0",
            b"x\r\n.\r\n\r\n.\r\n" * 99_999 + b"\r\n",
            id="both, and dots",
        ),
    ],
)
def test_odd_content(relay: Running, sink: Sink, sent: bytes, says: str, delivered: bytes | None) -> None:
    """One reply, at the true end, on a connection that goes on; and hardly any memory, whatever comes of it."""
    sink.mails.clear()
    before = relay.memory("VmRSS")
    with Dialogue(relay.smtp) as dialogue:
        dialogue.begin()
        dialogue.say(HEAD + sent + b".\r\n")
        line = dialogue.line()
        dialogue.say(b"RSET\r\nNOOP\r\n")
        assert dialogue.replies(2) == ["250", "250"]

    assert line.startswith(says)
    if delivered is not None:
        [mail] = sink.wait_for(1)
        assert mail.below_trace == HEAD + delivered
        relay.event("finished")
    assert relay.memory("VmRSS") - before < 8 * MIB


def test_a_command_that_does_not_end(relay: Running) -> None:
    """One 500, and the end; of 16 MiB hardly more is read than what the kernel holds."""
    before = relay.memory("VmRSS")
    sent = 0
    with Dialogue(relay.smtp) as dialogue:
        assert dialogue.reply() == "220"
        with suppress(ConnectionError):
            while sent < 16 * MIB:
                sent += dialogue.socket.send(b"x" * 65536)
        assert dialogue.replies(2) == ["500", ""]

    LOG.info("MiB sent: %.1f", sent / MIB)
    assert sent < 16 * MIB
    assert relay.memory("VmRSS") - before < 4 * MIB
