"""What the server goes by is what the configuration says."""

from __future__ import annotations

import pytest

from relay.config.values import Addresses, Config, Smtp
from relay.smtp.server.policy import Policy


@pytest.mark.parametrize(
    ("configured", "meant"),
    [("", "postmaster@example.com"), ("boss", "boss@example.com"), ("boss@example.org", "boss@example.org")],
)
def test_where_mail_for_postmaster_goes(configured: str, meant: str) -> None:
    """To postmaster at the domain, or where it is said; always to a whole address."""
    config = Config(hostname="a.example.com", addresses=Addresses("example.com"), smtp=Smtp(postmaster=configured))

    assert Policy.of(config).postmaster == meant


def test_the_rest() -> None:
    """Names of fields are compared in lower case."""
    smtp = Smtp(max_message_size=5, max_recipients=6, max_connections=7, idle_timeout=8.0, bare_newlines="reject")
    policy = Policy.of(Config(hostname="a.example.com", addresses=Addresses("example.com"), smtp=smtp))

    assert (policy.hostname, policy.domain) == ("a.example.com", "example.com")
    assert (policy.max_recipients, policy.max_connections, policy.idle_timeout) == (6, 7, 8.0)
    assert (policy.rules.max_size, policy.rules.reject_bare_newlines) == (5, True)
    assert policy.rules.drop == {b"bcc", b"resent-bcc", b"return-path"}
