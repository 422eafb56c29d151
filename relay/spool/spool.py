"""Spool: what is durable, and the contract that every backend keeps.

A backend is opened by a function of its own module, which recovers what a crash left and returns a `Spool` that is
ready. All methods are called in the reactor's thread and return at once; no disk and no database is ever waited for
there. Times are seconds on the caller's own scale, which only ever moves forward.

Failure: a method whose work could not be made durable fails with SpoolFull or SpoolFailing, and then nothing of it is
there after a restart. A row or a body that is damaged makes its mail HELD with a reply that says so; it is neither
delivered nor deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from twisted.internet.defer import Deferred

from relay.envelope import Envelope, Recipient

LARGE = 256 * 1024
"""A body above this many octets is streamed and never stands in memory whole."""

QUARANTINE = "quarantine: "
UNCERTAIN = "uncertain: "
"""The replies of standings begin so that are HELD for damage, or because nobody knows whether the mail arrived."""

UNDER_WAY = "under way: the final dot is about to leave"
LEFT_UNDER_WAY = f"{UNCERTAIN}the daemon ended while a final dot was under way"
"""The reply of a standing that is HELD only while a dot is under way, and what a start makes of one it finds."""


class SpoolError(Exception):
    """The spool cannot do what it was asked to; the text says why and what to do."""


class SpoolFailing(SpoolError):
    """A write, a sync or the database failed: temporary, 451 4.3.0."""


class SpoolFull(SpoolFailing):
    """No space or no inodes are left: temporary, 452 4.3.1."""


class LostTurn(SpoolError):
    """Another process has the mail by now: what was to be written is refused, and is never to be written again."""


class State(IntEnum):
    """Where one recipient of a mail stands. The first three wait; a mail is finished when none waits any more.

    waiting  whether something is still to be done for this recipient
    """

    waiting: bool

    READY = 0
    DEFERRED = 1
    HELD = 2
    DELIVERED = 3
    BOUNCED = 4
    EXPIRED = 5
    DELETED = 6

    def __init__(self, value: int) -> None:
        self.waiting = value <= 2


@dataclass(frozen=True, slots=True)
class Standing:
    """One recipient of a mail and how far it has come: the only thing of a mail that ever changes.

    number    its place in the envelope, from 0
    attempts  rounds over all providers that counted
    due       when it is tried next, if DEFERRED; else 0
    provider  the provider that last answered, or to which it is pinned; "" at first
    pinned    whether only that provider may be tried (its outcome there was uncertain)
    uncertain how many times in a row its outcome was uncertain
    warned    whether its sender has had a delay warning
    reply     the last reply as people quote it (see Reply), or why it is held
    """

    number: int
    recipient: Recipient
    state: State = State.READY
    attempts: int = 0
    due: float = 0.0
    provider: str = ""
    pinned: bool = False
    uncertain: int = 0
    warned: bool = False
    reply: str = ""


class BodyReader(Protocol):
    """A large body, read in pieces from its beginning."""

    size: int

    def read(self, octets: int) -> Deferred[bytes]:
        """The next piece of at most `octets`; b"" at the end. Fails with SpoolFailing."""

    def close(self) -> None:
        """Give the file back; safe to call twice."""


class BodyWriter(Protocol):
    """A large body on its way in: written in the background, in order, while more arrives."""

    size: int

    def write(self, octets: bytes) -> Deferred[None] | None:
        """Take a piece. A Deferred says: enough waits to be written, pause until it fires (it never fails)."""

    def finish(self, uuid: str) -> Deferred[None]:
        """Make all of it durable under its name; fires then. Fails with SpoolFull or SpoolFailing."""

    def abandon(self) -> None:
        """Forget it: the client went away, or the mail was refused. Also after finish, if the mail was not taken."""

    def whole(self) -> bytes | None:
        """All of it, where it is still in memory and need not be read again: to be asked once, behind `finish`."""


Body = bytes | BodyReader
"""What a body is read as: whole where it is at most LARGE octets, else piece by piece."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A mail to be made durable.

    head    the header fields that we add on top, with their line ends (and an empty line, where there was no header)
    body    everything below, its lines ended by CRLF; or the finished writer of a large one
    due     when it is to be tried first; 0: at once
    origin  from where it was taken, if that is to be known after a restart (see Spool.origins); else ""
    """

    envelope: Envelope
    head: bytes
    body: bytes | BodyWriter
    due: float = 0.0
    origin: str = ""

    def standings(self) -> list[Standing]:
        """Its recipients as they stand at first."""
        state = State.DEFERRED if self.due else State.READY
        return [
            Standing(number, recipient, state, due=self.due)
            for number, recipient in enumerate(self.envelope.recipients)
        ]


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that waits. `body` is None where it stands in a file or was not asked for: `Spool.body` reads it.

    turn       names the lease by which this process has it, where the queue is shared; 0: it has none
    elsewhere  whether another process has it
    crashes    how many processes ended while they had it
    """

    envelope: Envelope
    head: bytes
    body: bytes | None
    standings: tuple[Standing, ...]
    turn: int = 0
    elsewhere: bool = False
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """Outcomes of one mail, durable together: new standings, reports to its sender, and whether that was all.

    notes     names and texts that are to be known after a restart, each in place of the one of that name before
    turn      by which lease this process has the mail, if it has one: see Mail
    released  whether the lease ends with this, since nothing is to be done for the mail now
    """

    key: int
    uuid: str
    standings: Sequence[Standing]
    reports: Sequence[Submission] = ()
    finished: bool = False
    notes: Sequence[tuple[str, str]] = ()
    turn: int = 0
    released: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
    """How many mails wait, each counted once: READY before DEFERRED before HELD."""

    ready: int = 0
    deferred: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """How many mails have a recipient HELD because they are damaged, and because nobody knows whether they arrived."""

    quarantine: int = 0
    uncertain: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """How the spool is: `free_bytes` and `writable` are never older than 5 s where the disk answers at all.

    checked_at     when both were last looked at, on the caller's scale; an old one says that the disk hangs
    free_inodes, all_inodes  0 and 0 where the file system counts none
    """

    writable: bool
    free_bytes: int
    total_bytes: int
    free_inodes: int
    all_inodes: int
    checked_at: float


class Spool(Protocol):
    """See the module's docstring. `tally` is what the start found; later movements are counted by the caller.

    notes           by name, as they were at the start (see Settlement)
    newest          the time of the newest mail that the start found, on the scale on which it was taken; 0 if none
    left_under_way  mails that the start found HELD, since a dot was under way when the daemon ended

    quarantined     for the caller to set: called with each mail that `ready_after`, `due`, `find` or `page` found
                    damaged and that is HELD from now on, and with the state in which it was counted (None: in none)
    """

    backend: str
    tally: Tally
    notes: Mapping[str, str]
    newest: float
    left_under_way: Sequence[Mail]
    quarantined: Callable[[Mail, State | None], None]

    @property
    def health(self) -> Health:
        """How it is now."""

    @property
    def in_force(self) -> bool:
        """Whether the mail in memory surely is ours still: if not, nothing is to be begun."""

    @property
    def oldest(self) -> float | None:
        """received_at of the oldest mail of which a recipient is READY or DEFERRED; None if there is none.

        A report that was put off when it was made (Submission.due) is none of them until it is tried.
        """

    def next_id(self) -> tuple[int, str]:
        """A new (key, uuid). Submit in the order in which they were made."""

    def new_body(self) -> BodyWriter:
        """A place for a large body."""

    def submit(self, submission: Submission) -> Deferred[None]:
        """Fires when the mail is durable. Those submitted in one order become durable in that order."""

    def settle(self, settlement: Settlement) -> Deferred[None]:
        """Fires when it is durable. With `finished`, mail and body are gone then; reports stand in the same commit."""

    def origins(self, beginning: str) -> Deferred[list[str]]:
        """The origins of mails, also of those that have ended, that begin so and were not forgotten."""

    def forget(self, origins: Sequence[str]) -> Deferred[None]:
        """Fires when it is durable that these are no origins any more."""

    def ready_after(self, key: int, limit: int) -> Deferred[list[Mail]]:
        """At most `limit` mails above `key` of which a recipient is READY, by key.

        None of them is damaged. Small bodies are with them, as far as 8 MiB go.
        """

    def due(self, now: float, limit: int) -> Deferred[list[Mail]]:
        """At most `limit` mails of which a recipient is DEFERRED and due, the longest due first; as ready_after."""

    def next_due(self, after: float) -> Deferred[float | None]:
        """When the first DEFERRED recipient is due that is not due at `after` yet; None if there is none."""

    def body(self, mail: Mail) -> Deferred[Body]:
        """The body of a mail, checked against what was acknowledged. Fails with Damaged or SpoolFailing."""

    def held(self) -> Deferred[Held]:
        """How many mails are HELD for which reason: those whose replies begin with QUARANTINE and UNCERTAIN."""

    def find(self, uuid: str) -> Deferred[Mail | None]:
        """The mail with that id, without its body, also if it is damaged; None if none waits under it."""

    def page(self, after: int, limit: int) -> Deferred[list[Mail]]:
        """At most `limit` mails above the key `after`, in any state, damaged or not, by key, without bodies."""

    def close(self) -> Deferred[None]:
        """Fires when everything asked for before is done and the files are closed."""


class Damaged(SpoolError):
    """A row or a body is not what was acknowledged. Its mail is to be HELD."""
