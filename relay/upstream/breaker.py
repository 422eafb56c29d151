"""Breaker: whether a provider is sent mail, and how much of it, after what happened there lately.

An Automat machine for each provider; docs/design/breaker.md holds its table. It knows no timer and no connection: the
caller says what happened and when, and reads what may be done. Times are seconds on a clock that only moves forward.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal, Protocol

from automat import TypeMachineBuilder

AFTER_AUTH = 300.0
"""Seconds before a login that was refused is tried again: more tries might lock the account."""

LOST_IN_A_ROW = 3
"""Connections lost behind a dot, one after another, that make a provider down."""

FULL = sys.maxsize
"""An allowance that bounds nothing."""

_FULL_FROM = 1024

State = Literal["up", "down", "probing", "paused"]


@dataclass(frozen=True, slots=True)
class Probes:
    """When a provider that is down is tried again: after `first` seconds, doubling to `longest`."""

    first: float
    longest: float


class _Inputs(Protocol):
    """What the machine is told (it answers whether it turned: up, down, into pause), and what is asked of it."""

    def fault(self, now: float, error: str, auth: bool, /) -> bool: ...
    def succeeded(self, now: float, /) -> bool: ...
    def connected(self, now: float, /) -> bool: ...
    def answered(self, now: float, /) -> bool: ...
    def probe_due(self, now: float, /) -> bool: ...
    def pause(self, now: float, error: str, /) -> bool: ...
    def release(self, now: float, /) -> bool: ...
    def state(self) -> State: ...
    def allowance(self) -> int: ...


@dataclass(slots=True)
class _Record:
    """What is remembered from one state to the next.

    wait     what the last probe waited; 0 once a mail was taken, which alone makes the doubling begin anew
    ramp     connections that may be open at once while the provider is up
    fell_at  when the last outage began
    """

    probes: Probes
    since: float
    last_error: str = ""
    probe_at: float | None = None
    wait: float = 0.0
    ramp: int = FULL
    fell_at: float = 0.0

    def put_off(self, now: float, error: str, auth: bool) -> None:
        self.last_error = error
        self.wait = min(self.wait * 2, self.probes.longest) if self.wait else self.probes.first
        if auth:
            self.wait = max(self.wait, AFTER_AUTH)
        self.probe_at = now + self.wait


_builder = TypeMachineBuilder(_Inputs, _Record)
_up = _builder.state("up")
_down = _builder.state("down")
_probing = _builder.state("probing")
_paused = _builder.state("paused")
_trial = _builder.state("trial")  # paused, and one mail is under way to see whether it still refuses

# Behaviour-less transitions: news that come too late, and requests for what is so already.
_up.upon(_Inputs.connected).loop().returns(False)
_up.upon(_Inputs.answered).loop().returns(False)
_up.upon(_Inputs.probe_due).loop().returns(False)
_up.upon(_Inputs.release).loop().returns(False)
_down.upon(_Inputs.connected).loop().returns(False)
_down.upon(_Inputs.answered).loop().returns(False)
_probing.upon(_Inputs.probe_due).loop().returns(False)
_probing.upon(_Inputs.release).loop().returns(False)
_paused.upon(_Inputs.connected).loop().returns(False)
_paused.upon(_Inputs.answered).loop().returns(False)
_paused.upon(_Inputs.pause).loop().returns(False)
_trial.upon(_Inputs.connected).loop().returns(False)
_trial.upon(_Inputs.probe_due).loop().returns(False)
_trial.upon(_Inputs.release).loop().returns(False)

_up.upon(_Inputs.state).loop().returns("up")
_down.upon(_Inputs.state).loop().returns("down")
_probing.upon(_Inputs.state).loop().returns("probing")
_paused.upon(_Inputs.state).loop().returns("paused")
_trial.upon(_Inputs.state).loop().returns("paused")

_down.upon(_Inputs.allowance).loop().returns(0)
_probing.upon(_Inputs.allowance).loop().returns(1)
_paused.upon(_Inputs.allowance).loop().returns(0)
_trial.upon(_Inputs.allowance).loop().returns(1)


@_up.upon(_Inputs.allowance).loop()
def _ramp(_: _Inputs, record: _Record) -> int:
    return record.ramp


@_up.upon(_Inputs.succeeded).loop()
def _grow(_: _Inputs, record: _Record, _now: float) -> bool:
    """One more connection for each mail taken doubles them with each round: 1, 2, 4, …."""
    record.wait = 0.0
    record.ramp = record.ramp + 1 if record.ramp < _FULL_FROM else FULL
    return False


@_up.upon(_Inputs.fault).to(_down)
def _fall(_: _Inputs, record: _Record, now: float, error: str, auth: bool) -> bool:
    """Up for less than a probe's wait, and no mail taken: the outage has not ended in between."""
    if not record.wait or now - record.since > record.wait:
        record.fell_at = now
    record.since = record.fell_at
    record.put_off(now, error, auth)
    return True


@_down.upon(_Inputs.fault).loop()
def _fault_again(_: _Inputs, record: _Record, now: float, error: str, auth: bool) -> bool:
    """Connections that were open when it fell fail after it: one outage, so nothing doubles."""
    if auth:
        record.last_error = error
        record.wait = max(record.wait, AFTER_AUTH)
        record.probe_at = max(record.probe_at or 0.0, now + AFTER_AUTH)
    return False


@_probing.upon(_Inputs.fault).to(_down)
@_trial.upon(_Inputs.fault).to(_paused)
def _probe_failed(_: _Inputs, record: _Record, now: float, error: str, auth: bool) -> bool:
    record.put_off(now, error, auth)
    return False


@_paused.upon(_Inputs.fault).loop()
def _note(_: _Inputs, record: _Record, _now: float, error: str, _auth: bool) -> bool:
    record.last_error = error
    return False


@_down.upon(_Inputs.probe_due).to(_probing)
@_down.upon(_Inputs.release).to(_probing)
@_paused.upon(_Inputs.probe_due).to(_trial)
@_paused.upon(_Inputs.release).to(_trial)
def _probe(_: _Inputs, record: _Record, _now: float) -> bool:
    record.probe_at = None
    return False


@_probing.upon(_Inputs.connected).to(_up)
@_probing.upon(_Inputs.answered).to(_up)
def _answers(_: _Inputs, record: _Record, now: float) -> bool:
    """Up, and one connection at first; the wait stays, so that a provider that flaps is probed ever more rarely."""
    record.since = now
    record.ramp = 1
    return True


@_down.upon(_Inputs.succeeded).to(_up)
@_probing.upon(_Inputs.succeeded).to(_up)
@_paused.upon(_Inputs.succeeded).to(_up)
@_trial.upon(_Inputs.succeeded).to(_up)
def _recover(_: _Inputs, record: _Record, now: float) -> bool:
    record.since = now
    record.probe_at = None
    record.wait = 0.0
    record.ramp = 2
    return True


@_up.upon(_Inputs.pause).to(_paused)
@_down.upon(_Inputs.pause).to(_paused)
@_probing.upon(_Inputs.pause).to(_paused)
def _stop(_: _Inputs, record: _Record, now: float, error: str) -> bool:
    record.since = now
    record.last_error = error
    record.probe_at = None
    return True


@_trial.upon(_Inputs.pause).to(_paused)
def _refused_again(_: _Inputs, record: _Record, _now: float, error: str) -> bool:
    record.last_error = error
    return False


# A mail that was deferred says nothing about whether the others are still refused.
_trial.upon(_Inputs.answered).to(_paused).returns(False)

_Machine = _builder.build()


class Breaker:
    """One provider's. Each method that tells it something returns whether the provider went up, down or into pause.

    state      `up`, `down`, `probing` (down, and one connection is under way) or `paused`
    allowance  how many connections may carry mail at once: 0, 1 for a probe, a growing number after that, FULL
    login_refused  whether the refusal of our login is what keeps it down
    error_at       when something was last wrong there; None if nothing was
    """

    def __init__(self, probes: Probes, now: float) -> None:
        self._record = _Record(probes, since=now)
        self._machine = _Machine(self._record)
        self._lost = 0
        self.login_refused = False
        self.error_at: float | None = None
        self._turned(True)

    def _turned(self, turned: bool) -> bool:
        """Read the answers that every mail asks for, and say the same again."""
        self.state = self._machine.state()
        self.allowance = self._machine.allowance()
        if self.state in ("up", "paused"):
            self.login_refused = False
        return turned

    def __repr__(self) -> str:
        return f"<Breaker {self.state} since {self.since:.3f}, allowance {self.allowance}>"

    @property
    def probes(self) -> Probes:
        """The policy of its probes; may be set at any time (a new configuration)."""
        return self._record.probes

    @probes.setter
    def probes(self, probes: Probes) -> None:
        self._record.probes = probes

    @property
    def since(self) -> float:
        """Since when it is up, or paused, or down; neither a probe nor a moment of being up interrupts being down."""
        return self._record.since

    def down_since(self, now: float) -> float | None:
        """When the outage began, if there is one; being up for a moment, with no mail taken in it, does not end it."""
        record = self._record
        if self.state == "up":
            return record.fell_at if record.wait and now - record.since <= record.wait else None
        return None if self.state == "paused" else record.since

    @property
    def last_error(self) -> str:
        """What was last wrong there, also after it is over; "" at first."""
        return self._record.last_error

    @property
    def probe_at(self) -> float | None:
        """When `probe_due` is to be said, if down; in pause the earliest time of a trial, None being any. Else None."""
        return self._record.probe_at

    def fault(self, now: float, error: str, auth: bool = False) -> bool:
        """A provider fault happened; `auth`: the login was refused. While probing, only what the probe met counts."""
        self._lost = 0
        self.error_at = now
        self.login_refused = auth or (self.login_refused and self.state == "down")
        return self._turned(self._machine.fault(now, error, auth))

    def lost(self, now: float, error: str) -> bool:
        """A connection was lost behind a dot: a fault, if it is the third without a reply in between, or a probe's."""
        self._lost += 1
        if self._lost < LOST_IN_A_ROW and self.state == "up":
            return False
        return self.fault(now, error)

    def succeeded(self, now: float) -> bool:
        """A mail was taken: its final dot got a 2xx."""
        self._lost = 0
        if self._record.ramp == FULL and not self._record.wait and self.state == "up":
            return False
        return self._turned(self._machine.succeeded(now))

    def connected(self, now: float) -> bool:
        """It let us in: a connection is ready for mail."""
        if self.state == "up":
            return False
        return self._turned(self._machine.connected(now))

    def answered(self, now: float) -> bool:
        """It replied to a mail and did not take it: no fault, and no proof that it takes mail."""
        self._lost = 0
        if self.state == "up":
            return False
        return self._turned(self._machine.answered(now))

    def probe_due(self, now: float) -> bool:
        """The time of `probe_at` has come; or, in pause, a mail goes out to see whether it is still refused."""
        return self._turned(self._machine.probe_due(now))

    def pause(self, now: float, error: str) -> bool:
        """It refuses everything (see Brake), or the mail of a trial was refused too."""
        self.error_at = now
        return self._turned(self._machine.pause(now, error))

    def release(self, now: float) -> bool:
        """A person asks for a probe at once."""
        return self._turned(self._machine.release(now))
