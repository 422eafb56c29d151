"""Reader: what is asked of the queue, in threads of its own, each with a session.

What is found damaged is HELD, by way of the writer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, succeed

from relay.spool.arriving import WritingBody
from relay.spool.background import Background, FromThreads
from relay.spool.postgresql import quota, reading
from relay.spool.postgresql.bodies import Bodies
from relay.spool.postgresql.server import Connection, Server
from relay.spool.postgresql.sessions import Sessions
from relay.spool.rows import Found
from relay.spool.spool import Body, Held, Mail, SpoolError

P = ParamSpec("P")
T = TypeVar("T")


class Reader:
    """See Spool for its methods.

    me    the process's id at present
    hold  makes a damaged mail HELD
    """

    def __init__(
        self,
        server: Server,
        reactor: FromThreads,
        me: Callable[[], int],
        hold: Callable[[Found], Awaitable[None]],
    ) -> None:
        self._me = me
        self._hold = hold
        self._sessions = Sessions(server)
        self._thread = Background(reactor, 1, "spool-reader")
        self._files = Background(reactor, 2, "spool-bodies")
        self._bodies = Bodies(self._sessions, self._files)

    def new_body(self, number: int) -> WritingBody:
        """A large body on its way in, under that number."""
        return self._bodies.new(number, self._me)

    def origins(self, beginning: str) -> Deferred[list[str]]:
        """See Spool."""
        return self._ask(reading.origins, beginning)

    def notes(self) -> Deferred[dict[str, str]]:
        """All notes but those that are origins."""
        return self._ask(reading.notes)

    def admit(self, to: str, per_hour: int, now: float) -> Deferred[float | None]:
        """See SharedSpool."""
        return self._ask(quota.admit, to, per_hour, now)

    def ready_after(self, key: int, limit: int) -> Deferred[list[Mail]]:
        """See Spool."""
        return Deferred.fromCoroutine(self._sound(lambda connection: reading.ready(connection, self._me(), key, limit)))

    def due(self, now: float, limit: int) -> Deferred[list[Mail]]:
        """See Spool."""
        return Deferred.fromCoroutine(self._sound(lambda connection: reading.due(connection, self._me(), now, limit)))

    def next_due(self, after: float) -> Deferred[float | None]:
        """See Spool."""
        return self._ask(reading.next_due, after)

    def body(self, mail: Mail) -> Deferred[Body]:
        """See Spool."""
        return Deferred.fromCoroutine(self._body(mail))

    def held(self) -> Deferred[Held]:
        """See Spool."""
        return self._ask(reading.held)

    def find(self, uuid: str) -> Deferred[Mail | None]:
        """See Spool."""
        key = reading.is_ours(uuid)
        return succeed(None) if key is None else Deferred.fromCoroutine(self._find(key, uuid.lower()))

    def one(self, key: int) -> Deferred[Found | None]:
        """The mail under that key, as it was read."""
        return self._ask(reading.one, self._me(), key)

    def page(self, after: int, limit: int) -> Deferred[list[Mail]]:
        """See Spool."""
        return Deferred.fromCoroutine(self._page(after, limit))

    def close(self) -> None:
        """Wait for what was asked, and end the threads. Not for the reactor's thread."""
        self._files.close()
        self._thread.close()
        self._sessions.close()

    async def _sound(self, question: Callable[[Connection], list[Found]]) -> list[Mail]:
        """Mails that can be delivered. What is damaged is HELD first, and then others are in its place."""
        while True:
            found = await self._ask(question)
            damaged = [each for each in found if each.hold]
            if not damaged:
                return [each.mail for each in found if not each.damage]
            for each in damaged:
                await self._hold(each)

    async def _page(self, after: int, limit: int) -> list[Mail]:
        return await self._shown(await self._ask(reading.page, self._me(), after, limit))

    async def _find(self, key: int, uuid: str) -> Mail | None:
        found = await self._ask(reading.one, self._me(), key)
        if found is None or (not found.damage and found.mail.envelope.uuid != uuid):
            return None
        return (await self._shown([found]))[0]

    async def _shown(self, found: list[Found]) -> list[Mail]:
        """All of them; the damaged ones HELD, as far as the server takes that."""
        for each in found:
            if each.hold:
                with suppress(SpoolError):
                    await self._hold(each)
        return [each.mail for each in found]

    async def _body(self, mail: Mail) -> Body:
        if mail.body is not None:
            return mail.body
        found = await self._ask(reading.body, mail.envelope.key)
        return found if isinstance(found, bytes) else await self._bodies.open(*found)

    def _ask(
        self, question: Callable[Concatenate[Connection, P], T], *arguments: P.args, **named: P.kwargs
    ) -> Deferred[T]:
        """What the database says to `question`, asked in the reading thread."""
        return self._thread.call(lambda: self._sessions.ask("the spool cannot be read", question, *arguments, **named))
