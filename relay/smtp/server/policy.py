"""Policy: what of the configuration the server goes by."""

from __future__ import annotations

from dataclasses import dataclass

from relay.config.values import Config
from relay.smtp.data.receive import Rules


@dataclass(frozen=True, slots=True)
class Policy:
    """What the server goes by.

    hostname      how we call ourselves
    domain        what a name without one gets
    postmaster    where mail for a bare <postmaster> goes
    rules         what content is held to; its largest size is what EHLO says, too
    idle_timeout  seconds for a whole command line, and for content that stands still
    """

    hostname: str
    domain: str
    postmaster: str
    rules: Rules
    max_recipients: int
    max_connections: int
    idle_timeout: float

    @classmethod
    def of(cls, config: Config) -> Policy:
        """What a configuration says."""
        smtp, domain = config.smtp, config.addresses.domain
        postmaster = smtp.postmaster or "postmaster"
        drop = frozenset(name.lower().encode() for name in smtp.drop_headers)
        return cls(
            config.hostname,
            domain,
            postmaster if "@" in postmaster else f"{postmaster}@{domain}",
            Rules(smtp.max_message_size, smtp.bare_newlines == "reject", drop),
            smtp.max_recipients,
            smtp.max_connections,
            smtp.idle_timeout,
        )
