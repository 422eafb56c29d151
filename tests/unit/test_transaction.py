"""Transactions: what is said, and what each answer means for each recipient; no network, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.envelope import Recipient
from relay.outcome import (
    CannotTake,
    Deferred,
    Delivered,
    Outcome,
    OverLimit,
    ProviderFault,
    Rejected,
    Retired,
    Stage,
    Uncertain,
)
from relay.reply import Reply, no_reply
from relay.smtp.grammar.replies import Replies
from relay.upstream.batch import IN_ONE_PIECE, Batch, Features
from relay.upstream.needs import in_ascii
from relay.upstream.transaction import Transaction

PLAIN = Features()
PIPELINED = Features(pipelining=True)
CHUNKED = Features(pipelining=True, chunking=True)
CHUNKED_IN_STEP = Features(chunking=True)
WAYS = [PLAIN, PIPELINED, CHUNKED, CHUNKED_IN_STEP]

BODY = b"Subject: t\r\n\r\n.x\r\n"
CONTENT = b"Received: here\r\n" + BODY
STUFFED = CONTENT.replace(b"\r\n.x", b"\r\n..x") + b".\r\n"
CHUNK = b"BDAT %d LAST\r\n" % len(CONTENT) + CONTENT
LOST = no_reply("the connection was lost")


def batch(*addresses: str, sender: str = "a@example.com", body: bytes = BODY, eight_bit: bool = False) -> Batch:
    recipients = tuple([Recipient(address) for address in addresses or ("b@example.net",)])
    head = b"Received: here\r\n"
    return Batch(sender, recipients, head, body, len(head) + len(body), eight_bit)


def reply(said: str) -> Reply:
    [parsed] = Replies().receive(said.encode() + b"\r\n")
    return parsed


def kinds(transaction: Transaction) -> list[type[Outcome] | type[None]]:
    return [type(outcome) for outcome in transaction.outcomes]


class Dialogue:
    """Plays the connection's part: what was written, and when the content has left."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.written = [transaction.begin()]

    def hears(self, *said: str) -> Dialogue:
        """Give it replies; each has to be due."""
        for each in said:
            assert not self.transaction.over, f"over before {each}"
            assert self.transaction.fits(reply(each))
            octets = self.transaction.receive(reply(each))
            if octets:
                self.written.append(octets)
            if self.transaction.stage is Stage.BODY and not self.transaction.streams:
                self.transaction.stage = Stage.DOT
        return self

    @property
    def ended(self) -> tuple[bool, bool, bool]:
        """Usable, clean, cut."""
        transaction = self.transaction
        assert transaction.over
        assert None not in transaction.outcomes
        return transaction.usable, transaction.clean, transaction.cut


def dialogue(features: Features, what: Batch | None = None, *, carried: bool = False, reset: bool = False) -> Dialogue:
    return Dialogue(Transaction(what or batch(), features, carried=carried, reset=reset))


# What is said, and when


def test_in_lock_step() -> None:
    """Without PIPELINING each command waits for the reply to the one before."""
    talk = dialogue(PLAIN, batch("b@example.net", "c@example.net"))
    assert talk.written == [b"MAIL FROM:<a@example.com>\r\n"]
    talk.hears("250 Ok", "250 Ok", "250 Ok", "354 Go", "250 2.0.0 Queued")
    assert talk.written[1:] == [
        b"RCPT TO:<b@example.net>\r\n",
        b"RCPT TO:<c@example.net>\r\n",
        b"DATA\r\n",
        STUFFED,
    ]
    assert talk.transaction.outcomes == [Delivered(Reply(250, "2.0.0", ("Queued",)))] * 2
    assert talk.ended == (True, True, False)


def test_pipelined() -> None:
    """With it MAIL, RCPT and DATA are one write (RFC 2920), the content another."""
    talk = dialogue(PIPELINED)
    assert talk.written == [b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"]
    talk.hears("250 Ok", "250 Ok", "354 Go", "250 Queued")
    assert talk.written[1:] == [STUFFED]
    assert talk.ended == (True, True, False)


@pytest.mark.parametrize("said", ["500 What?", "502 5.5.1 Not implemented", "500 5.5.2 Syntax error"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_chunk_that_is_offered_and_not_known(said: str, whole: bool) -> None:
    """That is the provider's fault, and the connection's end: what the command is says nothing of the mail."""
    transaction = Transaction(batch(), CHUNKED, whole=whole)
    dialogue = Dialogue(transaction).hears("250 Ok", "250 Ok")
    dialogue.hears(said)
    assert kinds(transaction) == [ProviderFault]
    assert transaction.misled
    assert not transaction.usable


@pytest.mark.parametrize("said", ["500 5.7.1 Spam", "552 5.3.4 Too big", "554 No", "502 5.3.2 Not now"])
def test_a_chunk_that_is_refused(said: str) -> None:
    """That is the mail's."""
    transaction = Transaction(batch(), CHUNKED)
    Dialogue(transaction).hears("250 Ok", "250 Ok", said)
    assert kinds(transaction) == [Rejected]
    assert not transaction.misled


@pytest.mark.parametrize("features", [CHUNKED, CHUNKED_IN_STEP])
def test_in_a_chunk(features: Features) -> None:
    """With CHUNKING the content goes as it is behind BDAT (RFC 3030), and not before anybody was accepted."""
    talk = dialogue(features).hears("250 Ok", "250 Ok", "250 Queued")
    assert talk.written[-1] == CHUNK
    assert b"BDAT" not in b"".join(talk.written[:-1])
    assert kinds(talk.transaction) == [Delivered]
    assert talk.ended == (True, True, False)


def test_whole() -> None:
    """Behind another transaction everything leaves at once, with a RSET for what that one may have left."""
    talk = Dialogue(Transaction(batch(), CHUNKED, reset=True, whole=True))
    assert talk.written == [b"RSET\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n" + CHUNK]
    talk.hears("250 Flushed", "250 Ok", "250 Ok", "250 Queued")
    assert kinds(talk.transaction) == [Delivered]
    assert talk.ended == (True, True, False)


@pytest.mark.parametrize("features", WAYS)
@pytest.mark.parametrize("said", ["250 Flushed", "500 What?"])
def test_reset_first(features: Features, said: str) -> None:
    """RSET goes before MAIL where the last transaction left something; MAIL shows whether it worked."""
    talk = dialogue(features, reset=True)
    assert talk.written[0].startswith(b"RSET\r\n")
    talk.hears(said)
    assert b"MAIL" in b"".join(talk.written)
    talk.hears("250 Ok", "250 Ok", *(() if features.chunking else ("354 Go",)), "250 Queued")
    assert kinds(talk.transaction) == [Delivered]


def test_parameters() -> None:
    """Each is said where it is offered and the mail has something to say."""
    recipients = (
        Recipient("b@example.net", frozenset({"FAILURE", "DELAY"}), "rfc822;b+2B@example.net"),
        Recipient("c@example.net", frozenset({"NEVER"})),
        Recipient("d@example.net", None, "utf-8;ü@example.net"),
    )
    mail = Batch("a@example.com", recipients, b"", BODY, 1234, True, "HDRS", "id+2B1")
    full = Features(pipelining=True, size=0, eight_bit_mime=True, smtp_utf8=True, dsn=True)
    assert dialogue(full, mail).written[0].split(b"\r\n") == [
        b"MAIL FROM:<a@example.com> SIZE=1234 BODY=8BITMIME RET=HDRS ENVID=id+2B1",
        b"RCPT TO:<b@example.net> NOTIFY=DELAY,FAILURE ORCPT=rfc822;b+2B@example.net",
        b"RCPT TO:<c@example.net> NOTIFY=NEVER",
        b"RCPT TO:<d@example.net>",
        b"DATA",
        b"",
    ]
    assert b"RET" not in dialogue(replace(full, dsn=False), mail).written[0]
    assert b"SIZE" not in dialogue(replace(full, size=None), mail).written[0]
    assert b"BODY" not in dialogue(full, replace(mail, eight_bit=False)).written[0]


def test_the_null_sender() -> None:
    """<> goes as it is, or as the address that stands for it."""
    assert dialogue(PLAIN, batch(sender="")).written == [b"MAIL FROM:<>\r\n"]
    instead = Transaction(batch(sender=""), PLAIN, null_sender="bounces@example.com")
    assert instead.begin() == b"MAIL FROM:<bounces@example.com>\r\n"
    assert Transaction(batch(), PLAIN, null_sender="x@example.com").begin() == b"MAIL FROM:<a@example.com>\r\n"


def test_addresses_pass_as_they_are() -> None:
    """No parsing, no quoting: what looks odd is sent as it came."""
    odd = ['"a b"@example.net', "(c)a@example.net", "a..b@example.net", "a@[192.0.2.1]", "a@x,b@y", '"<>"@example.net']
    talk = dialogue(PIPELINED, batch(*odd))
    assert [line[9:-1] for line in talk.written[0].split(b"\r\n")[1:-2]] == [address.encode() for address in odd]


@pytest.mark.parametrize(
    "bad", ["b@example.net>\r\nDATA\r\n", "b\n@example.net", "b\0@example.net", "b\x7f@example.net"]
)
def test_what_would_end_a_line(bad: str) -> None:
    """An address with a control character is never said; the others are."""
    talk = dialogue(PIPELINED, batch(bad, "c@example.net"))
    assert talk.written == [b"MAIL FROM:<a@example.com>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n"]
    talk.hears("250 Ok", "250 Ok", "354 Go", "250 Queued")
    assert kinds(talk.transaction) == [Rejected, Delivered]
    assert kinds(dialogue(PIPELINED, batch(sender=bad)).transaction) == [Rejected]
    assert kinds(dialogue(replace(PIPELINED, dsn=True), replace(batch(), envid="a\rb")).transaction) == [Rejected]


# What the provider lacks


@pytest.mark.parametrize(
    ("features", "mail", "enhanced"),
    [
        (Features(size=33), batch(), "5.3.4"),
        (Features(smtp_utf8=True), batch(eight_bit=True), "5.6.3"),
        (Features(eight_bit_mime=True), batch("ü@example.net"), "5.6.7"),
        (Features(eight_bit_mime=True), batch(sender="ü@example.com"), "5.6.7"),
        (Features(eight_bit_mime=True), batch("b@xn--\u00fc.example.net"), "5.6.7"),
    ],
)
def test_what_it_cannot_take(features: Features, mail: Batch, enhanced: str) -> None:
    """It is not asked; the reply is ours, and the connection is as good as before."""
    talk = dialogue(features, mail)
    assert talk.written == [b""]
    [outcome] = talk.transaction.outcomes
    assert isinstance(outcome, CannotTake)
    assert outcome.reply.enhanced == enhanced
    assert talk.ended == (True, True, False)
    again = dialogue(features, mail, reset=True)
    assert again.ended == (True, False, False)


@pytest.mark.parametrize("size", [None, 0, 34, 35])
def test_a_size_that_is_enough(size: int | None) -> None:
    """No SIZE, no limit, or one that is not passed."""
    assert dialogue(Features(size=size)).written[0].startswith(b"MAIL")


def test_one_recipient_that_it_cannot_take() -> None:
    """The others get the mail."""
    talk = dialogue(PIPELINED, batch("b@example.net", "ü@example.net", "c@example.net"))
    talk.hears("250 Ok", "250 Ok", "250 Ok", "354 Go", "250 Queued")
    assert talk.written[0].count(b"RCPT") == 2
    assert kinds(talk.transaction) == [Delivered, CannotTake, Delivered]


def test_international_addresses() -> None:
    """With SMTPUTF8 they go as they are, and MAIL says so; without it a domain goes as its A-label."""
    mail = batch("b@bücher.example.net", "c@xn--bcher-kva.example.net", sender="a@exämple.com")
    with_it = dialogue(Features(pipelining=True, smtp_utf8=True), mail).written[0].decode()
    assert "MAIL FROM:<a@exämple.com> SMTPUTF8\r\n" in with_it
    assert "RCPT TO:<b@bücher.example.net>\r\n" in with_it
    without = dialogue(PIPELINED, mail).written[0]
    assert without == (
        b"MAIL FROM:<a@xn--exmple-cua.com>\r\nRCPT TO:<b@xn--bcher-kva.example.net>\r\n"
        b"RCPT TO:<c@xn--bcher-kva.example.net>\r\nDATA\r\n"
    )
    ascii_mail = dialogue(Features(smtp_utf8=True), batch(eight_bit=False)).written[0]
    assert b"SMTPUTF8" not in ascii_mail


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("b@example.net", "b@example.net"),
        ("", ""),
        ("b@BÜCHER.example.net", "b@xn--bcher-kva.example.net"),
        ('"b@c"@bücher.example.net', '"b@c"@xn--bcher-kva.example.net'),
        ("ü@example.net", None),
        ("b@\u2028.example.net", None),
    ],
)
def test_in_ascii(address: str, expected: str | None) -> None:
    """Only a domain has an ASCII form."""
    assert in_ascii(address) == expected


# Refusals

REST = {PLAIN: (), PIPELINED: ("503 No", "503 No"), CHUNKED: ("503 No",), CHUNKED_IN_STEP: ()}
"""What follows a refused MAIL where more was said already."""


@pytest.mark.parametrize("features", WAYS)
@pytest.mark.parametrize(
    ("said", "kind"),
    [("452 4.5.3 Daily limit", Deferred), ("403 Not yours", Deferred), ("550 5.7.1 No", Rejected)],
)
def test_mail_refused(features: Features, said: str, kind: type[Outcome]) -> None:
    """All recipients share its fate, whatever is answered to what was said behind it."""
    talk = dialogue(features).hears(said, *REST[features])
    assert talk.transaction.outcomes == [kind(reply(said))]
    assert talk.ended[0]
    assert not any(CONTENT in octets for octets in talk.written)


@pytest.mark.parametrize("features", WAYS)
@pytest.mark.parametrize("said", ["502 5.7.0 Please authenticate", "530 5.7.0 Login first", "501 What?"])
def test_mail_refused_for_our_session(features: Features, said: str) -> None:
    """The provider's fault, and the connection is of no use."""
    talk = dialogue(features).hears(said)
    assert talk.transaction.outcomes == [ProviderFault(reply(said))]
    assert not talk.ended[0]


@pytest.mark.parametrize("features", WAYS)
@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("before", [0, 1])
def test_421(features: Features, carried: bool, before: int) -> None:
    """It ends the connection wherever it comes; that is a fault only of one that has not carried mail."""
    talk = dialogue(features, carried=carried).hears(*["250 Ok"] * before, "421 4.3.2 Going down")
    assert kinds(talk.transaction) == [Retired if carried else ProviderFault]
    assert talk.ended == (False, False, True)


def test_each_recipient_has_its_own() -> None:
    """Refused, deferred, over the limit and accepted: the mail goes to the accepted ones."""
    mail = batch(*[f"r{number}@example.net" for number in range(5)])
    for features in WAYS:
        talk = dialogue(features, mail).hears(
            "250 Ok",
            "254 4.7.1 Suppression for user u1",
            "550 5.1.1 No such user",
            "451 4.3.0 Later",
            "251 Will forward",
            "452 #4.5.3 Too many recipients.",
            *(() if features.chunking else ("354 Go",)),
            "250 2.0.0 Queued",
        )
        assert kinds(talk.transaction) == [Delivered, Rejected, Deferred, Delivered, OverLimit]
        assert talk.ended == (True, True, False)


def test_the_dot_is_for_the_accepted() -> None:
    """Its refusal leaves what RCPT said of the others."""
    talk = dialogue(PIPELINED, batch("b@example.net", "c@example.net"))
    talk.hears("250 Ok", "250 Ok", "550 5.1.1 No", "354 Go", "451 4.3.0 Full")
    assert kinds(talk.transaction) == [Deferred, Rejected]
    assert talk.ended == (True, False, False)


@pytest.mark.parametrize(
    ("features", "rest", "last"),
    [
        (PLAIN, (), b"RCPT TO:<b@example.net>\r\n"),
        (PIPELINED, ("503 5.5.1 No recipients",), b"DATA\r\n"),
        (PIPELINED, ("554 No valid recipients",), b"DATA\r\n"),
        (PIPELINED, ("354 Go", "554 No valid recipients"), b".\r\n"),
        (PIPELINED, ("354 Go", "250 Queued for nobody"), b".\r\n"),
        (CHUNKED, (), b"RCPT TO:<b@example.net>\r\n"),
        (CHUNKED_IN_STEP, (), b"RCPT TO:<b@example.net>\r\n"),
    ],
)
def test_nobody_accepted(features: Features, rest: Sequence[str], last: bytes) -> None:
    """No content leaves; DATA that was said ahead and is taken is ended at once (RFC 2920, 3.1)."""
    talk = dialogue(features).hears("250 Ok", "550 5.1.1 No", *rest)
    assert talk.transaction.outcomes == [Rejected(reply("550 5.1.1 No"), final=True)]
    assert talk.written[-1].endswith(last)
    usable, clean, cut = talk.ended
    assert usable
    assert not cut
    assert clean == (rest[-1:] == ("250 Queued for nobody",))


@pytest.mark.parametrize("features", [PLAIN, PIPELINED])
@pytest.mark.parametrize(("said", "kind"), [("451 Later", Deferred), ("550 5.7.0 Too fast", Rejected)])
def test_data_refused(features: Features, said: str, kind: type[Outcome]) -> None:
    """For whom was accepted; RSET clears what is left."""
    talk = dialogue(features).hears("250 Ok", "250 Ok", said)
    assert kinds(talk.transaction) == [kind]
    assert talk.ended == (True, False, False)


@pytest.mark.parametrize("features", WAYS)
@pytest.mark.parametrize(
    ("said", "kind", "usable"),
    [
        ("451 4.3.0 Later", Deferred, True),
        ("550-5.4.5 Daily limit", Rejected, True),
        ("535 5.7.8 Who are you", ProviderFault, False),
        ("421 4.3.2 Going down", Deferred, False),
    ],
)
def test_the_end_refused(features: Features, said: str, kind: type[Outcome], usable: bool) -> None:
    """The reply to the content settles it."""
    data = () if features.chunking else ("354 Go",)
    talk = dialogue(features).hears("250 Ok", "250 Ok", *data, said.replace("550-", "550 "))
    assert kinds(talk.transaction) == [kind]
    assert talk.ended[:2] == (usable, False)


@pytest.mark.parametrize(("said", "kind"), [("552 5.3.4 Too big", Rejected), ("451 4.3.0 Full", Deferred)])
@pytest.mark.parametrize("features", WAYS)
def test_refused_while_it_leaves(features: Features, said: str, kind: type[Outcome]) -> None:
    """The code counts, and the connection is cut: nothing else stops the content."""
    mail = batch(body=b"x" * IN_ONE_PIECE)
    talk = dialogue(features, mail).hears("250 Ok", "250 Ok", *(() if features.chunking else ("354 Go",)))
    assert talk.transaction.streams
    assert talk.written[-1].startswith(b"BDAT 65552 LAST") == features.chunking
    talk.hears(said)
    assert kinds(talk.transaction) == [kind]
    assert talk.ended == (False, False, True)
    assert not talk.transaction.streams


# Replies that do not fit


@pytest.mark.parametrize(
    ("stage", "good", "bad"),
    [
        (Stage.MAIL, ("250", "451", "550", "421"), ("354", "334")),
        (Stage.RCPT, ("250", "254", "451"), ("354",)),
        (Stage.DATA, ("354", "451", "550"), ("250", "334", "355")),
        (Stage.BODY, ("451", "552"), ("250", "354")),
        (Stage.DOT, ("250", "254", "451"), ("354",)),
    ],
)
def test_fits(stage: Stage, good: Sequence[str], bad: Sequence[str]) -> None:
    """A refusal may come anywhere; another reply only where it is due, and no reply nowhere."""
    transaction = Transaction(batch(), PIPELINED)
    transaction.stage = stage
    assert [transaction.fits(reply(code)) for code in good] == [True] * len(good)
    assert [transaction.fits(reply(code)) for code in bad] == [False] * len(bad)
    assert not transaction.fits(LOST)


# The connection is lost


@pytest.mark.parametrize("features", WAYS)
@pytest.mark.parametrize("carried", [False, True])
def test_lost_before_the_end(features: Features, carried: bool) -> None:
    """A fault wherever it happens, but for a connection that was found dead when it was used again."""
    said = ("250 Ok", "250 Ok") if features.chunking else ("250 Ok", "250 Ok", "354 Go")
    for heard in range(len(said) + 1):
        talk = dialogue(features, carried=carried).hears(*said[:heard])
        if talk.transaction.stage is Stage.DOT:
            talk.transaction.stage = Stage.BODY
        talk.transaction.lose(LOST, closed=True, left=False, first=True)
        assert kinds(talk.transaction) == [Retired if carried and not heard else ProviderFault]
        assert not talk.ended[0]


@pytest.mark.parametrize("features", WAYS)
@pytest.mark.parametrize("first", [False, True])
def test_lost_behind_the_end(features: Features, first: bool) -> None:
    """Uncertain, for those that were accepted; the others had their answer."""
    talk = dialogue(features, batch("b@example.net", "c@example.net"))
    talk.hears("250 Ok", "250 Ok", "550 5.1.1 No", *(() if features.chunking else ("354 Go",)))
    talk.transaction.lose(LOST, closed=True, left=True, first=first)
    assert talk.transaction.outcomes == [Uncertain(LOST), Rejected(reply("550 5.1.1 No"), final=True)]


@pytest.mark.parametrize("heard", [0, 1, 2, 3])
def test_a_whole_one_lost(heard: int) -> None:
    """If its chunk had left, what was not answered is uncertain; if not, it is sent again and that is all."""
    said = ["250 Flushed", "250 Ok", "550 5.1.1 No"][:heard]
    for left, kind in ((True, Uncertain), (False, Retired)):
        talk = Dialogue(Transaction(batch("b@example.net", "c@example.net"), CHUNKED, reset=True, whole=True))
        talk.hears(*said)
        talk.transaction.lose(LOST, closed=True, left=left, first=False)
        expected = [Rejected, kind] if heard == 3 else [kind, kind]
        assert kinds(talk.transaction) == expected


def test_a_whole_one_refused() -> None:
    """It hears the replies to all that it said, and the connection goes on unless the fault is ours."""
    whole = Transaction(batch(), CHUNKED, reset=True, whole=True)
    talk = Dialogue(whole).hears("250 Flushed", "451 4.3.0 Later", "503 No", "503 No")
    assert kinds(whole) == [Deferred]
    assert talk.ended == (True, False, False)
    fault = Transaction(batch("b@example.net", "c@example.net"), CHUNKED, reset=True, whole=True)
    talk = Dialogue(fault).hears("250 Flushed", "250 Ok", "530 Login first", "503 No", "503 No")
    assert kinds(fault) == [ProviderFault, ProviderFault]
    assert talk.ended == (False, False, False)


def test_retired() -> None:
    """Who waits behind a 421 was not heard; what it knows already stays."""
    talk = Dialogue(Transaction(batch("b@example.net", "c@example.net"), CHUNKED, whole=True))
    talk.hears("250 Ok", "550 5.1.1 No")
    talk.transaction.retire(reply("421 Bye"))
    assert kinds(talk.transaction) == [Rejected, Retired]


# Whatever is said

ANSWERS = ["250 Ok", "354 Go", "451 Later", "452 4.5.3 Enough", "550 5.1.1 No", "530 Login", "421 Bye", "503 Bad order"]


@given(
    st.sampled_from(WAYS),
    st.booleans(),
    st.integers(1, 4),
    st.lists(st.sampled_from(ANSWERS), max_size=10),
    st.booleans(),
)
def test_any_dialogue(features: Features, whole: bool, count: int, said: list[str], left: bool) -> None:
    """Every recipient gets one outcome, the content leaves only for somebody, and nothing is said after the end."""
    whole = whole and features is CHUNKED
    mail = batch(*[f"r{number}@example.net" for number in range(count)])
    transaction = Transaction(mail, features, whole=whole, reset=whole)
    written = [transaction.begin()]
    for each in said:
        if transaction.over or not transaction.fits(reply(each)):
            break
        written.append(transaction.receive(reply(each)))
        if transaction.stage is Stage.BODY:
            transaction.stage = Stage.DOT
    if not transaction.over:
        transaction.lose(LOST, closed=True, left=left, first=True)
    assert None not in transaction.outcomes
    sent = b"".join(written)
    assert sent.count(BODY[:12]) <= 1
    if Delivered in kinds(transaction):
        assert BODY[:12] in sent
        assert transaction.usable
        assert transaction.clean
