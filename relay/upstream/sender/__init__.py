"""Sender: connections to a provider, each of which carries one transaction after another."""

from relay.upstream.sender.connect import Fault, connect, endpoint
from relay.upstream.sender.connection import Connection
from relay.upstream.sender.tls import Trust, trust
from relay.upstream.transaction import Batch, Features, Result

__all__ = ["Batch", "Connection", "Fault", "Features", "Result", "Trust", "connect", "endpoint", "trust"]
