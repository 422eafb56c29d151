"""Any octets as content: the same however they are cut, sound as they go on, and the same behind the next server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from relay.addresses import Rules as AddressRules
from relay.smtp.data.receive import Chunks, Content, Dots, Rules
from relay.smtp.data.send import DotStuffer, stuffed
from relay.smtp.submission import Findings, Refused

NORMALIZE = Rules(3000, drop=frozenset({b"bcc"}))
REJECT = Rules(3000, reject_bare_newlines=True, drop=frozenset({b"bcc"}))
REWRITE = partial(AddressRules("example.com", {}, {}).rewrite_from, old="root@example.com", new="noreply@example.com")

Outcome = tuple[bytes, Findings | str, bytes]
"""What went on, what was found or why it was refused, and what follows its end."""


def check(octets: bytes) -> None:
    """The first three octets say how. Raises AssertionError, or whatever else is wrong."""
    how, first, second = octets[:3].ljust(3, b"\0")
    rules = REJECT if how & 1 else NORMALIZE
    rewrite = REWRITE if how & 2 else None
    body = octets[3:]
    stream = body + b"\r\n.\r\n"
    places = sorted(place * len(stream) // 255 for place in (first, second))
    pieces = [stream[: places[0]], stream[places[0] : places[1]], stream[places[1] :]]

    whole = _by_data([stream], Content(rules, rewrite))
    assert _by_data(pieces, Content(rules, rewrite)) == whole
    if len(stream) < 150:  # it is slow, and long ones show no more
        assert _by_data([stream[at : at + 1] for at in range(len(stream))], Content(rules, rewrite)) == whole
    _is_sound(whole[0])

    by_chunks = _by_chunks([body], Content(rules, rewrite))
    assert _by_chunks([body[: places[0]], body[places[0] :]], Content(rules, rewrite)) == by_chunks
    _is_sound(by_chunks[0])


def _by_data(pieces: Sequence[bytes], content: Content) -> Outcome:
    dots, went_on = Dots(), b""
    for number, piece in enumerate(pieces):
        octets, rest = dots.feed(piece)
        content.grow(len(octets))
        went_on += content.edit(octets)
        if rest is not None:
            return _ended(content, went_on, rest + b"".join(pieces[number + 1 :]))
    raise AssertionError("no end was found")


def _by_chunks(pieces: Sequence[bytes], content: Content) -> Outcome:
    chunks, went_on = Chunks(), b""
    for piece in pieces:
        content.grow(len(piece))
        went_on += content.edit(chunks.feed(piece))
    return _ended(content, went_on + content.edit(chunks.end()), b"")


def _ended(content: Content, went_on: bytes, rest: bytes) -> Outcome:
    try:
        went_on += content.end()
    except Refused as refused:
        return b"", str(refused.reply), rest
    return went_on, content.findings, rest


def _is_sound(content: bytes) -> None:
    """No lone CR or LF and no NUL; and a server that it is sent to gets the same."""
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", content)
    assert content == b"" or content.endswith(b"\r\n")
    stuffer, half = DotStuffer(), len(content) // 2
    sent = stuffer.stuff(content[:half]) + stuffer.stuff(content[half:]) + stuffer.end()
    assert sent == stuffed(content)
    assert Dots().feed(sent) == (content, b"")
