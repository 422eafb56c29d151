"""The header that came: which fields are dropped, and that all else stays as it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.smtp.data.fields import FROM_LIMIT, Fields
from relay.smtp.submission import Rewriting

DROP = frozenset({b"bcc", b"return-path"})


def edited(content: bytes, *, cut: int | None = None, rewrite: Rewriting | None = None) -> tuple[bytes, Fields]:
    """What goes on of `content`: whole, octet by octet (0), or in two pieces."""
    fields = Fields(DROP, rewrite)
    if cut == 0:
        pieces = [content[at : at + 1] for at in range(len(content))]
    else:
        pieces = [content] if cut is None else [content[:cut], content[cut:]]
    return b"".join([*map(fields.edit, pieces), fields.end()]), fields


CASES = [
    (b"A: b\r\n\r\nbody\r\n", b"A: b\r\n\r\nbody\r\n", 0),
    (b"Bcc: b\r\n\r\nbody\r\n", b"\r\nbody\r\n", 0),
    (b"Bcc: b\r\n c\r\n\td\r\nA: b\r\n e\r\n\r\n", b"A: b\r\n e\r\n\r\n", 0),
    (b"A: b\r\nbCc \t: b\r\n \r\nX: y\r\n\r\nBcc: c\r\n", b"A: b\r\nX: y\r\n\r\nBcc: c\r\n", 0),
    (b"X-Bcc: b\r\nBcc-X: c\r\nReturn-Path: <>\r\n", b"X-Bcc: b\r\nBcc-X: c\r\n", 0),
    (b"hello\r\nBcc: b\r\n", b"hello\r\nBcc: b\r\n", 0),
    (b" folded\r\nBcc: b\r\n", b" folded\r\nBcc: b\r\n", 0),
    (b"A: b\r\nhello\r\nBcc: b\r\n", b"A: b\r\nhello\r\nBcc: b\r\n", 0),
    (b"A: b\r\nhello Bcc: b\r\n", b"A: b\r\nhello Bcc: b\r\n", 0),
    (b"\r\nBcc: b\r\n", b"\r\nBcc: b\r\n", 0),
    (b"", b"", 0),
    (b":b\r\nBcc: b\r\n", b":b\r\nBcc: b\r\n", 0),
    (b"\xc3\xa9: b\r\nBcc: b\r\n", b"\xc3\xa9: b\r\nBcc: b\r\n", 0),
    (b"Received: a\r\nrEceived : b\r\n\tReceived: c\r\nA: Received: d\r\n\r\nReceived: e\r\n", None, 2),
    (b"Bcc:\r\nBcc:b\r\nA:\r\n\r\n", b"A:\r\n\r\n", 0),
    (b"N" * 900 + b": b\r\nBcc: c\r\n\r\n", b"N" * 900 + b": b\r\n\r\n", 0),
    (b"N" * 901 + b": b\r\nBcc: c\r\n\r\n", None, 0),
    (b"Bcc" + b" " * 90 + b": c\r\n\r\n", b"\r\n", 0),
    (b"Bcc" + b" " * 91 + b": c\r\n\r\n", None, 0),
    (b"N" * 3000, None, 0),
]


@pytest.mark.parametrize(("content", "meant", "received"), CASES)
def test_headers(content: bytes, meant: bytes | None, received: int) -> None:
    """Names in any case, folded lines go with their field, the body is not looked at; None: all stays."""
    for cut in (None, *range(min(len(content), 200))):
        octets, fields = edited(content, cut=cut)
        assert octets == (content if meant is None else meant), cut
        assert fields.received == received


def test_a_field_of_any_length() -> None:
    """Of a long line only its beginning is ever held back."""
    fields = Fields(DROP)
    assert fields.edit(b"Subject") == b""
    assert fields.edit(b": a") == b"Subject: a"
    assert fields.edit(b"x" * 10**6) == b"x" * 10**6
    assert fields.edit(b"\r\nBcc: " + b"y" * 10**6) == b"\r\n"
    assert fields.edit(b"y" * 10**6) == b""
    assert fields.edit(b"\r\n z\r\nA") == b""
    assert fields.edit(b": b\r\n") == b"A: b\r\n"


lines = st.lists(
    st.sampled_from(
        [b"A: b", b"Bcc: x", b"Date: x", b" folded", b"\tfolded", b"", b"junk", b"Received:", b"Message-ID:i"]
    ),
    max_size=12,
)


@settings(deadline=None)
@given(lines)
def test_any_header(parts: list[bytes]) -> None:
    """The same as a plain reading line by line, and the same however it is cut."""
    content = b"".join(part + b"\r\n" for part in parts)
    kept: list[bytes] = []
    field: bytes | None = None
    for number, part in enumerate(parts):
        match = re.match(rb"([!-9;-~]+)[ \t]*:", part)
        if match is None and (field is None or part[:1] not in (b" ", b"\t")):
            kept += parts[number:]
            break
        field = match[1].lower() if match else field
        if field not in DROP:
            kept.append(part)
    meant = b"".join(part + b"\r\n" for part in kept)

    whole, fields = edited(content)
    assert whole == meant
    for cut in range(len(content)):
        octets, others = edited(content, cut=cut)
        assert octets == meant
        for name in ("has_header", "has_date", "has_message_id", "received"):
            assert getattr(others, name) == getattr(fields, name)


def upper(field: bytes) -> bytes | None:
    """A rewriting that is easily seen; a field with a question mark in it stays."""
    return None if b"?" in field else field.upper()


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        (b"From: a\r\n\r\nFrom: b\r\n", b"FROM: A\r\nX-Original-From: a\r\n\r\nFrom: b\r\n"),
        (
            b"A: b\r\nfrom : a\r\n b\r\n\tc\r\nB: c\r\n",
            b"A: b\r\nFROM : A\r\n B\r\n\tC\r\nX-Original-from : a\r\n b\r\n\tc\r\nB: c\r\n",
        ),
        (b"From: a\r\n", b"FROM: A\r\nX-Original-From: a\r\n"),
        (b"From: a\r\n b\r\n", b"FROM: A\r\n B\r\nX-Original-From: a\r\n b\r\n"),
        (b"From: a\r\nno field\r\nFrom: b\r\n", b"FROM: A\r\nX-Original-From: a\r\nno field\r\nFrom: b\r\n"),
        (b"From: a\r\nfRoM: b\r\n\r\n", b"FROM: A\r\nX-Original-From: a\r\nFROM: B\r\nX-Original-fRoM: b\r\n\r\n"),
        (b"From: a\r\nBcc: b\r\n\r\n", b"FROM: A\r\nX-Original-From: a\r\n\r\n"),
        (b"Bcc: b\r\n From: a\r\nFrom:\r\n\r\n", b"FROM:\r\nX-Original-From:\r\n\r\n"),
        (b"From: a?\r\n b\r\nTo: c\r\n\r\n", None),
        (b"From: a?\r\n", None),
        (b"X-From: a\r\nResent-From: a\r\nFromage: a\r\nSubject: From: a\r\n From: a\r\n\r\n", None),
        (b"From a\r\nFrom: a\r\n\r\n", None),
        (b"\r\nFrom: a\r\n", None),
    ],
)
def test_from_is_rewritten(content: bytes, meant: bytes | None) -> None:
    """In the header alone, with its folds, and what it was stays behind it; else every octet does (None)."""
    for cut in (None, *range(len(content))):
        octets, _ = edited(content, cut=cut, rewrite=upper)
        assert octets == (content if meant is None else meant), cut


@pytest.mark.parametrize("fold", [b"", b"\r\n "])
def test_a_from_of_any_length(fold: bytes) -> None:
    """Up to the limit it is rewritten, however it is cut; a longer one goes on as it comes."""
    for more in (0, 1):
        field = (b"From: a" + fold).ljust(FROM_LIMIT - 2 + more, b"x") + b"\r\n"
        for content in (field, field + b"To: b\r\n\r\n", field + b" \r\n\r\n"):
            same = more or content.startswith(field + b" ")
            meant = content if same else field.upper() + b"X-Original-" + content
            for cut in (None, 8, len(field) - 1, len(field), len(field) + 1):
                assert edited(content, cut=cut, rewrite=upper)[0] == meant

    fields = Fields(DROP, upper)
    assert fields.edit(b"From: ") == b""
    assert len(fields.edit(b"a" * FROM_LIMIT)) == FROM_LIMIT + 6
    assert fields.edit(b"b") == b"b"


def test_many_from_fields() -> None:
    """As much of them is looked at as of one."""
    field = b"From:".ljust(FROM_LIMIT // 4 - 2, b"x") + b"\r\n"
    seen: list[bytes] = []

    octets, _ = edited(field * 7 + b"\r\n", rewrite=lambda field: seen.append(field))

    assert octets == field * 7 + b"\r\n"
    assert seen == [field] * 4
