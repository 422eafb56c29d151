"""The head that goes on top: ASCII, in no locale, whatever the client said."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.data.header import date_time, head, received
from relay.smtp.submission import Findings, Session

SESSION = Session("127.0.0.1", "app.example", "ESMTP")
ALL = Findings(True, True, True, False)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """The machine's zone, for as long as a test runs."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    date_time.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()
    date_time.cache_clear()


def test_what_is_missing_is_added() -> None:
    """Date and Message-ID below our trace field, and an empty line where there was no header."""
    whole = head("relay.example", SESSION, "0193", 1.5, ALL)
    assert whole == received("relay.example", SESSION, "0193", 1.5)
    date = f"Date: {date_time(1)}\r\n".encode()

    assert head("relay.example", SESSION, "0193", 1.5, Findings(True, False, True, False)) == whole + date
    assert (
        head("relay.example", SESSION, "0193", 1.5, Findings(False, False, False, True))
        == whole + date + b"Message-ID: <0193@relay.example>\r\n\r\n"
    )


def test_the_trace_field() -> None:
    """Who, by what, under which id, and when (RFC 5321, 4.4)."""
    assert received("relay.example", Session("::1", "[127.0.0.1]", "UTF8SMTP"), "0193-ab", 0).startswith(
        b"Received: from [127.0.0.1] ([IPv6:::1])\r\n by relay.example with UTF8SMTP id 0193-ab;\r\n T"
    )
    assert b" from app (uid:1000)\r\n" in received("relay.example", Session("uid:1000", "app", "SMTP"), "0193", 0)


@given(st.text(max_size=255), st.sampled_from(["127.0.0.1", "::1", "uid:0"]), st.integers(0, 2**33))
def test_whatever_the_client_called_itself(helo: str, client: str, seconds: int) -> None:
    """The head is ASCII, one field that folds, and Python's email package reads it."""
    octets = received("relay.example", Session(client, helo, "ESMTP"), "0193", seconds)

    assert octets.isascii()
    assert re.fullmatch(
        rb"Received: from [^\s()<>;,\"\\]+ \(\S+\)\r\n by relay.example with ESMTP id 0193;\r\n [^\r\n]+\r\n", octets
    )
    assert email.utils.parsedate_to_datetime(octets.decode().rpartition(";")[2].strip()).timestamp() == seconds


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("UTC", "Sun, 09 Sep 2001 01:46:40 +0000"),
        ("Asia/Kathmandu", "Sun, 09 Sep 2001 07:31:40 +0545"),
        ("America/St_Johns", "Sat, 08 Sep 2001 23:16:40 -0230"),
        ("XXX3:30", "Sat, 08 Sep 2001 22:16:40 -0330"),
    ],
    indirect=["zone"],
)
@pytest.mark.usefixtures("zone")
def test_dates(said: str) -> None:
    """In this machine's zone, as a number (RFC 5322, 3.3)."""
    assert date_time(1_000_000_000) == said
