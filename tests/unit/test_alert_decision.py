"""Which alerts begin, go on and end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.alerts.decision import Alert, Change, Reading, decide

BEYOND = Reading("backlog", beyond=True, within=False, message="101 mails wait.")
BETWEEN = Reading("backlog", beyond=False, within=False, message="90 mails wait.")
WITHIN = Reading("backlog", beyond=False, within=True, message="80 mails wait.")
ACTIVE = {"backlog": Alert("backlog", since=1000.0, began=10.0, told_at=10.0, message="101 mails wait.")}


def test_beyond_the_bound() -> None:
    """It is raised, once."""
    active, changes = decide([BEYOND], {}, 10.0, 1000.0, 3600.0)

    assert active == ACTIVE
    assert changes == (Change("backlog", "raised", "101 mails wait.", 1000.0),)
    assert decide([BEYOND], active, 70.0, 1060.0, 3600.0) == (active, ())


def test_between_the_bound_and_its_end() -> None:
    """All stays as it was, but for the words."""
    assert decide([BETWEEN], {}, 10.0, 1000.0, 3600.0) == ({}, ())

    active, changes = decide([BETWEEN], ACTIVE, 70.0, 1060.0, 3600.0)

    assert active["backlog"].message == "90 mails wait."
    assert active["backlog"].since == 1000.0
    assert changes == ()


def test_well_within_the_bound() -> None:
    """It is over, with how long it lasted; without an alert there is nothing to say."""
    assert decide([WITHIN], ACTIVE, 310.0, 1300.0, 3600.0) == (
        {},
        (Change("backlog", "cleared", "80 mails wait. The alert lasted 5 minutes.", 1000.0),),
    )
    assert decide([WITHIN], {}, 310.0, 1300.0, 3600.0) == ({}, ())


def test_an_alert_that_lasts() -> None:
    """It is told again after each `repeat`, in the newest words; with 0 never."""
    active, changes = decide([BETWEEN], ACTIVE, 3610.0, 4600.0, 3600.0)
    assert changes == (Change("backlog", "repeated", "90 mails wait.", 1000.0),)
    assert decide([BETWEEN], active, 7209.0, 8199.0, 3600.0)[1] == ()
    assert len(decide([BETWEEN], active, 7210.0, 8200.0, 3600.0)[1]) == 1

    assert decide([BETWEEN], ACTIVE, 1e9, 2e9, 0.0)[1] == ()


def test_an_alert_of_which_nothing_is_known() -> None:
    """Without a reading, or with one that says nothing, it stays as it is."""
    silent = Reading("backlog", beyond=False, within=False, message="")

    assert decide([], ACTIVE, 70.0, 1060.0, 3600.0) == (ACTIVE, ())
    assert decide([silent], ACTIVE, 70.0, 1060.0, 3600.0) == (ACTIVE, ())


@given(st.lists(st.sampled_from([BEYOND, BETWEEN, WITHIN]), max_size=40), st.sampled_from([0.0, 60.0, 150.0]))
def test_any_story(story: list[Reading], repeat: float) -> None:
    """What is told is always raised, perhaps repeated, then cleared; and what was told last is what is active."""
    active: dict[str, Alert] = {}
    told = "cleared"
    for number, reading in enumerate(story):
        active, changes = decide([reading], active, number * 60.0, 1000.0 + number * 60.0, repeat)
        for change in changes:
            assert (told == "cleared") == (change.state == "raised")
            told = change.state
        assert ("backlog" in active) == (told != "cleared")
        if reading is not BETWEEN:
            assert ("backlog" in active) == reading.beyond
