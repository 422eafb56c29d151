"""The sliding window that bounds how many mails one client may hand in."""

from hypothesis import given
from hypothesis import strategies as st

from relay.limits import Window

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
