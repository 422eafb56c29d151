"""Two providers, both with TLS and a login: which one gets the mail, and what leaves in clear."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.running import Running, configure, letter
from tests.sink import Sink

LOGIN = ("relay@example.com", "correct horse battery staple")
PROBE = {"delivery": {"probe": "1s", "probe_max": "1s"}}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Whom mailrelay trusts."""
    return trustme.CA()


@pytest.fixture
def second(authority: trustme.CA) -> Iterator[Sink]:
    """The provider that is well."""
    with Sink("second", tls="implicit", authority=authority, login=LOGIN) as sink:
        yield sink


def configured(folder: Path, first: Sink, second: Sink) -> None:
    """A relay.toml with both; mailrelay knows the authority of the second one alone."""
    authority = second.write_authority(folder / "ca.pem")
    tables = [sink.table(ca_file=authority, timeout="5s") for sink in (first, second)]
    tables[1]["password"] = LOGIN[1]
    tables[0]["password"] = LOGIN[1]
    configure(folder, tables, PROBE)


def test_the_second_while_the_first_is_away(tmp_path: Path, authority: trustme.CA, second: Sink) -> None:
    """Mail prefers the first provider, goes to the second at once while that is away, and to the first again."""
    with Sink("first", tls="starttls", authority=authority, login=LOGIN) as first:
        configured(tmp_path, first, second)
        with Running(tmp_path) as relay:
            relay.submit(letter("one"))
            first.wait_for(1)
            relay.event("finished")

            first.stop()
            relay.submit(letter("two"))
            second.wait_for(1, within=2)
            down = relay.event("provider_down")
            relay.event("finished")

            first.start()
            up = relay.event("provider_up")
            relay.submit(letter("three"))
            first.wait_for(2)
            relay.event("finished")
            totals = relay.health()["totals"]

    assert [mail.below_trace for mail in first.mails] == [letter("one"), letter("three")]
    assert [mail.below_trace for mail in second.mails] == [letter("two")]
    assert down["provider"] == up["provider"] == "first"
    assert totals["successfulEmails"] == 3
    assert totals["failedEmails"] == 0


def wrong_password(authority: trustme.CA) -> Sink:
    """It knows another password."""
    return Sink("first", tls="starttls", authority=authority, login=(LOGIN[0], "changed"))


def wrong_name(authority: trustme.CA) -> Sink:
    """Its certificate is another host's."""
    return Sink("first", tls="starttls", authority=authority, login=LOGIN, certified="other.example")


def wrong_name_inside(authority: trustme.CA) -> Sink:
    """The same where TLS comes first."""
    return Sink("first", tls="implicit", authority=authority, login=LOGIN, certified="other.example")


def unknown_authority(_: trustme.CA) -> Sink:
    """Nobody knows who signed its certificate."""
    return Sink("first", tls="starttls", authority=trustme.CA(), login=LOGIN)


def no_tls(authority: trustme.CA) -> Sink:
    """Somebody in between took STARTTLS out of what it offers, and would take mail."""
    sink = Sink("first", tls="starttls", authority=authority, login=LOGIN)
    sink.strips.add("STARTTLS")
    return sink


def tls_refused(authority: trustme.CA) -> Sink:
    """STARTTLS is offered, and then not there."""
    sink = Sink("first", tls="starttls", authority=authority, login=LOGIN)
    sink.always("STARTTLS", "454 4.7.0 TLS not available")
    return sink


def no_login(authority: trustme.CA) -> Sink:
    """AUTH is not offered, and mail would be taken without it."""
    sink = Sink("first", tls="starttls", authority=authority, login=LOGIN)
    sink.strips.add("AUTH")
    return sink


@pytest.mark.parametrize(
    ("provider", "error"),
    [
        (wrong_password, "535 5.7.8"),
        (wrong_name, "other.example"),
        (wrong_name_inside, "other.example"),
        (unknown_authority, "authority"),
        (no_tls, "STARTTLS is not offered"),
        (tls_refused, "454 4.7.0"),
        (no_login, "AUTH is not offered"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_provider_that_is_not_as_configured(
    tmp_path: Path,
    authority: trustme.CA,
    second: Sink,
    provider: Callable[[trustme.CA], Sink],
    error: str,
) -> None:
    """Nothing but EHLO and STARTTLS leaves in clear, nothing without the login; the other one gets the mail at once."""
    with provider(authority) as first:
        configured(tmp_path, first, second)
        with Running(tmp_path) as relay:
            relay.submit(letter("one"), letter("two"))
            second.wait_for(2)
            down = relay.event("provider_down")
            relay.event("finished")
            relay.event("finished")
            health = relay.health()

    said = {line.split()[0] for line in bytes(first.clear).split(b"\r\n") if line.isascii() and line[:1].isalpha()}
    assert said <= {b"EHLO", b"STARTTLS", b"QUIT"}
    assert b"horse" not in first.clear
    assert first.mails == []
    assert first.reached["MAIL"] == 0
    assert {mail.below_trace for mail in second.mails} == {letter("one"), letter("two")}
    assert error in down["error"]
    assert LOGIN[1] not in down["error"]
    assert health["totals"]["successfulEmails"] == 2
    assert health["totals"]["failedEmails"] == 0


def test_hosts_that_are_no_providers(tmp_path: Path) -> None:
    """Who is not there, says nothing, or does not want us, is down; the mail is with the next one in time."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # more than the kernel keeps for a backlog of none
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        silent, busy, closed, good = sinks = [
            stack.enter_context(Sink(name)) for name in ("silent", "busy", "closed", "good")
        ]
        stack.enter_context(silent.gate("greeting"))
        busy.always("greeting", "421 4.3.2 Not now", closes=True)
        closed.always("greeting", "554 5.7.1 Go away", closes=True)
        others = [
            {"name": "full", "host": "127.0.0.1", "port": full.getsockname()[1], "tls": "none"},
            {"name": "nowhere", "host": "no-such-host.invalid", "port": 25, "tls": "none"},
        ]
        tables = [*others, *[sink.table() for sink in sinks]]
        configure(tmp_path, [table | {"timeout": "1s"} for table in tables], PROBE)
        with Running(tmp_path) as relay:
            relay.submit(letter("one"))
            [mail] = good.wait_for(1, within=10)
            down = {line["provider"]: line["error"] for line in [relay.event("provider_down") for _ in range(5)]}
            relay.event("finished")

    assert mail.below_trace == letter("one")
    assert set(down) == {"full", "nowhere", "silent", "busy", "closed"}
    assert "waited 1 s in vain" in down["full"]
    assert "no-such-host.invalid" in down["nowhere"]
    assert "waited 1 s in vain" in down["silent"]
    assert "421 4.3.2 Not now" in down["busy"]
    assert "554 5.7.1 Go away" in down["closed"]
