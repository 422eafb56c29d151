"""Who hands a mail in, in the header's words."""

from __future__ import annotations

import os
import pwd
from email import message_from_string
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.sendmail.author import from_content, user_name


def entry(name: str, gecos: str) -> pwd.struct_passwd:
    """A line of passwd."""
    return pwd.struct_passwd((name, "x", 1000, 1000, gecos, "/", "/bin/sh"))


@pytest.mark.parametrize(
    ("name", "gecos", "local_part", "full"),
    [
        ("jm", "Jörg Müller,,,", "jm", "Jörg Müller"),
        ("root", "", "root", ""),
        ("amy", "& Adams", "amy", "Amy Adams"),
        ("EXAMPLE\\amy", "Amy", '"EXAMPLE\\\\amy"', "Amy"),
        ("amy adams", "", '"amy adams"', ""),
        ("jörg", "J", "uid1000", "J"),
    ],
)
def test_a_user_who_is_known(
    monkeypatch: pytest.MonkeyPatch, name: str, gecos: str, local_part: str, full: str
) -> None:
    """By the name, made a valid local part; what is not ASCII is called by the number."""
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: entry(name, gecos))

    assert user_name(1000) == (local_part, full.encode())


def test_a_user_whom_nobody_knows() -> None:
    """A container's, say."""
    assert user_name(3_999_999_999) == ("uid3999999999", b"")


def test_this_user() -> None:
    """As passwd has it."""
    assert user_name(os.getuid())[0] == pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize(
    ("full", "content"),
    [
        (b"", "u@example.com"),
        (b"CronDaemon", "CronDaemon <u@example.com>"),
        (b"Cron Daemon", "Cron Daemon <u@example.com>"),
        (b"J. Doe", '"J. Doe" <u@example.com>'),
        (b'A "B" \\C', '"A \\"B\\" \\\\C" <u@example.com>'),
        (b"=?utf-8?q?x?=", '"=?utf-8?q?x?=" <u@example.com>'),
        (b"Vir\xe1g", "u@example.com"),
        (b"a\r\nBcc: x@x.example", '"a Bcc: x@x.example" <u@example.com>'),
        ("Virág Ádám".encode(), "=?utf-8?b?Vmlyw6FnIMOBZMOhbQ==?=\r\n <u@example.com>"),
    ],
)
def test_the_content_of_from(full: bytes, content: str) -> None:
    """ASCII in any case; octets that are no UTF-8 are no name."""
    assert from_content(full, "u@example.com") == content


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=500))
def test_any_name(name: str) -> None:
    """Its lines are short and ASCII, it decodes to itself, and nothing in it becomes a field."""
    content = from_content(name.encode(), "u@example.com")
    parsed = message_from_string(f"From: {content}\n\n", policy=default)

    assert content.isascii()
    assert all(len(line) < 200 for line in content.split("\r\n"))
    assert parsed.keys() == ["From"]
    assert parsed["From"].addresses[0].addr_spec == "u@example.com"
