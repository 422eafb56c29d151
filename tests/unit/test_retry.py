"""When a deferred mail is tried again, when it is given up, when its sender is told."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.retry import Retry, delay_warning_due

RETRY = Retry(schedule=(60, 300, 900, 1800), interval=3600, jitter=0.2, max_age=432000)


def middle(low: float, high: float) -> float:
    return (low + high) / 2


@pytest.mark.parametrize(
    ("attempts", "wait"), [(1, 60), (2, 300), (3, 900), (4, 1800), (5, 3600), (6, 3600), (999, 3600)]
)
def test_the_schedule_comes_first_and_then_every_interval(attempts: int, wait: float) -> None:
    """The n-th wait of the schedule follows the n-th attempt."""
    assert RETRY.delay(attempts, middle) == wait


def test_an_empty_schedule_leaves_the_interval() -> None:
    """A schedule may have no steps."""
    assert Retry((), 7, 0, 60).delay(1, random.uniform) == 7


@given(st.integers(1, 20), st.floats(0, 1), st.integers(0))
def test_a_wait_stays_within_its_jitter(attempts: int, jitter: float, seed: int) -> None:
    """Each wait is its step times a number between 1 - jitter and 1 + jitter."""
    exact = Retry(RETRY.schedule, RETRY.interval, 0, RETRY.max_age).delay(attempts, middle)
    wait = Retry(RETRY.schedule, RETRY.interval, jitter, RETRY.max_age).delay(attempts, random.Random(seed).uniform)
    assert exact * (1 - jitter) - 1e-6 <= wait <= exact * (1 + jitter) + 1e-6


def test_without_jitter_no_dice_are_thrown() -> None:
    """A wait without jitter is exact."""

    def unwanted(low: float, high: float) -> float:
        raise AssertionError

    assert Retry((1,), 1, 0, 60).delay(1, unwanted) == 1


def test_a_mail_expires_only_after_an_attempt_that_began_past_its_age() -> None:
    """An outage, or a night switched off, never bounces anything."""
    assert not RETRY.expired(RETRY.max_age - 1, counted=True)
    assert not RETRY.expired(RETRY.max_age * 9, counted=False)
    assert RETRY.expired(RETRY.max_age, counted=True)


def test_a_max_age_of_zero_means_one_attempt() -> None:
    """Zero is allowed where it has a meaning."""
    assert Retry((1,), 1, 0, 0).expired(0.0, counted=True)


def test_the_warning_comes_once_and_not_before_its_time() -> None:
    """A delay warning is due when the mail is that old and none was sent."""
    assert not delay_warning_due(14399, 14400, warned=False)
    assert delay_warning_due(14400, 14400, warned=False)
    assert not delay_warning_due(99999, 14400, warned=True)


def test_zero_means_no_warning() -> None:
    """`delay_warning = "0s"` switches it off."""
    assert not delay_warning_due(99999, 0, warned=False)
