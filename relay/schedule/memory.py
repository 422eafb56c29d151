"""Memory: the mails that are in it, how many more may come, and how much of their bodies it keeps.

While mail waits in the spool, a quarter of the room is for mail that has just come; of little room, nothing is.
"""

from __future__ import annotations

from relay.schedule.item import Item
from relay.spool.spool import LARGE

BODIES = 16 * 1024 * 1024
"""Octets of bodies kept in memory for mail that waits for its turn; beyond it a body is read again when needed."""


class Memory:
    """See the module's docstring.

    items  the mails, by key
    limit  how many there may be
    fresh  how many of them are fresh: see Item
    """

    def __init__(self, limit: int) -> None:
        self.items: dict[int, Item] = {}
        self.limit = max(limit, 1)
        self.fresh = 0
        self._octets = 0

    @property
    def empty(self) -> bool:
        """Whether nothing is counted."""
        return not (self.items or self.fresh or self._octets)

    @property
    def kept_free(self) -> int:
        """So many places are for mail that has just come."""
        return self.limit // 8 * 2

    @property
    def left(self) -> int:
        """Places that nobody has."""
        return self.limit - len(self.items)

    def room(self) -> int:
        """How many mails more may come in that have waited."""
        return min(self.left - self.kept_free + self.fresh, self.left)

    def takes_new(self, *, fresh: bool, behind: bool) -> bool:
        """Whether a mail that comes now may come in; `behind`: while others wait in the spool."""
        if not fresh:
            return not behind and self.room() > 0
        return self.left > 0 and not (behind and self.fresh >= self.kept_free)

    def put(self, item: Item) -> None:
        """One more; its body is kept where the bound allows."""
        self.items[item.envelope.key] = item
        self.fresh += item.fresh
        body, item.body = item.body, None
        if body is not None:
            self.keep_body(item, body)

    def keep_body(self, item: Item, body: bytes) -> None:
        """Its body, which had to be read, until it leaves and where the bound allows."""
        if item.body is None and self._octets + len(body) <= BODIES:
            item.body = body
            self._octets += len(body)

    def no_longer_fresh(self, item: Item) -> None:
        """A mail that nobody takes at present, or that leaves, is fresh no more."""
        self.fresh -= item.fresh
        item.fresh = False

    def drop(self, item: Item) -> bool:
        """It leaves, if it is there; whether it was."""
        if self.items.pop(item.envelope.key, None) is None:
            return False
        self.no_longer_fresh(item)
        if item.body is not None:
            self._octets -= len(item.body)
        return True


assert LARGE <= BODIES
