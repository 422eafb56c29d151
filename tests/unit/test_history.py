"""History: what the plots are made of, in slots of a second and of a minute."""

from __future__ import annotations

from math import isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.http.figures import Queue
from relay.http.history import AT_ONCE, GRAINS, SERIES, Counted, Delays, Excerpt, History

BEGUN = 1700000040.7  # a minute begins at 1700000040
WALL = 1700003640.7


def told(seconds: int, each: int = 1) -> History:
    """Of so many seconds, in each of which `each` mails were taken and delivered."""
    history = History(BEGUN, WALL)
    for second in range(1, seconds + 1):
        history.took(2.0)
        history.sample(BEGUN + second, WALL + second, Counted(each * second, each * second, 0), Queue(ready=second))
    return history


def column(excerpt: Excerpt, name: str) -> list[float | None]:
    """With None for a gap."""
    return [None if isnan(value) else value for value in excerpt.columns[name]]


def test_a_start() -> None:
    """Nothing is known, and nothing is made up."""
    for step in GRAINS:
        excerpt = History(BEGUN, WALL).after(step, 0)

        assert not excerpt.more
        assert set(excerpt.columns) == set(SERIES)
        assert not any(excerpt.columns.values())


def test_seconds() -> None:
    """Rates of the slot, levels at its end, and the place of each in time by the system's clock."""
    excerpt = told(3, each=5).after(1, 0)

    assert (excerpt.first, excerpt.offset) == (1700000041, 3600.0)
    assert column(excerpt, "accepted") == column(excerpt, "delivered") == [5, 5, 5]
    assert column(excerpt, "failed") == [0, 0, 0]
    assert column(excerpt, "ready") == [1, 2, 3]
    assert column(excerpt, "p50") == column(excerpt, "p99") == [pytest.approx(2, rel=0.2)] * 3


def test_minutes() -> None:
    """A minute is there once it has ended; of the first one only a part was seen, and its rate is that part's."""
    history = History(BEGUN + 50, WALL)
    for second in range(1, 131):
        history.sample(BEGUN + 50 + second, WALL, Counted(6 * second, 0, 0), Queue(held=second))
    excerpt = history.after(60, 0)

    assert excerpt.first * 60 == 1700000100
    assert column(excerpt, "accepted") == [6, 6, 6]
    assert column(excerpt, "held") == [10, 70, 130]
    assert column(excerpt, "p50") == [None, None, None]


def test_calls_that_come_late() -> None:
    """Each is in its own slot, and none is left out, however the calls fall about the edge of a second."""
    history = History(100.99, 100.99)
    for second in range(1, 50):
        history.sample(100.99 + second + (0.03 if second % 2 else 0.0), 0, Counted(second, 0, 0), Queue())
    excerpt = history.after(1, 0)

    assert column(excerpt, "accepted") == [1] * 49
    assert column(excerpt, "ready") == [0] * 49


def test_a_process_that_stood_still() -> None:
    """What was counted is spread over the time; what was not seen is a gap."""
    history = told(2)
    history.sample(BEGUN + 6, WALL + 6, Counted(10, 2, 0), Queue(ready=9))
    excerpt = history.after(1, 0)

    assert column(excerpt, "accepted") == [1, 1, 2, 2, 2, 2]
    assert column(excerpt, "ready") == [1, 2, None, None, None, 9]


def test_a_second_call_in_a_slot() -> None:
    """Changes nothing, and loses nothing."""
    history = told(2)
    history.took(2.0)
    history.sample(BEGUN + 2.1, WALL, Counted(100, 2, 0), Queue())
    history.sample(BEGUN + 3, WALL, Counted(100, 2, 0), Queue())
    excerpt = history.after(1, 0)

    assert column(excerpt, "accepted") == [1, 1, 98]
    assert column(excerpt, "p50")[2] is not None


def test_a_ring_that_is_full() -> None:
    """The oldest go; the arrays do not grow."""
    history = told(GRAINS[1] + 100)
    size = sum(len(each) for each in history._grains[1]._columns.values())
    first = history.after(1, 0)
    second = history.after(1, first.first + AT_ONCE - 1)

    assert size == GRAINS[1] * len(SERIES)
    assert (first.more, second.more) == (True, False)
    assert column(first, "ready") + column(second, "ready") == list(range(101, GRAINS[1] + 101))


def test_a_page_that_goes_on() -> None:
    """It is given what is new; what it knows of another life is no place to go on from."""
    history = told(10)
    last = history.after(1, 0).first + 9

    assert column(history.after(1, last), "ready") == []
    assert column(history.after(1, last - 2), "ready") == [9, 10]
    for strange in (0, -5, last + 1, 10**12):
        assert column(history.after(1, strange), "ready") == list(range(1, 11))


def test_a_clock_that_is_set() -> None:
    """The slots go on; they stand where the clock now says they were."""
    history = told(2)
    history.sample(BEGUN + 3, WALL - 1000, Counted(3, 3, 0), Queue(ready=3))

    assert history.after(1, 0).offset == 2597.0
    assert column(history.after(1, 0), "ready") == [1, 2, 3]


def test_a_step_that_is_not_kept() -> None:
    with pytest.raises(KeyError):
        told(1).after(5, 0)


@given(st.lists(st.floats(0.001, 800_000), min_size=1), st.sampled_from([0.5, 0.99]))
def test_quantiles(seconds: list[float], part: float) -> None:
    """Never below the true one, and a fifth above it at most."""
    delays = Delays()
    for each in seconds:
        delays.add(each)
    true = sorted(seconds)[max(-int(-part * len(seconds) // 1), 1) - 1]

    assert true <= delays.quantile(part) <= true * 1.2


def test_quantiles_of_extremes() -> None:
    """Nothing has none; what is beyond the histogram is at its end."""
    delays = Delays()

    assert isnan(delays.quantile(0.5))
    delays.add(0.0)
    assert delays.quantile(0.5) == 0.001
    delays.add(1e9)
    assert delays.quantile(0.99) > 9e5
