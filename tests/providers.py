"""Scripted providers, for tests of what stands above a connection: each does what its script says, when it is told."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relay.config.values import Provider
from relay.outcome import Delivered, Outcome, ProviderFault, Stage
from relay.reply import Reply, no_reply
from relay.upstream.sender import Batch, Fault, Result

TAKEN = Delivered(Reply(250, "2.0.0", ("Ok",)))
REFUSED = ProviderFault(no_reply("connection refused"))

Says = Callable[[Batch], tuple[tuple[Outcome, ...], bool]]
"""What a provider says to a batch: an outcome for each recipient, and whether the connection is of use afterwards."""


def takes(batch: Batch) -> tuple[tuple[Outcome, ...], bool]:
    """Everything is taken."""
    return (TAKEN,) * len(batch.recipients), True


def always(outcome: Outcome, usable: bool = True) -> Says:
    """The same outcome for everybody."""
    return lambda batch: ((outcome,) * len(batch.recipients), usable)


class ScriptedConnection:
    """A connection that is open; its transactions end when the provider says so."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self.provider = provider
        self.carried = 0
        self.idle_since = 0.0
        self.depth = provider.depth
        self.waiting_since: float | None = None
        self.out_of_step = False
        self.certificate_ends = provider.certificate_ends
        self.when_ended: Callable[[Reply], None] | None = None
        self.open = True

    def deliver(self, batch: Batch) -> Deferred[Result]:
        """See Connection."""
        done: Deferred[Result] = Deferred()
        self.provider.batches.append(batch)
        self.provider.under_way.append((self, batch, done))
        if self.provider.prompt:
            self.provider.answer()
        return done

    def quit(self) -> None:
        """See Connection."""
        self.open = False

    def abort(self) -> None:
        """See Connection."""
        self.open = False


class ScriptedProvider:
    """A provider: `up` says whether it lets anybody in, `says` what it answers, `prompt` whether at once.

    certificate_ends  what its connections say of its certificate
    pipelining   whether each of its connections might use it
    batches      every transaction that was begun there
    connections  every connection that was let in
    """

    def __init__(self, name: str, clock: Clock, says: Says = takes, connections: int = 10, **more: object) -> None:
        self.name = name
        self.clock = clock
        self.says = says
        self.up: ProviderFault | None = None
        self.prompt = True
        self.certificate_ends: float | None = None
        self.dialled = 0
        self.pipelining: list[bool] = []
        self.depth = 1
        self.begun = False
        self.config = Provider(host=name, name=name, port=25, tls="none", connections=connections, **more)  # type: ignore[arg-type]
        self.batches: list[Batch] = []
        self.connections: list[ScriptedConnection] = []
        self.under_way: list[tuple[ScriptedConnection, Batch, Deferred[Result]]] = []

    def dial(self, pipelining: bool) -> Deferred[ScriptedConnection]:
        """See connect."""
        self.dialled += 1
        self.pipelining.append(pipelining)
        done: Deferred[ScriptedConnection] = Deferred()
        if self.up is not None:
            done.errback(Fault(self.up, Stage.CONNECT, 0.0))
            return done
        connection = ScriptedConnection(self)
        self.connections.append(connection)
        done.callback(connection)
        return done

    def answer(self) -> None:
        """End the transaction that began first."""
        connection, batch, done = self.under_way.pop(0)
        outcomes, usable = self.says(batch)
        connection.carried += usable
        done.callback(Result(outcomes, usable, self.begun))

    @property
    def open(self) -> int:
        """Connections that are open."""
        return sum(connection.open for connection in self.connections)
