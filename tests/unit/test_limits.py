"""The sliding window of one client's mails, and the hour of one address's reports."""

from hypothesis import given
from hypothesis import strategies as st

from relay.limits import HOUR, Quota, Window

STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 0.5, 1.0, 2.5, 7.0, 60.0])), max_size=80)


@given(st.integers(1, 5), st.sampled_from([1.0, 3.0, 10.0]), STEPS)
def test_it_agrees_with_a_list_that_forgets_nothing(messages: int, per: float, steps: list[tuple[str, float]]) -> None:
    """A mail is allowed if, and only if, fewer than `messages` of its key were counted in the last `per` seconds."""
    window = Window(messages, per)
    taken: list[tuple[str, float]] = []
    now = 1000.0
    for key, pause in steps:
        now += pause
        allowed = sum(1 for other, when in taken if other == key and when > now - per) < messages
        assert window.allows(key, now) == allowed
        assert window.take(key, now) == allowed
        if allowed:
            taken.append((key, now))


def test_the_window_slides() -> None:
    """No burst of twice the limit at the edge of two fixed windows."""
    window = Window(2, 60)
    window.count("127.0.0.1", 59)
    window.count("127.0.0.1", 59)
    assert not window.allows("127.0.0.1", 61)
    assert not window.allows("127.0.0.1", 118)
    assert window.allows("127.0.0.1", 119)


def test_asking_counts_nothing() -> None:
    """A mail that was refused, for this reason or another one, is not counted."""
    window = Window(1, 60)
    for _ in range(5):
        assert window.allows("a", 0)
    assert len(window) == 0


def test_zero_messages_switch_it_off() -> None:
    """Nothing is bounded and nothing is kept."""
    window = Window(0, 60)
    for _ in range(100):
        assert window.allows("a", 0)
        window.count("a", 0)
    assert len(window) == 0


def test_a_window_of_no_length_bounds_nothing() -> None:
    """Zero seconds hold no mail."""
    window = Window(1, 0)
    window.count("a", 5)
    assert window.allows("a", 5)


def test_quiet_keys_are_forgotten() -> None:
    """Memory is bounded by the window, not by how many senders there ever were."""
    window = Window(10, 60)
    for second in range(10_000):
        window.count(f"sender{second}@example.com", second)
    assert len(window) <= 120


def test_one_key_keeps_no_more_than_its_window() -> None:
    """A client that keeps to its limit costs that many times."""
    window = Window(3, 10)
    for second in range(1000):
        if window.allows("a", second):
            window.count("a", second)
    assert not window.allows("a", 992)


def test_the_first_reports_of_an_hour_go_at_once_and_the_others_become_one_digest() -> None:
    """An hour after the first, whatever the case of the address; other addresses are not concerned."""
    quota = Quota(2)
    assert [quota.admit(address, now) for address, now in (("a@x.example", 100), ("A@X.example", 200))] == [None, None]
    assert [quota.admit("a@x.example", now) for now in (300, 3699)] == [3700, 3700]
    assert quota.admit("b@x.example", 301) is None


def test_a_new_hour_begins_with_the_next_report() -> None:
    """Not with the digest, and not with the clock's hour."""
    quota = Quota(1)
    assert quota.admit("a@x.example", 100) is None
    assert quota.admit("a@x.example", 3700) is None
    assert quota.admit("a@x.example", 3701) == 7300


def test_with_none_an_hour_all_wait_for_the_digest() -> None:
    """Zero has a meaning."""
    quota = Quota(0)
    assert [quota.admit("a@x.example", now) for now in (100, 200)] == [3700, 3700]


def test_a_restart_does_not_begin_a_new_hour() -> None:
    """`hours` is all there is to remember."""
    quota = Quota(1)
    quota.admit("a@x.example", 100)
    assert Quota(1, quota.hours).admit("a@x.example", 200) == 3700


def test_addresses_without_reports_are_forgotten() -> None:
    """Memory is bounded by the last two hours."""
    quota = Quota(1)
    for second in range(0, 1_000_000, 100):
        quota.admit(f"a{second}@x.example", second)
    assert len(quota.hours) <= 2 * HOUR / 100 + 1
