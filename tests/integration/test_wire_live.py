"""What applications say to the daemon over real sockets, and what of it a provider gets."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import psutil
import pytest

from tests.running import Running, configure, given, letter, soon
from tests.sink import Mail, Sink
from tests.speaking import ENVELOPE, HELLO, Dialogue

ODD = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=example.com; s=s;\r\n"
    b"\th=From:To:Subject;  bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n"
    b" b=AAAA\r\n"
    b"from:   \tsomebody <a@example.com>  \r\n"
    b"To: b@example.net\r\n\t\r\n ,c@example.net\r\n"
    b"SUBJECT : odd \t \r\n"
    b"Message-Id: <odd@app.example>\r\n"
    b"Date:\r\n Thu, 01 Jan 2026 10:00:00 +0000\r\n"
    b"X-Empty:\r\n"
    b"X-Long: " + b"x" * 990 + b"\r\n"
    b"\r\n"
    b".\r\n..\r\n...\r\n.a dot first\r\n"
    b"\ttab and blanks at the end \t \r\n"
    b"8-bit: \xe4\xf6\xfc \xc3\xa4 \xff\xfe\x80\r\n"
    b"From here\r\nMAIL FROM:<evil@example.com>\r\n"
    b"control: \x01\x07\x08\x0b\x0c\x1b[31m\x7f\r\n"
    b"\r\n\r\n \r\n\r\n"
)
"""A mail whose signature breaks with any octet that is changed."""


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """The provider behind all of it."""
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def relay(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One daemon for all of it."""
    folder = tmp_path_factory.mktemp("relay")
    configure(folder, [sink.table()])
    with Running(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(sink: Sink) -> None:
    sink.mails.clear()


def queued(sink: Sink, mails: int) -> list[Mail]:
    """Everything that the sink got: `mails`, and not one more."""
    return sink.wait_for(mails)


def test_a_pipelined_session(relay: Running, sink: Sink) -> None:
    """Groups of commands in one segment each, with content and the next envelope behind it: replies in order."""
    with Dialogue(relay.smtp) as dialogue:
        dialogue.begin()
        for number in range(20):
            dialogue.say(letter(f"mail-{number}") + b".\r\n" + ENVELOPE)
            assert dialogue.replies(4) == ["250", "250", "250", "354"]
        dialogue.say(letter("last") + b".\r\nNOOP\r\nRSET\r\nQUIT\r\n")
        assert dialogue.replies(5) == ["250", "250", "250", "221", ""]

    got = [mail.below_trace for mail in queued(sink, 21)]
    assert sorted(got) == sorted([*[letter(f"mail-{number}") for number in range(20)], letter("last")])


def test_the_end_and_quit_in_one_segment(relay: Running, sink: Sink) -> None:
    """250 and then 221: who leaves in a hurry knows that the mail was taken."""
    with Dialogue(relay.smtp) as dialogue:
        dialogue.begin()
        dialogue.say(letter("one") + b".\r\nQUIT\r\n")
        assert dialogue.replies(3) == ["250", "221", ""]

    assert len(queued(sink, 1)) == 1


def test_the_end_and_then_no_more_to_say(relay: Running, sink: Sink) -> None:
    """An application that shuts its side down behind the end gets its 250 all the same."""
    with Dialogue(relay.smtp) as dialogue:
        dialogue.begin()
        dialogue.say(letter("one") + b".\r\n")
        dialogue.socket.shutdown(socket.SHUT_WR)
        assert dialogue.replies(2) == ["250", ""]

    assert len(queued(sink, 1)) == 1


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(HELLO + ENVELOPE + letter("evil") + b".\r\nQUIT\r\n", id="a session"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + HELLO + ENVELOPE + b"x\r\n.\r\n", id="a form"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
    ],
)
def test_octets_ahead_of_the_banner(relay: Running, sink: Sink, octets: bytes) -> None:
    """What speaks before it is greeted is no mail program: 554, the end, and nothing is queued."""
    while True:
        with Dialogue(relay.smtp, ahead=octets) as dialogue:
            first = dialogue.reply()
            rest = dialogue.reply()
        if first == "554":
            break
        # The daemon may have been quicker; then the verb or the segment behind EHLO gives it away.
        assert first == "220"
        assert rest in ("554", "500")

    assert rest == ""
    given_to(relay, sink)


@pytest.mark.parametrize("verb", ["GET / HTTP/1.1", "POST /x HTTP/1.0", "OPTIONS *", "PRI * HTTP/2.0", "Host: x"])
def test_http_in_place_of_a_command(relay: Running, sink: Sink, verb: str) -> None:
    """One 554 and the end; what came behind it is not run."""
    with Dialogue(relay.smtp) as dialogue:
        dialogue.greet()
        dialogue.say(f"{verb}\r\n\r\n".encode() + ENVELOPE + b"x\r\n.\r\n")
        assert dialogue.replies(2) == ["554", ""]

    given_to(relay, sink)


def given_to(relay: Running, sink: Sink) -> None:
    """Only the mail that is handed in now reaches the sink."""
    [uuid] = relay.submit(letter("afterwards"))
    assert [mail.id for mail in queued(sink, 1)] == [uuid]


@pytest.mark.parametrize("cut", [0, 1, 7, 1460])
def test_an_odd_mail(relay: Running, sink: Sink, cut: int) -> None:
    """Below our one field it is octet for octet what was sent, in whatever segments it came."""
    with Dialogue(relay.smtp) as dialogue:
        dialogue.begin()
        wire = ODD.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        for at in range(0, len(wire), cut or len(wire)):
            dialogue.say(wire[at : at + (cut or len(wire))])
        assert dialogue.reply() == "250"

    [mail] = queued(sink, 1)
    assert mail.below_trace == ODD
    assert mail.content.startswith(b"Received: from app.example ([127.0.0.1])")


def test_an_odd_mail_in_chunks(relay: Running, sink: Sink) -> None:
    """The same by BDAT, cut in the middle of lines and of CRLFs."""
    first = ODD.index(b"\r\n.") + 1
    with Dialogue(relay.smtp) as dialogue:
        dialogue.greet()
        dialogue.say(ENVELOPE.removesuffix(b"DATA\r\n"))
        dialogue.say(b"BDAT %d\r\n" % first + ODD[:first] + b"BDAT 0\r\n")
        dialogue.say(b"BDAT %d LAST\r\n" % (len(ODD) - first) + ODD[first:])
        assert dialogue.replies(5) == ["250"] * 5

    [mail] = queued(sink, 1)
    assert mail.below_trace == ODD


def test_one_recipient_by_many_names(relay: Running, sink: Sink) -> None:
    """All are answered 250; the provider is told of it once."""
    with relay.client() as client:
        assert (
            client.sendmail("a@example.com", ["b@example.net", "b@example.net", "B@EXAMPLE.net"], letter("one")) == {}
        )

    [mail] = queued(sink, 1)
    assert mail.recipients == (b"b@example.net",)
    soon(lambda: relay.health()["queue"]["total"] == 0, "everything is settled")


def test_the_addresses_of_this_host(relay: Running) -> None:
    """Nobody listens there: another machine finds a closed port."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET and not each.address.startswith("127."):
                with socket.socket() as client:
                    assert client.connect_ex((each.address, relay.smtp)) == errno.ECONNREFUSED


def test_three_hundred_mails_on_one_connection(relay: Running, sink: Sink) -> None:
    """Each gets its 250, and each arrives once."""
    with relay.client() as client:
        ids = [given(client, letter(f"mail-{number}")) for number in range(300)]

    assert sorted(mail.id for mail in queued(sink, 300)) == ids
