"""Selection: which mails, and which of their recipients, a command is about."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from relay.envelope import Envelope
from relay.spool.spool import Standing

STATES = ("ready", "active", "deferred", "held", "delivered", "bounced", "deleted")
"""In which states a recipient of a mail that waits may be shown."""

_KEYS = frozenset({"ids", "all", "sender", "recipient", "provider", "state"})


class BadSelection(ValueError):
    """It makes no sense; the text says why."""


@dataclass(frozen=True, slots=True)
class Selection:
    """All that is said must hold; what is None is not said.

    ids        mails by their uuids, if there are any
    sender     an address, "<>" for the null one; `*` stands for anything
    recipient  as sender
    provider   the name of the one that last answered for a recipient, or to which it is pinned
    """

    ids: tuple[str, ...] = ()
    everything: bool = False
    sender: str | None = None
    recipient: str | None = None
    provider: str | None = None
    state: str | None = None

    @classmethod
    def read(cls, said: Mapping[str, object]) -> Selection:
        """From what a request says. Raises BadSelection."""
        ids = said.get("ids", [])
        texts = [said.get(key) for key in ("sender", "recipient", "provider", "state")]
        if not (isinstance(ids, list) and all(isinstance(uuid, str) for uuid in ids)):
            raise BadSelection("ids are a list of texts")
        if unknown := sorted(set(said) - _KEYS):
            raise BadSelection(f"{unknown[0]} is nothing to select by")
        if not all(text is None or isinstance(text, str) for text in texts):
            raise BadSelection("what is selected by is a text")
        if "" in texts:
            raise BadSelection("what is selected by is not empty (<> is the null sender)")
        sender, recipient, provider, state = cast(Sequence[str | None], texts)
        if state is not None and state not in STATES:
            raise BadSelection(f"a state is one of {', '.join(STATES)}")
        return cls(tuple(ids), bool(said.get("all")), sender, recipient, provider, state)

    @property
    def is_said(self) -> bool:
        """Whether anything is: a change of everything must be asked for as such."""
        return self.everything or bool(self.ids) or self != Selection()

    def fits(self, envelope: Envelope, standing: Standing, state: str) -> bool:
        """Whether it is about this recipient, which is shown in `state`."""
        return (
            (self.sender is None or _matches(self.sender, envelope.sender))
            and (self.recipient is None or _matches(self.recipient, standing.recipient.address))
            and (self.provider is None or self.provider == standing.provider)
            and (self.state is None or self.state == state)
        )


def _matches(pattern: str, address: str) -> bool:
    return _compiled(pattern).fullmatch(address) is not None


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    """`*` is anything; case means nothing.

    >>> bool(_compiled("*@Example.com").fullmatch("a@example.com")), bool(_compiled("<>").fullmatch(""))
    (True, True)
    """
    if pattern == "<>":
        return re.compile("")
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.IGNORECASE | re.DOTALL)
