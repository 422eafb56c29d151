"""Providers that other people wrote: whatever one of them offers, each mail gets there as it is, or comes back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.daemon import free_port
from tests.running import Running, configure, soon
from tests.sink import Sink, below_trace

ALL = frozenset({"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE", "CHUNKING"})
LARGEST = 50_000
HEAD = b"Date: Thu, 01 Jan 2026 10:00:00 +0000\r\nMessage-ID: <m@app.example>\r\n\r\n"
PLAIN = HEAD + b".\r\n..x\r\n\r\n blanks \t \r\n" + b"long " * 190 + b"\r\nQUIT\r\n.\r\n\r\n"
EIGHT_BIT = HEAD + "öäü\r\n.\r\n".encode()
LARGE = HEAD + b"0123456789abcd\r\n" * (LARGEST // 16)


@dataclass(frozen=True)
class Seen:
    """A mail as a provider took it: what MAIL said of it, its recipients and its content."""

    said: str
    to: tuple[str, ...]
    content: bytes


class Provider(Protocol):
    """A provider on `port`."""

    port: int

    @classmethod
    def open(cls, folder: Path, offers: frozenset[str]) -> AbstractContextManager[Provider]:
        """It runs, with these of its offers; its files are in `folder`."""

    def seen(self) -> list[Seen]:
        """What it has taken so far."""


class PostfixSink:
    """Postfix's smtp-sink. It keeps each mail in a file, below lines that say how it came, its lines ended by LF."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self._folder = folder

    def seen(self) -> list[Seen]:
        """See Provider."""
        return [_dumped(file.read_bytes()) for file in self._folder.iterdir()]

    @classmethod
    @contextmanager
    def open(cls, folder: Path, offers: frozenset[str]) -> Iterator[PostfixSink]:
        """See Provider."""
        dumps = folder / "dumps"
        dumps.mkdir()
        user = ["-u", "root"] if os.geteuid() == 0 else []
        flags = [flag for flag, offer in (("-p", "PIPELINING"), ("-8", "8BITMIME")) if offer not in offers]
        port = free_port()
        with subprocess.Popen(
            ["smtp-sink", *user, *flags, "-d", f"{dumps}/mail.", f"127.0.0.1:{port}", "9"]
        ) as process:
            try:
                yield cls(port, dumps)
            finally:
                process.terminate()


_DUMP = re.compile(
    rb"(?:X-(?!Mail).*\n)*X-Mail-Args: (.*)\n((?:X-Rcpt-Args: .*\n)+)Received: .*\n(?:\t.*\n)*((?s:.*))\n"
)


def _dumped(octets: bytes) -> Seen:
    found = _DUMP.fullmatch(octets)
    assert found is not None, octets[:1000]
    recipients = re.findall(r"X-Rcpt-Args: <(.*)>", found[2].decode())
    return Seen(found[1].decode(), tuple(recipients), found[3].replace(b"\n", b"\r\n"))


class Aiosmtpd:
    """aiosmtpd, which takes no parameter that it has not offered."""

    def __init__(self, offers: frozenset[str]) -> None:
        self.port = free_port()
        self._mails: list[Seen] = []
        self._offers = offers

    def seen(self) -> list[Seen]:
        """See Provider."""
        return list(self._mails)

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Part of aiosmtpd's: what it offers."""
        session.host_name = hostname
        offered = [line for line in responses[:-1] if line[4:].split()[0] not in ALL - self._offers]
        return [*offered, *(["250-PIPELINING"] if "PIPELINING" in self._offers else []), responses[-1]]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Part of aiosmtpd's: a mail."""
        assert isinstance(envelope.original_content, bytes)
        mail = " ".join([f"<{str(envelope.mail_from).strip('<>')}>", *envelope.mail_options])
        self._mails.append(Seen(mail, tuple(map(str, envelope.rcpt_tos)), envelope.original_content))
        return "250 2.0.0 Ok"

    @classmethod
    @contextmanager
    def open(cls, _: Path, offers: frozenset[str]) -> Iterator[Aiosmtpd]:
        """See Provider."""
        provider = cls(offers)
        size = LARGEST if "SIZE" in offers else None
        utf8 = "SMTPUTF8" in offers
        controller = Controller(
            provider, hostname="127.0.0.1", port=provider.port, enable_SMTPUTF8=utf8, data_size_limit=size
        )
        controller.start()
        try:
            yield provider
        finally:
            controller.stop()


class Scripted:
    """The tests' own, for what the others do not offer."""

    def __init__(self, sink: Sink) -> None:
        self.port = sink.port
        self._sink = sink
        self._said: list[str] = []
        sink.judge = self._note

    def _note(self, step: str, argument: bytes) -> str:
        if step == "MAIL":
            self._said.append(argument.decode().removeprefix("FROM:"))
        return ""

    def seen(self) -> list[Seen]:
        """See Provider. One connection carries all, so that the n-th MAIL is that of the n-th mail."""
        mails = zip(self._said, list(self._sink.mails), strict=False)
        return [Seen(said, tuple(to.decode() for to in mail.recipients), mail.content) for said, mail in mails]

    @classmethod
    @contextmanager
    def open(cls, _: Path, offers: frozenset[str]) -> Iterator[Scripted]:
        """See Provider."""
        with Sink(offers=[f"SIZE {LARGEST}" if offer == "SIZE" else offer for offer in sorted(offers)]) as sink:
            yield cls(sink)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One daemon for all of them, told of each by SIGHUP."""
    folder = tmp_path_factory.mktemp("relay")
    prefer(folder, free_port())
    with Running(folder) as relay:
        yield relay


def prefer(folder: Path, port: int) -> None:
    """Write down a provider on that port, with one connection."""
    table = {"name": str(port), "host": "127.0.0.1", "port": port, "tls": "none", "connections": 1}
    configure(folder, [table], {"delivery": {"workers": 1}})


CASES: list[tuple[type[Provider], str]] = [
    (PostfixSink, "PIPELINING 8BITMIME"),
    (PostfixSink, ""),
    (Aiosmtpd, "PIPELINING 8BITMIME SMTPUTF8 SIZE"),
    (Aiosmtpd, "8BITMIME SMTPUTF8"),
    (Aiosmtpd, "PIPELINING SMTPUTF8 SIZE"),
    (Aiosmtpd, "PIPELINING 8BITMIME"),
    (Aiosmtpd, ""),
    (Scripted, "CHUNKING PIPELINING 8BITMIME SMTPUTF8 SIZE"),
    (Scripted, "CHUNKING 8BITMIME"),
    (Scripted, "CHUNKING"),
]


@pytest.mark.parametrize(
    ("kind", "offered"),
    [pytest.param(*case, marks=[pytest.mark.needs("smtp-sink")] if case[0] is PostfixSink else []) for case in CASES],
)
def test_what_a_provider_offers(relay: Running, tmp_path: Path, kind: type[Provider], offered: str) -> None:
    """What it can take arrives as it is, and nothing is said that it has not offered; the rest comes back, and why."""
    offers = frozenset(offered.split())
    mails = {"plain@example.net": PLAIN, "b@bücher.example": PLAIN, "jörg@example.net": PLAIN}
    mails |= {"eight@example.net": EIGHT_BIT, "large@example.net": LARGE}
    arrive, back = dict(mails), set()
    if "SMTPUTF8" not in offers:
        arrive["b@xn--bcher-kva.example"] = arrive.pop("b@bücher.example")
        del arrive["jörg@example.net"]
        back.add("5.6.7")
    if "8BITMIME" not in offers:
        del arrive["eight@example.net"]
        back.add("5.6.3")
    if "SIZE" in offers:
        del arrive["large@example.net"]
        back.add("5.3.4")

    with kind.open(tmp_path, offers) as provider:
        prefer(relay.folder, provider.port)
        relay.process.send_signal(signal.SIGHUP)
        relay.event("reloaded")
        with relay.client() as client:
            for to, content in mails.items():
                client.sendmail("a@example.com", [to], content, [] if to.isascii() else ["SMTPUTF8"])
        soon(lambda: not relay.health()["queue"]["total"], "everything has arrived, or come back")
        seen = provider.seen()

    reports = [mail for mail in seen if mail.said.startswith("<>")]
    assert {mail.to[0]: below_trace(mail.content) for mail in seen if mail not in reports} == arrive
    assert set(re.findall(rb"^Status: (\S+)\r$", b"".join(mail.content for mail in reports), re.MULTILINE)) == {
        status.encode() for status in back
    }
    assert all(mail.to == ("a@example.com",) and mail.content.isascii() for mail in reports)
    for mail in seen:
        parameters = {word.partition("=")[0] for word in mail.said.split()[1:]}
        assert ("SIZE" in parameters) == ("SIZE" in offers)
        assert ("BODY" in parameters) == (not mail.content.isascii())
        assert ("SMTPUTF8" in parameters) == (not mail.to[0].isascii())
        assert parameters <= offers | {"BODY"}
