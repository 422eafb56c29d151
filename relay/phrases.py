"""Phrases: numbers and lengths of time as people say them."""

from __future__ import annotations


def many(count: int, noun: str) -> str:
    """A number and what it counts.

    >>> many(1, "recipient"), many(2, "recipient")
    ('1 recipient', '2 recipients')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def times(count: int) -> str:
    """How often.

    >>> times(1), times(3)
    ('once', '3 times')
    """
    return {0: "not at all", 1: "once", 2: "twice"}.get(count, f"{count} times")


def span(seconds: float) -> str:
    """A length of time as people say it, in at most two units.

    >>> span(0.2), span(59.6), span(3700), span(200_000)
    ('0 s', '1 min', '1 h 1 min', '2 d 7 h')
    """
    whole = max(round(seconds), 0)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
