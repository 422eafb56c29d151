"""A provider's breaker: every cell of its table, when it is probed, how much mail it gets."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.upstream.breaker import AFTER_AUTH, FULL, Breaker, Probes

PROBES = Probes(first=15, longest=600)
PAGE = Path(__file__).parents[2] / "docs" / "design" / "breaker.md"

WAYS: dict[str, Callable[[Breaker], object]] = {
    "fault": lambda breaker: breaker.fault(1, "refused"),
    "succeeded": lambda breaker: breaker.succeeded(1),
    "connected": lambda breaker: breaker.connected(1),
    "answered": lambda breaker: breaker.answered(1),
    "probe_due": lambda breaker: breaker.probe_due(1),
    "pause": lambda breaker: breaker.pause(1, "550 suspended"),
    "release": lambda breaker: breaker.release(1),
}
REACHED_BY = {
    "up": [],
    "down": ["fault"],
    "probing": ["fault", "probe_due"],
    "paused": ["pause"],
    "trial": ["pause", "probe_due"],
}


def table() -> dict[str, dict[str, str]]:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}


TABLE = table()


def breaker_in(state: str) -> Breaker:
    breaker = Breaker(PROBES, 0)
    for way in REACHED_BY[state]:
        WAYS[way](breaker)
    return breaker


def looks(breaker: Breaker) -> tuple[str, str]:
    connections = breaker.allowance if breaker.state != "up" else "growing"
    return breaker.state, str(connections)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", TABLE)
def test_every_cell_of_the_table(state: str, way: str) -> None:
    """docs/design/breaker.md says where each input leads from each state; no input is unexpected anywhere."""
    breaker = breaker_in(state)
    assert looks(breaker) == (TABLE[state]["shown as"], TABLE[state]["connections"])
    before = breaker.state
    turned = WAYS[way](breaker)
    wanted = TABLE[TABLE[state][way]]
    assert looks(breaker) == (wanted["shown as"], wanted["connections"])
    assert turned == (breaker.state != before and {before, breaker.state} != {"down", "probing"})


def test_a_new_provider_is_up_and_unbounded() -> None:
    """Nothing is known against it."""
    breaker = Breaker(PROBES, 7)
    assert (breaker.state, breaker.since, breaker.allowance) == ("up", 7, FULL)
    assert breaker.last_error == ""
    assert breaker.probe_at is None


def test_probes_double_up_to_the_longest_wait() -> None:
    """15 s after the fault, then 30, 60, … 600, 600; `since` is the first fault's time."""
    breaker = Breaker(PROBES, 0)
    now = 100.0
    breaker.fault(now, "refused")
    waits = []
    for _ in range(8):
        assert breaker.probe_at is not None
        waits.append(breaker.probe_at - now)
        now = breaker.probe_at
        breaker.probe_due(now)
        assert breaker.probe_at is None
        now += 1
        breaker.fault(now, "refused again")
    assert waits == [15, 30, 60, 120, 240, 480, 600, 600]
    assert (breaker.since, breaker.last_error) == (100, "refused again")


def test_a_refused_login_waits_five_minutes_before_its_first_probe() -> None:
    """More tries might lock the account (whatever `probe_max` is); a person may ask for one at once."""
    breaker = Breaker(Probes(1, 2), 0)
    breaker.fault(10, "535 5.7.8 Bad credentials", auth=True)
    assert breaker.probe_at == 10 + AFTER_AUTH
    breaker.release(11)
    assert breaker.state == "probing"


def test_a_login_refused_on_another_connection_puts_the_probe_off() -> None:
    """The pool's other connections may meet it after the provider is down already."""
    breaker = Breaker(PROBES, 0)
    breaker.fault(10, "timed out")
    breaker.fault(11, "535 5.7.8 Bad credentials", auth=True)
    assert (breaker.probe_at, breaker.last_error) == (311, "535 5.7.8 Bad credentials")


def test_ten_connections_that_fail_together_are_one_fault() -> None:
    """One outage, one wait."""
    breaker = Breaker(PROBES, 0)
    assert [breaker.fault(10 + n / 10, "lost") for n in range(10)] == [True] + [False] * 9
    assert breaker.probe_at == 25


def test_a_provider_that_flaps_is_probed_ever_more_rarely() -> None:
    """Letting us in proves nothing: only a mail that was taken makes the waits begin anew."""
    breaker = Breaker(PROBES, 0)
    breaker.fault(0, "421")
    waits = []
    for _ in range(4):
        now = breaker.probe_at or 0
        breaker.probe_due(now)
        breaker.connected(now)
        assert (breaker.state, breaker.allowance) == ("up", 1)
        breaker.fault(now, "421")
        waits.append((breaker.probe_at or 0) - now)
    assert waits == [30, 60, 120, 240]
    breaker.release(9000)
    breaker.succeeded(9000)
    breaker.fault(9001, "421")
    assert breaker.probe_at == 9016


def test_a_moment_of_being_up_does_not_interrupt_an_outage() -> None:
    """Whoever asks how long it has been down (an alert) is not told that it has just begun, again and again."""
    breaker = Breaker(PROBES, 0)
    breaker.fault(100, "421")
    for _ in range(5):
        now = breaker.probe_at or 0
        breaker.probe_due(now)
        breaker.connected(now + 1)
        assert breaker.since == now + 1
        breaker.fault(now + 2, "421")
        assert breaker.since == 100
    now = breaker.probe_at or 0
    breaker.probe_due(now)
    breaker.connected(now + 1)
    breaker.fault(now + 9999, "421")
    assert breaker.since == now + 9999
    breaker.release(20000)
    breaker.succeeded(20001)
    breaker.fault(20002, "421")
    assert breaker.since == 20002


def test_an_outage_ends_with_a_mail_or_with_time() -> None:
    """Let in again, a provider has its outage behind it once a mail was taken, or it did not fail for as long again."""
    taken, quiet = Breaker(PROBES, 0), Breaker(PROBES, 0)
    for breaker in (taken, quiet):
        assert breaker.down_since(50) is None
        breaker.fault(100, "refused")
        breaker.probe_due(115)
        assert breaker.down_since(115) == 100
        breaker.connected(115)
        assert breaker.down_since(116) == 100

    taken.succeeded(116)

    assert taken.down_since(116) is None
    assert (quiet.down_since(130), quiet.down_since(131)) == (100, None)


def test_who_is_kept_down_by_a_refused_login() -> None:
    """It is so until we are let in, or a probe meets something else; a late fault of another connection is neither."""
    breaker = Breaker(PROBES, 0)
    breaker.fault(0, "535", auth=True)
    breaker.fault(1, "lost")
    assert breaker.login_refused

    breaker.probe_due(300)
    breaker.fault(301, "refused")
    assert not breaker.login_refused

    breaker.probe_due(900)
    breaker.fault(901, "535", auth=True)
    breaker.probe_due(1501)
    assert breaker.login_refused

    breaker.connected(1502)
    assert not breaker.login_refused


def test_mail_comes_back_by_doubling() -> None:
    """1, 2, 4, … connections, each of which carries a mail a round, and at last no bound."""
    breaker = Breaker(PROBES, 0)
    breaker.fault(0, "refused")
    breaker.probe_due(15)
    rounds = []
    while breaker.allowance != FULL:
        rounds.append(breaker.allowance)
        for _ in range(breaker.allowance):
            breaker.succeeded(16)
    assert rounds == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]


def test_a_transaction_that_ends_well_after_the_fault_brings_the_provider_back() -> None:
    """One connection of many may break; mail that is taken is the proof that it works."""
    breaker = Breaker(PROBES, 0)
    breaker.fault(10, "connection lost")
    assert breaker.succeeded(11)
    assert (breaker.state, breaker.since, breaker.probe_at, breaker.allowance) == ("up", 11, None, 2)


def test_three_connections_lost_behind_a_dot_in_a_row_are_a_fault() -> None:
    """One or two are not: the next may work (RFC 1047)."""
    breaker = Breaker(PROBES, 0)
    assert [breaker.lost(n, "lost behind the dot") for n in range(3)] == [False, False, True]
    assert (breaker.state, breaker.last_error) == ("down", "lost behind the dot")


@pytest.mark.parametrize("reply", [Breaker.succeeded, Breaker.answered])
def test_a_reply_to_a_mail_starts_that_count_again(reply: Callable[[Breaker, float], bool]) -> None:
    """In a row means that no dot was answered in between."""
    breaker = Breaker(PROBES, 0)
    for n in range(6):
        assert not breaker.lost(n, "lost")
        assert not breaker.lost(n, "lost")
        reply(breaker, n)
    assert breaker.state == "up"


def test_a_new_connection_is_no_reply_to_a_mail() -> None:
    """A provider that lets us in and is gone behind each dot goes down all the same."""
    breaker = Breaker(PROBES, 0)
    for n in range(3):
        breaker.connected(n)
        breaker.lost(n, "lost")
    assert breaker.state == "down"


def test_a_probe_that_is_lost_behind_its_dot_has_failed() -> None:
    """Nothing was proved, so the next one waits longer."""
    breaker = breaker_in("probing")
    breaker.lost(2, "lost")
    assert (breaker.state, breaker.probe_at) == ("down", 32)


def test_a_pause_lasts_until_a_mail_is_taken() -> None:
    """Neither a login nor a deferral nor a person's wish ends it: a mass bounce cannot be undone."""
    breaker = Breaker(PROBES, 0)
    assert breaker.pause(10, "550 5.7.1 Account suspended")
    breaker.release(20)
    assert (breaker.state, breaker.allowance) == ("paused", 1)
    breaker.answered(21)
    assert (breaker.state, breaker.allowance, breaker.since) == ("paused", 0, 10)
    breaker.probe_due(30)
    breaker.pause(31, "550 still suspended")
    assert (breaker.state, breaker.since, breaker.last_error) == ("paused", 10, "550 still suspended")
    breaker.probe_due(40)
    assert breaker.succeeded(41)
    assert (breaker.state, breaker.since) == ("up", 41)


def test_a_trial_that_meets_a_fault_is_put_off_as_a_probe_is() -> None:
    """A paused provider that cannot be reached is not tried with every mail that comes."""
    breaker = breaker_in("trial")
    breaker.fault(100, "refused")
    assert (breaker.state, breaker.probe_at) == ("paused", 115)


def test_new_probes_count_from_the_next_fault() -> None:
    """A reload changes the policy and nothing else."""
    breaker = Breaker(PROBES, 0)
    breaker.probes = Probes(1, 4)
    breaker.fault(10, "refused")
    assert (breaker.probes, breaker.probe_at) == (Probes(1, 4), 11)


def test_its_repr_says_what_an_operator_wants_to_know() -> None:
    """State, since when, how much."""
    assert repr(breaker_in("probing")) == "<Breaker probing since 1.000, allowance 1>"


class _AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, what the pool relies on holds."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(PROBES, self.now)

    @rule(seconds=st.floats(0, 1000))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(auth=st.booleans())
    def fault(self, auth: bool) -> None:
        self.breaker.fault(self.now, "fault", auth)
        assert self.breaker.state in ("down", "paused")

    @rule()
    def lost(self) -> None:
        self.breaker.lost(self.now, "lost")

    @rule()
    def succeeded(self) -> None:
        self.breaker.succeeded(self.now)
        assert self.breaker.state == "up"
        assert self.breaker.allowance >= 2

    @rule()
    def connected(self) -> None:
        was = self.breaker.state
        self.breaker.connected(self.now)
        assert (was == "paused") == (self.breaker.state == "paused")

    @rule()
    def answered(self) -> None:
        self.breaker.answered(self.now)
        assert self.breaker.state != "probing"

    @precondition(lambda self: self.breaker.probe_at is not None)
    @rule()
    def probe_due(self) -> None:
        self.now = max(self.now, self.breaker.probe_at or 0)
        self.breaker.probe_due(self.now)
        assert self.breaker.allowance == 1

    @rule()
    def pause(self) -> None:
        self.breaker.pause(self.now, "550")
        assert (self.breaker.state, self.breaker.allowance) == ("paused", 0)

    @rule()
    def release(self) -> None:
        self.breaker.release(self.now)
        assert self.breaker.allowance >= 1

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        """What is down has a time for its next probe, within the longest wait."""
        breaker = self.breaker
        assert (breaker.state == "down") <= (breaker.probe_at is not None)
        assert breaker.probe_at is None or breaker.probe_at <= self.now + max(PROBES.longest, AFTER_AUTH)
        assert (breaker.allowance == 0) <= (breaker.state in ("down", "paused"))
        assert breaker.since <= self.now


_AnyOrder.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnyOrder = _AnyOrder.TestCase
