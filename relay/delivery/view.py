"""View: a mail that waits, as commands show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from relay.envelope import Envelope
from relay.log import timestamp
from relay.schedule import Item, Schedule
from relay.spool.spool import UNDER_WAY, Mail, Standing, State

_STATES = {
    State.READY: "ready",
    State.DEFERRED: "deferred",
    State.HELD: "held",
    State.DELIVERED: "delivered",
    State.BOUNCED: "bounced",
    State.EXPIRED: "bounced",
    State.DELETED: "deleted",
}
_ORDER = ("active", "ready", "deferred", "held", "delivered", "bounced", "deleted")


@dataclass(frozen=True, slots=True)
class View:
    """A mail at one moment. `states` are those of its recipients, by number, in the words of commands.

    elsewhere  whether another process has it, and knows more
    """

    envelope: Envelope
    standings: tuple[Standing, ...]
    states: tuple[str, ...]
    elsewhere: bool = False

    @property
    def state(self) -> str:
        """That of the mail: the first of active, ready, deferred and held that one of its recipients is in."""
        return min(self.states, key=_ORDER.index)

    def document(self, seconds: Callable[[float], float]) -> dict[str, object]:
        """As a JSON object. `seconds` takes a time on the spool's scale to one since the epoch, by the wall's clock."""
        envelope = self.envelope
        return {
            "id": envelope.uuid,
            "sender": envelope.sender,
            "received_at": timestamp(seconds(envelope.received_at)),
            "size": envelope.size,
            "state": self.state,
            "recipients": [
                {
                    "address": standing.recipient.address,
                    "state": state,
                    "attempts": standing.attempts,
                    "next_attempt_at": timestamp(seconds(standing.due)) if state == "deferred" else None,
                    "provider": standing.provider or None,
                    "reply": standing.reply or None,
                }
                for standing, state in zip(self.standings, self.states, strict=True)
            ],
        }


def view(mail: Mail, schedule: Schedule, under_way: Callable[[Item], set[int]]) -> View:
    """A mail as it is now: what is in memory is newer than what was read from the spool."""
    item = schedule.items.get(mail.envelope.key)
    if item is None:
        states = [_STATES[each.state] for each in mail.standings]
        if mail.elsewhere:
            tried = "ready" if "ready" in states else "deferred"
            states = [
                "active" if state == tried or each.reply == UNDER_WAY else state
                for state, each in zip(states, mail.standings, strict=True)
            ]
        return View(mail.envelope, mail.standings, tuple(states), mail.elsewhere)
    active = under_way(item) if item.active else frozenset()
    states = [
        "active" if number in active else "ready" if number in item.queued else _STATES[standing.state]
        for number, standing in enumerate(item.standings)
    ]
    return View(item.envelope, tuple(item.standings), tuple(states))
