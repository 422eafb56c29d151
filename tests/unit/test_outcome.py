"""Outcomes: what each reply means, at each place in the dialogue."""

from __future__ import annotations

import pytest

from relay.outcome import (
    Deferred,
    Delivered,
    OverLimit,
    ProviderFault,
    Rejected,
    Retired,
    Stage,
    Uncertain,
    classify,
)
from relay.reply import Reply, no_reply

LOST = no_reply("the connection was lost")
BEFORE_MAIL = (Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH)
BEFORE_THE_DOT = (*BEFORE_MAIL, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.BODY)
COMMANDS = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT)


def said(code: int, enhanced: str = "") -> Reply:
    return Reply(code, enhanced, ("words",))


@pytest.mark.parametrize("stage", BEFORE_THE_DOT)
def test_nothing_heard_before_the_dot(stage: Stage) -> None:
    """A connection lost, a wait that ran out and a line that is no reply are the provider's fault there."""
    assert classify(stage, LOST) == ProviderFault(LOST)
    assert classify(stage, LOST, taken=True, closed=True) == ProviderFault(LOST)


@pytest.mark.parametrize("stage", BEFORE_THE_DOT)
def test_421_before_the_dot(stage: Stage) -> None:
    """It closes the connection (RFC 5321, 3.8) and says nothing of the mail, nor of the login."""
    assert classify(stage, said(421, "4.7.0")) == ProviderFault(said(421, "4.7.0"))


@pytest.mark.parametrize("stage", BEFORE_MAIL)
@pytest.mark.parametrize("code", [400, 451, 500, 502, 550, 554])
def test_refused_before_mail(stage: Stage, code: int) -> None:
    """Greeting, EHLO, STARTTLS or AUTH refused, for now or for good: the provider's fault; AUTH is marked."""
    assert classify(stage, said(code)) == ProviderFault(said(code), auth=stage is Stage.AUTH)


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        (Stage.CONNECT, 220),
        (Stage.EHLO, 250),
        (Stage.TLS, 220),
        (Stage.AUTH, 334),
        (Stage.AUTH, 235),
        (Stage.MAIL, 250),
        (Stage.RCPT, 250),
        (Stage.RCPT, 251),
        (Stage.RCPT, 254),
        (Stage.DATA, 354),
    ],
)
def test_the_good_answers(stage: Stage, code: int) -> None:
    """The dialogue goes on; the first digit counts (RFC 5321, 4.3.2), whatever the words say."""
    assert classify(stage, said(code)) is None
    assert classify(stage, said(code, "4.7.1")) is None


def test_taken() -> None:
    """Any 2xx to the dot is a delivery."""
    assert classify(Stage.DOT, said(250, "2.0.0")) == Delivered(said(250, "2.0.0"))
    assert classify(Stage.DOT, said(254), carried=True) == Delivered(said(254))


@pytest.mark.parametrize("reply", [LOST, said(354), no_reply("a line that is no SMTP reply: 2_5")])
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("carried", [False, True])
def test_nothing_heard_behind_the_dot(reply: Reply, closed: bool, carried: bool) -> None:
    """Delivered or not, nobody knows (RFC 1047)."""
    assert classify(Stage.DOT, reply, closed=closed, carried=carried) == Uncertain(reply)


@pytest.mark.parametrize("stage", [*COMMANDS, Stage.BODY])
@pytest.mark.parametrize("reply", [said(421), said(421, "4.3.2"), said(451, "4.4.2"), said(554, "5.4.2")])
def test_a_connection_that_had_done_its_work(stage: Stage, reply: Reply) -> None:
    """421 and x.4.2 end a connection that has carried mail, and are nobody's fault."""
    assert classify(stage, reply, carried=True) == Retired(reply)


def test_a_pooled_connection_found_dead() -> None:
    """So does its end when the next MAIL is said; a wait that ran out there or an end later is a fault."""
    assert classify(Stage.MAIL, LOST, carried=True, closed=True) == Retired(LOST)
    assert classify(Stage.MAIL, LOST, carried=True) == ProviderFault(LOST)
    assert classify(Stage.RCPT, LOST, carried=True, closed=True) == ProviderFault(LOST)


@pytest.mark.parametrize("stage", [*COMMANDS, Stage.BODY])
@pytest.mark.parametrize("code", [400, 403, 432, 450, 451, 452, 454, 499])
def test_not_now(stage: Stage, code: int) -> None:
    """Any 4xx defers."""
    assert classify(stage, said(code)) == Deferred(said(code))
    assert classify(stage, said(code, "4.4.2")) == Deferred(said(code, "4.4.2"))


def test_421_behind_the_dot() -> None:
    """A 4xx promises that the mail was not taken (RFC 5321, 4.2.5): no fault, and nothing uncertain."""
    assert classify(Stage.DOT, said(421)) == Deferred(said(421))


@pytest.mark.parametrize("stage", [*COMMANDS, Stage.BODY])
@pytest.mark.parametrize("code", [550, 552, 554, 555, 599])
def test_refused(stage: Stage, code: int) -> None:
    """Another 5xx is this provider's refusal, and no fault."""
    assert classify(stage, said(code)) == Rejected(said(code))
    assert classify(stage, said(code, "5.7.1")) == Rejected(said(code, "5.7.1"))


@pytest.mark.parametrize("enhanced", ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1", "5.2.2"])
def test_no_such_mailbox(enhanced: str) -> None:
    """No other provider is asked for a recipient whose mailbox is the trouble; elsewhere the words are not about it."""
    assert classify(Stage.RCPT, said(550, enhanced)) == Rejected(said(550, enhanced), final=True)
    assert classify(Stage.RCPT, said(552, enhanced), taken=True) == Rejected(said(552, enhanced), final=True)
    assert classify(Stage.MAIL, said(550, enhanced)) == Rejected(said(550, enhanced))
    assert classify(Stage.DOT, said(550, enhanced)) == Rejected(said(550, enhanced))
    assert classify(Stage.RCPT, said(450, enhanced)) == Deferred(said(450, enhanced))


@pytest.mark.parametrize(
    "reply",
    [
        *[said(code) for code in (530, 534, 535, 538)],
        *[said(550, f"5.7.{detail}") for detail in (8, 9, 11, 30, 57, 139)],
    ],
)
@pytest.mark.parametrize("stage", [*COMMANDS, Stage.BODY])
def test_our_login(stage: Stage, reply: Reply) -> None:
    """What our account there lacks is never the mail's fault; AUTH itself was not refused."""
    assert classify(stage, reply) == ProviderFault(reply)
    assert classify(stage, reply, taken=True, carried=True) == ProviderFault(reply)


def test_words_of_a_login_that_are_none() -> None:
    """5.7.0 behind a 550 is no 530, and a 4xx with 4.7.8 is for the mail."""
    assert classify(Stage.DATA, said(550, "5.7.0")) == Rejected(said(550, "5.7.0"))
    assert classify(Stage.MAIL, said(454, "4.7.8")) == Deferred(said(454, "4.7.8"))


@pytest.mark.parametrize("code", [500, 501, 502, 503, 504])
def test_our_session(code: int) -> None:
    """MAIL not understood is about the session; RCPT, DATA and the dot may well be about the mail."""
    assert classify(Stage.MAIL, said(code, "5.7.0")) == ProviderFault(said(code, "5.7.0"))
    for stage in (Stage.RCPT, Stage.DATA, Stage.DOT):
        assert classify(stage, said(code)) == Rejected(said(code))


@pytest.mark.parametrize(
    "reply",
    [said(452), said(552), said(452, "4.5.3"), said(552, "5.5.3"), said(451, "4.5.3"), said(450, "4.5.3")],
)
def test_too_many_recipients(reply: Reply) -> None:
    """After one was taken it is the limit of a transaction (RFC 5321, 4.5.3.1.10), before that the recipient's fate."""
    assert classify(Stage.RCPT, reply, taken=True) == OverLimit(reply)
    alone = Deferred(reply) if reply.code < 500 else Rejected(reply)
    assert classify(Stage.RCPT, reply) == alone
    assert classify(Stage.MAIL, reply, taken=True) == alone
    assert classify(Stage.DOT, reply, taken=True) == alone


@pytest.mark.parametrize("reply", [said(452, "4.2.2"), said(451), said(451, "4.3.0"), said(450, "4.5.4")])
def test_other_trouble_of_a_later_recipient(reply: Reply) -> None:
    """What says nothing of a limit is its own deferral."""
    assert classify(Stage.RCPT, reply, taken=True) == Deferred(reply)


def test_other_refusals_of_a_later_recipient() -> None:
    """A 5xx with other words than the limit's is its own refusal."""
    assert classify(Stage.RCPT, said(550, "5.5.3"), taken=True) == Rejected(said(550, "5.5.3"))
    assert classify(Stage.RCPT, said(552, "5.3.4"), taken=True) == Rejected(said(552, "5.3.4"))


@pytest.mark.parametrize("stage", [Stage.DATA, Stage.BODY])
@pytest.mark.parametrize("code", [250, 334])
def test_an_answer_that_does_not_fit(stage: Stage, code: int) -> None:
    """A 2xx before the content has left takes nothing: the two of us are out of step."""
    assert classify(stage, said(code)) == ProviderFault(said(code))
