"""Whatever comes: what the server does depends on the octets alone, not on how they were cut into segments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.smtp.data import receive
from relay.smtp.server import wire
from relay.smtp.server.local import LocalSMTP
from tests.taking import Server, policy

PARTS = [
    b"EHLO x\r\n",
    b"MAIL FROM:<a@example.com>\r\n",
    b"MAIL FROM:<a@example.com> SIZE=999\r\n",
    b"RCPT TO:<b@example.net>\r\n",
    b"RCPT TO:<nobody@example.net>\r\n",
    b"DATA\r\n",
    b"BDAT 7\r\n",
    b"BDAT 30 LAST\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT x\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"QUIT\r\n",
    b"FOO\r\n",
    b"x" * 50 + b"\r\n",
    b"Subject: t\r\n",
    b"Bcc: t\r\n",
    b"Received: t\r\n" * 3,
    b"GET / HTTP/1.1\r\n",
    b"x" * 95,
    b"\r\n",
    b"\r",
    b"\n",
    b".",
    b".\r\n",
    b"\0",
    b" ",
    b"\xff",
]
MAIL = b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"
streams = st.builds(
    lambda begun, parts: begun + b"".join(parts),
    st.sampled_from([b"", MAIL, MAIL + b"DATA\r\n", MAIL + b"BDAT 30\r\n"]),
    st.lists(st.sampled_from(PARTS), max_size=15),
)


@pytest.fixture(autouse=True)
def _limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Low ones, to be met often. What is sent too early is about time, and let through here."""
    monkeypatch.setattr(LocalSMTP, "has_spoken", False)
    monkeypatch.setattr(wire, "LINE_LIMIT", 100)
    monkeypatch.setattr(receive, "RECEIVED_LIMIT", 5)


def outcome(segments: Sequence[bytes], *, reject: bool) -> tuple[object, ...]:
    """All that can be seen of it."""
    server = Server(policy(max_size=500, reject_bare_newlines=reject))
    client = server.connect()
    for segment in segments:
        client.send(segment)
    assert server.faults == []
    for mail in server.taker.mails:
        assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", mail.content)
        assert mail.content == b"" or mail.content.endswith(b"\r\n")
        assert mail.addresses == ["b@example.net"]
    mails = [(mail.content, mail.findings) for mail in server.taker.mails]
    return client.transport.value(), client.is_closed, mails, server.taker.refusals


@settings(max_examples=200, deadline=None)
@given(streams, st.booleans(), st.lists(st.integers(0, 10_000), max_size=5))
@example(MAIL + b"DATA\r\n\r\n.\r.\r\n.\r\nRSET\r\n", False, [60])
def test_any_stream(stream: bytes, reject: bool, cuts: list[int]) -> None:
    """Whole, octet by octet, or cut anywhere."""
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    whole = outcome([stream], reject=reject)

    assert outcome([stream[at : at + 1] for at in range(len(stream))], reject=reject) == whole
    assert outcome([stream[a:b] for a, b in pairwise(places)], reject=reject) == whole


@settings(deadline=None)
@given(streams)
def test_a_reply_to_each_command(stream: bytes) -> None:
    """Nothing is said but replies: three digits, and an enhanced code of the same kind where RFC 2034 wants one."""
    client = Server().connect()
    client.send(stream)

    for line in client.transport.value().split(b"\r\n")[:-1]:
        assert re.fullmatch(rb"[245][0-9]{2}[ -].*|354 .*", line)
        if line[3:4] == b" " and line[:3] not in (b"220", b"354") and not line.startswith(b"250 CHUNKING"):
            assert re.match(rb"([245])[0-9]{2} \1\.[0-9]\.[0-9] ", line)
