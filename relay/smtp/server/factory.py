"""Factory: makes the server's connections, counts them, and ends them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.mail.smtp import SMTPFactory
from twisted.python.failure import Failure

from relay.smtp.server import said
from relay.smtp.server.local import LocalSMTP
from relay.smtp.server.policy import Policy
from relay.smtp.submission import Delivery, Session


class LocalSMTPFactory(SMTPFactory):
    """Makes the connections of all listeners; they share its policy, which may change at any time.

    clock       the reactor's
    unexpected  told of every exception of ours, and in which session it came up
    """

    noisy = False
    protocol = LocalSMTP  # type: ignore[assignment]  # Twisted means any subclass

    def __init__(
        self,
        policy: Policy,
        delivery: Delivery,
        clock: IReactorTime,
        unexpected: Callable[[Failure, Session], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.delivery = delivery
        self.clock = clock
        self.unexpected = unexpected
        self.is_stopping = False
        self.connections: set[LocalSMTP] = set()
        self._stopped: list[Deferred[None]] = []
        self.follow(policy)

    def follow(self, policy: Policy) -> None:
        """Go by `policy` from now on, on connections that are open, too."""
        self.policy = policy
        for connection in self.connections:
            connection.idle_timeout = policy.idle_timeout
        self.domain = policy.hostname.encode("ascii", "backslashreplace")
        self.banner = said.banner(policy.hostname)
        self.hello = said.hello(policy.hostname)
        self.extensions = said.extensions(policy.hostname, policy.rules.max_size)

    def buildProtocol(self, addr: IAddress | None) -> LocalSMTP:
        """One more connection."""
        connection = LocalSMTP()
        connection.factory = self
        connection.owner = self
        connection.host = self.domain
        connection.clock = self.clock
        connection.idle_timeout = self.policy.idle_timeout
        connection.delivery = self.delivery
        connection.unexpected = self.unexpected
        return connection

    def admit(self, connection: LocalSMTP) -> bool:
        """Count a connection in, if there are not too many."""
        if len(self.connections) >= self.policy.max_connections:
            return False
        self.connections.add(connection)
        return True

    def lost(self, connection: LocalSMTP) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        if not self.connections:
            waiting, self._stopped = self._stopped, []
            for stopped in waiting:
                stopped.callback(None)

    def stop(self) -> Deferred[None]:
        """End all connections, those with content on its way in behind its reply. Fires when none is left."""
        self.is_stopping = True
        for connection in tuple(self.connections):
            connection.stop()
        if not self.connections:
            return succeed(None)
        stopped = Deferred[None]()
        self._stopped.append(stopped)
        return stopped

    def abort(self) -> None:
        """End what is left at once."""
        for connection in tuple(self.connections):
            connection.transport.abortConnection()
