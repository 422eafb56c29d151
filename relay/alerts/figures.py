"""Figures: what alerts are decided by, as values of one moment. Durations and ages are seconds, sizes octets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """What of the configuration readings are judged by. `min_free` is the spool's."""

    check_interval: float
    backlog: int
    oldest: float
    min_free: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with one provider.

    up                whether it takes mail
    paused            whether it is paused for refusing everything
    down_for          for how long mail does not go through; 0.0 without an outage. A moment of being up, with no mail
                      taken in it, does not end one
    login_refused     whether its refusal of our login is why
    last_error        its words, or ours
    certificate_left  how long its certificate is still good, as was last seen; None if none was seen
    certificate_ends  when that ends, in seconds since the epoch
    """

    name: str
    up: bool = True
    paused: bool = False
    down_for: float = 0.0
    login_refused: bool = False
    last_error: str = ""
    certificate_left: float | None = None
    certificate_ends: float = 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """How it is.

    waiting     mails that are not delivered and not held
    backlog     those of them that only flow through left out
    oldest      age of the oldest of them; 0.0 if none waits
    undelivered for how long some waited all the time and none was delivered
    refusal     the provider and its words of the newest failure since the oldest one waits; "" where there is none
    free_bytes, free_inodes, all_inodes, total_bytes  of the spool's volume; no inodes in all: it counts none
    """

    waiting: int
    backlog: int
    oldest: float
    undelivered: float
    free_bytes: int
    total_bytes: int
    free_inodes: int
    all_inodes: int
    providers: Sequence[Standing] = ()
    refusal: tuple[str, str] = ("", "")
