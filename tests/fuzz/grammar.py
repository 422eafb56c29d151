"""Any octets as commands, as a PROXY header and as replies: a value or a refusal, and nothing that is not in them."""

from __future__ import annotations

from relay.envelope import Recipient
from relay.reply import Reply
from relay.smtp.grammar import proxy
from relay.smtp.grammar.answers import octets as answer
from relay.smtp.grammar.commands import Bdat, Mail, is_foreign, parse_bdat, parse_helo, parse_mail, parse_rcpt, verb
from relay.smtp.grammar.replies import Replies


def check(octets: bytes) -> None:
    """Raises AssertionError, or whatever else is wrong."""
    _commands(octets.partition(b"\r\n")[0].replace(b"\n", b""))
    _proxy(octets)
    _replies(octets)


def _commands(line: bytes) -> None:
    assert verb(line).upper() == verb(line)
    if is_foreign(line + b"\r\n"):
        assert is_foreign(line + b"\r\n" + line)
    for whole in (line, b"MAIL FROM:" + line, b"MAIL FROM:<a@b> " + line):
        mail = parse_mail(whole)
        if isinstance(mail, Mail):
            assert mail.sender.encode() in whole
            assert _is_clean(mail.sender + mail.envid)
        else:
            _refusal(mail)
    for whole in (line, b"RCPT TO:" + line, b"RCPT TO:<a@b> " + line):
        recipient = parse_rcpt(whole, smtp_utf8=True)
        if isinstance(recipient, Recipient):
            assert recipient.address
            assert recipient.address.encode() in whole
            assert _is_clean(recipient.address + recipient.orcpt)
            assert recipient.orcpt.isascii()
        else:
            _refusal(recipient)
    name = parse_helo(b"EHLO " + line)
    if isinstance(name, Reply):
        _refusal(name)
    else:
        assert name.isascii()
        assert _is_clean(name)
    chunk = parse_bdat(b"BDAT " + line)
    assert chunk is None or isinstance(chunk, Bdat)


def _is_clean(text: str) -> bool:
    return not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text)


def _refusal(reply: Reply) -> None:
    assert reply.code in (501, 553, 555)
    said = answer(reply)
    assert said.isascii()
    assert all(line and len(line) <= 510 and b"\r" not in line for line in said.removesuffix(b"\r\n").split(b"\r\n"))


def _proxy(octets: bytes) -> None:
    try:
        header = proxy.parse(octets)
    except proxy.ProxyError:
        return
    if header is not None:
        assert header.size <= len(octets)
        assert proxy.parse(octets[: header.size]) == header
        assert proxy.parse(octets[: header.size - 1]) is None


def _replies(octets: bytes) -> None:
    whole, cut = Replies(), Replies()
    found = whole.receive(octets)
    assert [reply for at in range(len(octets)) for reply in cut.receive(octets[at : at + 1])] == found
    assert all(reply.code == 0 or 200 <= reply.code < 600 for reply in found)
    for reply in found:
        assert answer(reply).isascii()
