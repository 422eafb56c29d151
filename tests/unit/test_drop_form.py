"""A mail as it lies in the drop folder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.drop.form import Head, Malformed, checksum, dump, load

HEAD = Head("a@example.com", ("b@example.net", "ü@bücher.example"), "NEVER", "HDRS", "id", 5, checksum(b"x\r\n\r\n"))


def test_there_and_back() -> None:
    """One line of ASCII says it all."""
    line = dump(HEAD)

    assert line.isascii()
    assert line.index(b"\n") == len(line) - 1
    assert load(line) == HEAD


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"Subject: s\n",
        b"[]\n",
        b"null\n",
        b"[" * 100_000,
        b'{"mailrelay":2}\n',
        b'{"mailrelay":1}\n',
        dump(HEAD).replace(b'"size":5', b'"size":"5"'),
        dump(HEAD).replace(b'"size":5', b'"size":true'),
        dump(HEAD).replace(b'"size":5', b'"size":5,"more":1'),
        dump(HEAD).replace(b'"a@example.com"', b"null"),
        dump(HEAD._replace(recipients=())),
        dump(HEAD).replace(b'["b@example.net",', b"[1,"),
        dump(HEAD)[:-20],
    ],
)
def test_what_is_no_such_line(line: bytes) -> None:
    """Whatever is missing, of the wrong kind or too much."""
    with pytest.raises(Malformed):
        load(line)


@given(st.binary(max_size=200))
def test_any_octets(octets: bytes) -> None:
    """Nothing breaks."""
    with pytest.raises(Malformed):
        load(octets)


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_a_checksum_of_pieces(pieces: list[bytes]) -> None:
    """It is that of the whole."""
    crc = 0
    for piece in pieces:
        crc = checksum(piece, crc)

    assert crc == checksum(b"".join(pieces))
