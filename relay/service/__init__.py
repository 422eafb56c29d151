"""Service: the only wiring. What a configuration describes is put together here, started and stopped in order."""

from relay.service.relay import make_service

__all__ = ["make_service"]
