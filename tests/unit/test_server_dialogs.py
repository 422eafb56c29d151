"""Dialogues with the server, in tests/dialogs: whole, octet by octet, and with all sent at once that may be."""

from __future__ import annotations

import pytest

from tests.dialog import DIALOGS, Dialog, Turn
from tests.taking import Server, policy


def play(dialog: Dialog, turns: list[Turn], *, each: int = 0) -> None:
    """Take the client's part, and see what comes of it."""
    server = Server(policy(**dialog.policy))
    client = server.connect()
    for turn in turns:
        client.send(turn.sends, each=each)
        if turn.waits:
            server.clock.advance(turn.waits)
        said = client.said()
        assert len(said) == len(turn.hears), f"{turn.sends[:80]!r}: {said}"
        for reply, expected in zip(said, turn.hears, strict=True):
            assert reply.startswith(expected), turn.sends[:80]
        assert client.is_closed == turn.closes, turn.sends[:80]
    assert server.faults == []
    taken = server.taker.mails
    assert [(mail.sender, mail.addresses) for mail in taken] == [
        (mail.sender, mail.recipients) for mail in dialog.mails
    ]
    for mail, expected_mail in zip(taken, dialog.mails, strict=True):
        if expected_mail.content is not None:
            assert mail.content == expected_mail.content
    assert [reason for _, _, reason in server.taker.refusals] == dialog.refusals
    for begun in server.taker.begun:
        assert (begun in taken) != begun.abandoned or not client.is_closed


@pytest.mark.parametrize("dialog", DIALOGS, ids=lambda dialog: dialog.name)
def test_as_written(dialog: Dialog) -> None:
    """Each reply is what the file says, and so is what was taken."""
    play(dialog, dialog.turns)


@pytest.mark.parametrize("dialog", [d for d in DIALOGS if not d.is_early], ids=lambda dialog: dialog.name)
def test_octet_by_octet(dialog: Dialog) -> None:
    """Nothing depends on how the octets are cut into segments."""
    play(dialog, dialog.turns, each=1)


@pytest.mark.parametrize("dialog", [d for d in DIALOGS if not d.is_early], ids=lambda dialog: dialog.name)
def test_pipelined(dialog: Dialog) -> None:
    """Nothing depends on what follows in the same segment, and replies keep their order (RFC 2920)."""
    play(dialog, dialog.pipelined())
