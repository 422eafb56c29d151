"""A provider that refuses everything: when refusals stop being bounces, when it is paused, who tries it again."""

from hypothesis import given
from hypothesis import strategies as st

from relay.envelope import Envelope, Recipient
from relay.outcome import CannotTake, Deferred, Delivered, ProviderFault, Rejected, Uncertain
from relay.reply import Reply, no_reply
from relay.upstream.brake import BRAKED, FREE, PAUSED, TRIAL_INTERVAL, Brake

TAKEN = Delivered(Reply(250, "2.0.0", ("Ok",)))
REFUSED = Rejected(Reply(550, "5.7.1", ("Account suspended",)))
NO_MAILBOX = Rejected(Reply(550, "5.1.1", ("No such user",)), final=True)
LATER = Deferred(Reply(451, "4.7.1", ("Greylisted",)))


def mail(key: int, sender: str = "app@example.com", report: bool = False) -> Envelope:
    return Envelope(key, f"uuid-{key}", sender, (Recipient("b@example.net"),), 0.0, 100, report=report)


def refused(mails: int, brake: Brake = FREE, first: int = 1) -> Brake:
    for key in range(first, first + mails):
        brake = brake.after(mail(key), [REFUSED], float(key))
    return brake


def test_five_refusals_bounce_and_the_sixth_is_deferred() -> None:
    """The brake as it stands before a refusal says what becomes of it."""
    brake = FREE
    deferred = []
    for key in range(1, 9):
        deferred.append(brake.braked)
        brake = brake.after(mail(key), [REFUSED], 0)
    assert deferred == [False] * 5 + [True] * 3
    assert not brake.paused


def test_the_twentieth_pauses() -> None:
    """Twenty mails in a row."""
    assert not refused(PAUSED - 1).paused
    assert refused(PAUSED).paused


def test_a_mail_that_is_taken_frees_it() -> None:
    """One recipient is enough, whatever happened to the others."""
    assert refused(30).after(mail(31), [NO_MAILBOX, REFUSED, TAKEN], 0) is FREE
    assert FREE.after(mail(1), [TAKEN], 0) is FREE


def test_the_same_mail_counts_once() -> None:
    """Mails are counted: one that is tried on because another provider deferred it says nothing new."""
    brake = FREE
    for now in range(50):
        brake = brake.after(mail(1), [REFUSED], now)
    assert not brake.braked


def test_what_is_no_refusal_of_the_provider_counts_neither_way() -> None:
    """No such mailbox, a deferral, trouble of the connection, a missing extension."""
    brake = refused(BRAKED)
    reply = no_reply("lost")
    for outcome in (NO_MAILBOX, LATER, ProviderFault(reply), Uncertain(reply), CannotTake(reply)):
        assert brake.after(mail(99), [outcome], 0) is brake


def test_one_refusal_among_deferrals_counts() -> None:
    """Any 5xx, where no recipient was taken."""
    assert len(FREE.after(mail(1), [LATER, NO_MAILBOX, REFUSED], 0).refused) == 1


def test_our_own_reports_count_neither_way() -> None:
    """A report that is refused is no sign, and one that is taken no proof; and none of them is a trial."""
    brake = refused(PAUSED)
    assert brake.after(mail(99, "", report=True), [TAKEN], 0) is brake
    assert FREE.after(mail(99, "", report=True), [REFUSED], 0) is FREE
    assert brake.choose([mail(99, "", report=True)], 1e9) is None


def test_the_first_mail_of_another_sender_is_a_trial_at_once() -> None:
    """The refused one may be the sender and not the account; an address is compared without case."""
    brake = refused(PAUSED)
    other = mail(50, "other@example.com")
    assert brake.choose([mail(40), mail(41, "APP@Example.com"), other, mail(51, "third@example.com")], 21) == other
    brake = brake.trying(other, 21).after(other, [REFUSED], 22)
    assert brake.choose([mail(40), mail(52, "other@example.com")], 23) is None


def test_else_there_is_one_trial_every_ten_minutes_and_each_time_another_mail() -> None:
    """So one mail that really is bad does not keep the provider paused."""
    brake = refused(PAUSED)
    waiting = [mail(40), mail(41), mail(42)]
    assert brake.choose(waiting, PAUSED + TRIAL_INTERVAL - 1) is None
    now, chosen = float(PAUSED), []
    for _ in range(5):
        now += TRIAL_INTERVAL
        envelope = brake.choose(waiting, now)
        assert envelope is not None
        chosen.append(envelope.key)
        brake = brake.trying(envelope, now).after(envelope, [REFUSED], now + 1)
        assert brake.choose(waiting, now + 1) is None
    assert chosen == [40, 41, 42, 40, 41]


def test_a_trial_that_was_deferred_is_followed_by_another_mail() -> None:
    """A 4xx is no refusal, so the trial itself is remembered."""
    brake = refused(PAUSED).trying(mail(40), 1000).after(mail(40), [LATER], 1001)
    assert brake.choose([mail(40), mail(41)], 1000 + TRIAL_INTERVAL) == mail(41)


def test_a_mail_that_was_never_refused_there_tells_more() -> None:
    """Those that were refused before the pause come after the others."""
    assert refused(PAUSED).choose([mail(7), mail(40)], 9999) == mail(40)


def test_a_thousand_senders_make_no_thousand_trials() -> None:
    """What is remembered is bounded; from then on nobody counts as new."""
    brake = FREE
    for key in range(1000):
        brake = brake.after(mail(key, f"bounce+{key}@example.com"), [REFUSED], key)
        brake = brake.trying(mail(key), key)
    assert brake.choose([mail(2000, "new@example.com")], 1000) is None
    assert len(brake.dump()) < 20000


@given(st.integers(0, 30), st.lists(st.integers(1, 99)), st.floats(0, 1e9))
def test_it_survives_a_restart(mails: int, trials: list[int], now: float) -> None:
    """What is written is what is read."""
    brake = refused(mails)
    for key in trials:
        brake = brake.trying(mail(key), now)
    assert Brake.load(brake.dump()) == brake


@given(st.text() | st.sampled_from(["", "[]", "{}", "[1, 2, 3]", '[[["x", 1]], [], 0]', "[[], [], null]"]))
def test_text_that_makes_no_sense_is_a_free_brake(text: str) -> None:
    """A damaged row keeps nobody from starting."""
    assert isinstance(Brake.load(text), Brake)
