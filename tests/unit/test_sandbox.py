"""The provider to play with: what it answers, and that it keeps what it is given."""

from __future__ import annotations

import mailbox
from collections.abc import Iterable
from pathlib import Path

import pytest
from twisted.internet.testing import StringTransport

from relay.sandbox import Maildir, Sandbox

TRANSACTION = (
    b"EHLO relay.example\r\nMAIL FROM:<a@example.com> SIZE=30 BODY=8BITMIME\r\n"
    b"RCPT TO:<b@example.net>\r\nrcpt to:<c@example.net> NOTIFY=NEVER\r\nDATA\r\n"
)
CONTENT = b"..a dot\r\nSubject: \xff\r\n\r\n...\r\n.. \r\nlast\r\n.\r\n"


def said(folder: Path, pieces: Iterable[bytes]) -> list[str]:
    """The first four characters of each line that a dialogue answers with, EHLO's left out."""
    transport = StringTransport()
    dialogue = Sandbox(Maildir(folder, lambda: 1.5)).buildProtocol(None)
    dialogue.makeConnection(transport)
    for piece in pieces:
        dialogue.dataReceived(piece)
    lines = transport.value().decode().splitlines()
    return [line[:4] for line in lines if not line.startswith("250-") and line != "250 ENHANCEDSTATUSCODES"]


@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
def test_two_mails_in_pieces_of_any_size(tmp_path: Path, step: int) -> None:
    """Dots are unstuffed, lines end as files' do, the envelope stands on top; the next mail may follow at once."""
    wire = TRANSACTION + CONTENT + b"MAIL FROM:<>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n.\r\nQUIT\r\n"

    replies = said(tmp_path, (wire[at : at + step] for at in range(0, len(wire), step)))

    assert replies == ["220 ", "250 ", "250 ", "250 ", "354 ", "250 ", "250 ", "250 ", "354 ", "250 ", "221 "]
    first, second = sorted(path.read_bytes() for path in (tmp_path / "new").iterdir())[::-1]
    assert first == (
        b"Return-Path: <a@example.com>\nDelivered-To: b@example.net\nDelivered-To: c@example.net\n"
        b".a dot\nSubject: \xff\n\n..\n. \nlast\n"
    )
    assert second == b"Return-Path: <>\nDelivered-To: b@example.net\n"
    assert len(mailbox.Maildir(tmp_path)) == 2


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"RCPT TO:<a@example.com>", "503 "),
        (b"DATA", "503 "),
        (b"MAIL FROM:a@example.com", "501 "),
        (b"MAIL FROM:<>\r\nMAIL FROM:<>", "503 "),
        (b"MAIL FROM:<>\r\nRCPT TO:a", "501 "),
        (b"NOOP", "250 "),
        (b"RSET", "250 "),
        (b"HELO relay", "250 "),
        (b"\xff\xfe", "500 "),
        (b"x" * 5000, "500 "),
    ],
)
def test_a_command_alone(tmp_path: Path, line: bytes, code: str) -> None:
    """What makes no sense is refused with a code that says why."""
    assert said(tmp_path, [line, b"\r\n"])[-1] == code


def test_a_line_without_an_end(tmp_path: Path) -> None:
    """A client that never ends its line is not listened to for ever."""
    assert said(tmp_path, [b"x" * 5000]) == ["220 ", "500 "]


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """A mail that cannot be kept is not taken."""
    transport = StringTransport()
    dialogue = Sandbox(Maildir(tmp_path / "mail", lambda: 1.5)).buildProtocol(None)
    dialogue.makeConnection(transport)
    (tmp_path / "mail" / "tmp").rmdir()

    dialogue.dataReceived(TRANSACTION + CONTENT)

    assert transport.value().splitlines()[-1].startswith(b"452 4.3.1 Not kept")
