"""Commands: values or refusals, for everything that can stand on a line."""

from __future__ import annotations

import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.envelope import Recipient
from relay.reply import Reply
from relay.smtp.grammar.answers import octets
from relay.smtp.grammar.commands import (
    Bdat,
    Mail,
    is_foreign,
    parse_bdat,
    parse_helo,
    parse_mail,
    parse_rcpt,
    verb,
)
from tests.unit.test_grammar_paths import addresses

short = addresses.filter(lambda address: len(address.encode()) <= 254)
xtext = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="+="), min_size=1, max_size=100)
hexed = st.integers(0, 255).map("+{:02X}".format)
mails = st.builds(
    Mail,
    st.just("") | short,
    st.just(0) | st.integers(1, 10**20 - 1),
    st.booleans(),
    st.sampled_from(["", "FULL", "HDRS"]),
    st.just("") | xtext | hexed,
).filter(lambda mail: mail.smtp_utf8 or mail.sender.isascii())
notifies = st.none() | st.just(frozenset({"NEVER"})) | st.frozensets(st.sampled_from(["SUCCESS", "DELAY"]), min_size=1)
recipients = st.builds(Recipient, short, notifies, st.just("") | xtext.map("rfc822;{}".format))


def mail_line(mail: Mail) -> bytes:
    """A line that says that."""
    words = [
        f"MAIL FROM:<{mail.sender}>",
        f"SIZE={mail.size}" if mail.size else "",
        "SMTPUTF8" if mail.smtp_utf8 else "",
        f"RET={mail.ret}" if mail.ret else "",
        f"ENVID={mail.envid}" if mail.envid else "",
    ]
    return " ".join(filter(None, words)).encode()


def rcpt_line(recipient: Recipient) -> bytes:
    """A line that says that."""
    words = [
        f"RCPT TO:<{recipient.address}>",
        f"NOTIFY={','.join(sorted(recipient.notify))}" if recipient.notify else "",
        f"ORCPT={recipient.orcpt}" if recipient.orcpt else "",
    ]
    return " ".join(filter(None, words)).encode()


@given(mails)
def test_a_mail_line_says_what_was_meant(mail: Mail) -> None:
    """A MAIL that is written and parsed is the same."""
    assert parse_mail(mail_line(mail)) == mail
    assert parse_mail(mail_line(mail) + b" Body=8bitMIME") == mail


@given(recipients)
def test_a_rcpt_line_says_what_was_meant(recipient: Recipient) -> None:
    """A RCPT that is written and parsed is the same."""
    assert parse_rcpt(rcpt_line(recipient), smtp_utf8=True) == recipient


@given(short, st.booleans())
def test_the_quick_way_and_the_long_way_agree(address: str, utf8: bool) -> None:
    """Nothing depends on which parser took a line: a space more takes the long way."""
    line = b"MAIL FROM:<" + address.encode() + b">" + b" SMTPUTF8" * utf8
    assert parse_mail(line) == parse_mail(line + b" ")
    line = b"RCPT TO:<" + address.encode() + b">"
    assert parse_rcpt(line, smtp_utf8=utf8) == parse_rcpt(line + b" ", smtp_utf8=utf8)


@given(st.sampled_from([b"MAIL", b"MAIL FROM:", b"MAIL FROM:<", b"MAIL FROM:<a@b> ", b"MAIL FROM:<>"]), st.binary())
def test_any_octets_behind_mail(start: bytes, octets: bytes) -> None:
    """A value or a refusal, never an exception."""
    result = parse_mail(start + octets.replace(b"\n", b""))
    assert isinstance(result, Mail) or result.code in (501, 553, 555)


@given(st.sampled_from([b"RCPT", b"RCPT TO:", b"RCPT TO:<", b"RCPT TO:<a@b> ", b"RCPT TO:<a@b> ORCPT="]), st.binary())
def test_any_octets_behind_rcpt(start: bytes, octets: bytes) -> None:
    """A value or a refusal, never an exception."""
    result = parse_rcpt(start + octets.replace(b"\n", b""), smtp_utf8=True)
    assert isinstance(result, Recipient) or result.code in (501, 553, 555)


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        (b"MAIL FROM:a@b", "501 5.5.2"),
        (b"MAIL FROM:<a b>", "501 5.1.7"),
        (b"MAIL FROM:<a@b> X=1", "555 5.5.4"),
        (b"MAIL FROM:<a@b> BODY=BINARYMIME", "555 5.5.4"),
        (b"MAIL FROM:<a@b> SIZE=x", "501 5.5.4"),
        (b"MAIL FROM:<a@b>\tSIZE=1", "501 5.5.4"),
        (b"MAIL FROM:<a@b> ENVID=\xc3\xa9", "501 5.5.4"),
        (b"MAIL FROM:<a@b> ENVID=\xff", "501 5.5.4"),
        (b"MAIL FROM:<a@b> SIZE==1", "501 5.5.4"),
        (b"MAIL FROM:<a@b> -X", "501 5.5.4"),
        (b"MAIL FROM:<\xc3\xa9@b>", "553 5.6.7"),
        (b"MAIL FROM:<\xff@b>", "501 5.1.7"),
        (b"MAILFROM:<a@b>", "501 5.5.2"),
    ],
)
def test_refused_senders(line: bytes, codes: str) -> None:
    """What each is refused with."""
    assert str(parse_mail(line)).startswith(codes)


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        (b"RCPT TO:a@b", "501 5.5.2"),
        (b"RCPT TO:<>", "501 5.1.3"),
        (b"RCPT TO:<a b>", "501 5.1.3"),
        (b"RCPT TO:<a@b> NOTIFY=", "501 5.5.4"),
        (b"RCPT TO:<a@b> SIZE=1", "555 5.5.4"),
        (b"RCPT TO:<\xc3\xa9@b>", "553 5.6.7"),
    ],
)
def test_refused_recipients(line: bytes, codes: str) -> None:
    """What each is refused with."""
    assert str(parse_rcpt(line, smtp_utf8=False)).startswith(codes)


def test_an_utf8_address_in_orcpt() -> None:
    """It becomes its ASCII form, so that every provider can be told it (RFC 6533, 3)."""
    recipient = parse_rcpt("RCPT TO:<é@b> ORCPT=UTF-8;é€@b".encode(), smtp_utf8=True)

    assert isinstance(recipient, Recipient)
    assert recipient.orcpt == r"UTF-8;\x{E9}\x{20AC}@b"


def test_a_parameter_that_is_echoed() -> None:
    """Of what the client said no more is repeated than a keyword can be."""
    refused = parse_mail(b"MAIL FROM:<a@b> " + b"X" * 4000)

    assert isinstance(refused, Reply)
    assert len(octets(refused)) < 100


@pytest.mark.parametrize("word", ["", "a\tb", "a\0b", "x" * 256, "\x7f", " "])
def test_no_name_of_a_host(word: str) -> None:
    """1 to 255 octets without control characters."""
    assert isinstance(parse_helo(f"EHLO {word}".encode()), Reply)
    assert isinstance(parse_helo(b"EHLO"), Reply)


@given(st.binary(min_size=1, max_size=255).filter(lambda octets: not set(octets) & {*range(33), 127}))
def test_a_name_of_a_host(word: bytes) -> None:
    """Anything else is taken, and is ASCII from then on."""
    name = parse_helo(b"HELO  " + word + b" ")

    assert isinstance(name, str)
    assert name.isascii()
    if word.isascii():
        assert name.encode() == word


@pytest.mark.parametrize(
    ("line", "bdat"),
    [
        (b"BDAT 0", Bdat(0, last=False)),
        (b"bdat  010 last ", Bdat(10, last=True)),
        (b"BDAT " + b"9" * 18, Bdat(10**18 - 1, last=False)),
        (b"BDAT " + b"9" * 19, None),
        (b"BDAT", None),
        (b"BDAT ", None),
        (b"BDAT -1", None),
        (b"BDAT +1", None),
        (b"BDAT 1_0", None),
        (b"BDAT \xd9\xa3", None),
        (b"BDAT 1 2", None),
        (b"BDAT 1 LAST LAST", None),
        (b"BDAT 1LAST", None),
    ],
)
def test_chunks(line: bytes, bdat: Bdat | None) -> None:
    """A number of octets, and LAST (RFC 3030, 2)."""
    assert parse_bdat(line) == bdat


@given(st.binary(max_size=30))
def test_what_is_foreign_is_so_from_its_first_octets_on(octets: bytes) -> None:
    """More octets never make a line SMTP again: it can be judged before it has ended."""
    judged = [is_foreign(octets[:end]) for end in range(len(octets) + 1)]
    assert judged == sorted(judged)


@pytest.mark.parametrize("line", [b"", b"\r\n", b"\n", b"MAIL FROM:<a:b>", b"GETX", b"GET", b"NOOP x: y", b"HELO\r\n"])
def test_what_may_be_smtp(line: bytes) -> None:
    """Or the beginning of it."""
    assert not is_foreign(line)


@pytest.mark.parametrize(
    "line",
    [
        b"EHLO" + b" " * 1500 + b"\x01",
        b"HELO " + b"x " * 2000 + b"\x7f",
        b"MAIL FROM:<a" + b" " * 4000 + b"@example.com>",
        b"RCPT TO:<a" + b" " * 4000 + b"@example.com>",
        b"MAIL" + b" " * 4000 + b"TO:",
        b"BDAT 1" + b" " * 4000 + b"x",
    ],
    ids=lambda line: line[:6].decode(),
)
def test_a_line_of_spaces_takes_no_time(line: bytes) -> None:
    """While a line is looked at nobody else is served."""
    begin = time.process_time()
    for _ in range(10):
        for parse in (parse_helo, parse_mail, partial(parse_rcpt, smtp_utf8=True), parse_bdat):
            parse(line)
    assert time.process_time() - begin < 0.3


def test_verbs() -> None:
    """In any case, up to the first space."""
    assert verb(b"mail From:<a>") == b"MAIL"
    assert verb(b"QUIT") == b"QUIT"
    assert verb(b"") == b""


def test_answers() -> None:
    """ASCII, each line with its codes, none longer than RFC 5321 allows (4.5.3.1.5), nothing of control."""
    assert octets(Reply(250, "", ("a", "b", "c"))) == b"250-a\r\n250-b\r\n250 c\r\n"
    assert octets(Reply(451, "4.3.0", ("é\r\n250 x",))) == b"451 4.3.0 \\xe9\\x0d\\x0a250 x\r\n"
    assert octets(Reply(451, "4.3.0", ("x" * 999,))) == b"451 4.3.0 " + b"x" * 500 + b"\r\n"
    assert octets(Reply(250, "2.0.0", ())) == b"250 2.0.0 \r\n"
