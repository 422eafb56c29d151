"""What is fuzzed for long elsewhere, for a moment: with the octets of the dialogues, and with any."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialog import DIALOGS
from tests.fuzz import data, grammar

PARTS = [b"\r\n", b"\r", b"\n", b".", b"From: root\r\n", b" ", b"Bcc: x", b"\0", b"<a@b>", b"250-", b"250 ", b"PROXY "]

octets = st.binary() | st.lists(st.sampled_from(PARTS) | st.binary(max_size=9), max_size=20).map(b"".join)


def test_dialogues() -> None:
    """What clients say in them, whatever it was meant for."""
    for said in {turn.sends for dialog in DIALOGS for turn in dialog.turns}:
        if len(said) < 3000:
            grammar.check(said)
            data.check(b"\3\x80\xc0" + said)


@settings(deadline=None, derandomize=True)
@given(octets)
def test_any_octets_where_commands_are_expected(octets: bytes) -> None:
    """The check holds."""
    grammar.check(octets)


@settings(deadline=None, derandomize=True)
@given(octets)
def test_any_octets_as_content(octets: bytes) -> None:
    """The check holds."""
    data.check(octets)
