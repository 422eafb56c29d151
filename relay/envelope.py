"""Envelope: who sent a mail, to whom, and under which id (RFC 5321, 2.3.1; the DSN parameters are RFC 3461's).

Addresses are `str`: an address that is not ASCII came as valid UTF-8 (RFC 6531), so text and octets convert without
loss. The null reverse-path `<>` is "".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_SEQUENCE_BITS = 20
_TAIL = 54
"""Random bits of an id."""

_TAILS = 64
"""Of how many ids they are drawn at once."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One forward-path, with what RFC 3461 says of it.

    `notify` holds a subset of NEVER, SUCCESS, FAILURE, DELAY in upper case, or is None where the client said nothing.
    `orcpt` is the ORCPT parameter's value as it was received ("rfc822;a+2Bb@example.net"), or "".
    """

    address: str
    notify: frozenset[str] | None = None
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is known of one mail besides its octets. Immutable from the moment it is acknowledged.

    key          the spool's integer for this mail; grows in the order in which mail is taken
    uuid         the id that users see; a UUID of version 7 that carries the key
    received_at  seconds since the epoch
    size         octets that a provider is sent, before dot-stuffing: the added header fields and the rest
    eight_bit    whether any of those octets is above 127 (needs 8BITMIME)
    ret, envid   RFC 3461's RET ("FULL", "HDRS" or "") and ENVID (as received, or "")
    client       who submitted it, for the log: an IP address, "uid:1000" or "" for our own reports
    report       whether we wrote it ourselves (a bounce, a warning): not counted among users' mail
    """

    key: int
    uuid: str
    sender: str
    recipients: tuple[Recipient, ...]
    received_at: float
    size: int
    eight_bit: bool = False
    ret: str = ""
    envid: str = ""
    client: str = ""
    report: bool = False

    @property
    def smtp_utf8(self) -> bool:
        """Whether an address of it is not ASCII (RFC 6531), so that a provider needs SMTPUTF8 or an A-label."""
        return not (self.sender.isascii() and all(recipient.address.isascii() for recipient in self.recipients))


class Ids:
    """Makes (key, uuid) pairs, each key above all before, also where the clock stands still or steps back.

    The key is the time in milliseconds and a sequence number of 20 bits; the uuid (RFC 9562, 5.7) is that key and 54
    random bits. So the key of a mail can be read from its uuid and needs no index.

    Where several processes make keys at once each has a `slot` of its own, the remainder of its keys by `slots`.
    """

    def __init__(
        self, last_key: int, now: Callable[[], float], random_bits: Callable[[int], int], slot: int = 0, slots: int = 1
    ) -> None:
        self._slot = slot
        self._slots = slots
        self._last = last_key // slots * slots + slot
        self._now = now
        self._random_bits = random_bits
        self._tails: list[int] = []

    def next(self) -> tuple[int, str]:
        """The next (key, uuid)."""
        self._last = key = max(self._last + self._slots, (int(self._now() * 1000) << _SEQUENCE_BITS) + self._slot)
        if not self._tails:  # a system call for many
            bits = self._random_bits(_TAIL * _TAILS)
            self._tails = [bits >> _TAIL * number & (1 << _TAIL) - 1 for number in range(_TAILS)]
        return key, uuid_of(key, self._tails.pop())


def uuid_of(key: int, tail: int) -> str:
    """The uuid that carries `key` and 54 bits of `tail`."""
    milliseconds, sequence = key >> _SEQUENCE_BITS, key & 0xFFFFF
    high = f"{milliseconds:012x}7{sequence >> 8:03x}"
    low = f"{0x8000000000000000 | (sequence & 0xFF) << 54 | tail:016x}"
    return f"{high[:8]}-{high[8:12]}-{high[12:]}-{low[:4]}-{low[4:]}"


def key_of(uuid: str) -> int | None:
    """The key that `uuid` carries, or None where it is no uuid of ours."""
    digits = uuid.replace("-", "").lower()
    if len(uuid) != 36 or len(digits) != 32 or digits.strip("0123456789abcdef") or digits[12] != "7":
        return None
    low = int(digits[16:], 16)
    return int(digits[:12], 16) << _SEQUENCE_BITS | int(digits[13:16], 16) << 8 | (low >> 54) & 0xFF


def key_at(seconds: float) -> int:
    """The lowest key that a mail may have that is taken then: seconds on the scale of Ids."""
    return int(seconds * 1000) << _SEQUENCE_BITS


def time_of(key: int) -> float:
    """When a mail with that key was taken: seconds on the scale of its Ids; 0 for 0."""
    return (key >> _SEQUENCE_BITS) / 1000
