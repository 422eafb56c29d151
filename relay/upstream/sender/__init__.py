"""Sender: connections to a provider, each of which carries one transaction after another."""

from relay.upstream.batch import Batch, Features, Result
from relay.upstream.sender.connect import Fault, connect, endpoint
from relay.upstream.sender.connection import Connection
from relay.upstream.sender.tls import Trust, trust

__all__ = ["Batch", "Connection", "Fault", "Features", "Result", "Trust", "connect", "endpoint", "trust"]
