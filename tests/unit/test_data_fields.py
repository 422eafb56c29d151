"""The header that came: which fields are dropped, and that all else stays as it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.smtp.data.fields import Fields

DROP = frozenset({b"bcc", b"return-path"})


def edited(content: bytes, *, cut: int | None = None) -> tuple[bytes, Fields]:
    """What goes on of `content`: whole, octet by octet (0), or in two pieces."""
    fields = Fields(DROP)
    if cut == 0:
        pieces = [content[at : at + 1] for at in range(len(content))]
    else:
        pieces = [content] if cut is None else [content[:cut], content[cut:]]
    return b"".join(map(fields.edit, pieces)), fields


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
