"""Settings: what of the configuration delivery goes by."""

from __future__ import annotations

from dataclasses import dataclass

from relay.retry import Retry


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the configuration delivery goes by. `hold_uncertain` names the providers with on_uncertain = "hold"."""

    workers: int
    batch_size: int
    batch_delay: float
    retry: Retry
    hold_uncertain: frozenset[str]
