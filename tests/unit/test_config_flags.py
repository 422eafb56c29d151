"""Flags: what the plugin's command line says, alone and over a file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import Config, ConfigErrors, Flags, from_flags
from relay.config.flags import provider_table
from relay.config.problem import Wrong
from relay.config.values import Listener

FILE = """
[smtp]
listen = ["tcp:2626:interface=127.0.0.1"]
max_recipients = 7

[spool]
directory = "mail"

[[provider]]
host = "smtp.example.com"
username = "user1"
password = { file = "missing.secret" }
"""


def hostname() -> str:
    return "app1.example.com"


def configured(flags: Flags, cwd: Path, environ: dict[str, str] | None = None) -> Config:
    return from_flags(flags, environ or {}, cwd, hostname)


def problems(flags: Flags, cwd: Path, environ: dict[str, str] | None = None) -> list[str]:
    """What is said of flags that are wrong."""
    with pytest.raises(ConfigErrors) as caught:
        configured(flags, cwd, environ)
    return str(caught.value).splitlines()


def test_flags_alone(tmp_path: Path) -> None:
    """A provider's URL is enough; paths are relative to the current folder."""
    flags = Flags(
        providers=("smtp://user:secret@smtp.example.com:2587",),
        spool="mail",
        listen=("unix:relay.sock", "tcp:2626:interface=127.0.0.1"),
        http=("tcp:0:interface=127.0.0.1",),
    )

    config = configured(flags, tmp_path)

    [provider] = config.providers
    assert (provider.host, provider.port, provider.tls) == ("smtp.example.com", 2587, "starttls")
    assert (provider.username, provider.password.reveal()) == ("user", "secret")
    assert config.path is None
    assert config.spool.directory == tmp_path / "mail"
    assert config.spool.drop == tmp_path / "drop"
    assert config.smtp.listen == (Listener(f"unix:{tmp_path}/relay.sock"), Listener("tcp:2626:interface=127.0.0.1"))
    assert config.http.listen == (Listener("tcp:0:interface=127.0.0.1"),)


def test_flags_over_a_file(tmp_path: Path) -> None:
    """They override it key by key, also what is wrong there; all else is the file's."""
    (tmp_path / "relay.toml").write_text(FILE)
    flags = Flags(Path("relay.toml"), ("smtps://smtp2.example.com",), listen=("tcp:2727:interface=127.0.0.1",))

    config = configured(flags, tmp_path)

    assert [provider.host for provider in config.providers] == ["smtp2.example.com"]
    assert config.smtp.listen == (Listener("tcp:2727:interface=127.0.0.1"),)
    assert config.smtp.max_recipients == 7
    assert config.spool.directory == tmp_path / "mail"
    assert config.path == tmp_path / "relay.toml"


def test_flags_over_the_older_form(tmp_path: Path) -> None:
    """Its own names for things are overridden as well."""
    (tmp_path / "relay.json").write_text('{"batchDelay": 5, "forwardProviders": [{"host": "a", "port": "b"}]}')

    config = configured(Flags(Path("relay.json"), ("smtp://smtp2.example.com",)), tmp_path)

    assert [provider.host for provider in config.providers] == ["smtp2.example.com"]
    assert config.delivery.batch_delay == 0.005


def test_no_flags(tmp_path: Path) -> None:
    """The file that is found is read; that of the environment must be there even where a provider is named."""
    (tmp_path / "relay.toml").write_text('[[provider]]\nhost = "smtp.example.com"\n')

    assert configured(Flags(), tmp_path).path == tmp_path / "relay.toml"
    assert configured(Flags(providers=("smtp://smtp2.example.com",)), tmp_path).path == tmp_path / "relay.toml"

    missing = {"MAILRELAY_CONFIG": "missing.toml"}
    [said] = problems(Flags(providers=("smtp://smtp2.example.com",)), tmp_path, missing)
    assert said.startswith(f"{tmp_path}/missing.toml: cannot be read: ")


@pytest.mark.parametrize(
    ("url", "table"),
    [
        ("smtp://h", {"host": "h", "tls": "starttls"}),
        ("smtp://h/", {"host": "h", "tls": "starttls"}),
        ("smtps://h", {"host": "h", "tls": "implicit"}),
        ("smtp://h:465", {"host": "h", "tls": "starttls", "port": 465}),
        ("smtp://[::1]:25?tls=none", {"host": "::1", "tls": "none", "port": 25}),
        ("smtp://h?name=my%20own", {"host": "h", "tls": "starttls", "name": "my own"}),
        ("smtp://u:p@h", {"host": "h", "tls": "starttls", "username": "u", "password": "p"}),
        ("smtp://me@x.org:a:b@h", {"host": "h", "tls": "starttls", "username": "me@x.org", "password": "a:b"}),
        ("smtp://u%40x:%3a%2F%3f+@h", {"host": "h", "tls": "starttls", "username": "u@x", "password": ":/?+"}),
        (
            "smtps://u@h?password_file=a/b&name=n",
            {"host": "h", "tls": "implicit", "username": "u", "name": "n", "password": {"file": "a/b"}},
        ),
        (
            "smtp://u@h?password_env=SECRET",
            {"host": "h", "tls": "starttls", "username": "u", "password": {"env": "SECRET"}},
        ),
    ],
)
def test_a_providers_url(url: str, table: dict[str, object]) -> None:
    """smtp:// is STARTTLS, smtps:// implicit TLS; user, secret and parameters are percent-decoded."""
    assert provider_table(url) == table


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hunter2",
        "smtp.example.com",
        "http://u:hunter2@h",
        "smtp:u:hunter2@h",
        "smtp://",
        "smtp://u:hunter2@",
        "smtp://u:hunter2@h:",
        "smtp://u:hunter2@h:smtp",
        "smtp://u:hunter2#@h",
        "smtp://u:hunter2/@h",
        "smtp://u:25?hunter2@h",
        "smtp://u:hunter2@h/path",
        "smtp://u:hunter2 @h",
        "smtp://u:hunter2%@h",
        "smtp://u:hunter2%ff@h",
        "smtp://u:hunter2@h?tls=no",
        "smtp://u:hunter2@h?tls=starttls",
        "smtps://u:hunter2@h?tls=none",
        "smtp://u:hunter2@h?hunter2",
        "smtp://u:hunter2@h?port=25",
        "smtp://u:hunter2@h?name=a&name=b",
        "smtp://u:hunter2@h?password_env=A",
        "smtp://u@h?password_env=A&password_file=hunter2",
        "smtp://[hunter2]",
        "smtp://u:hunter2[@h]",
    ],
)
def test_a_url_that_is_none(url: str, tmp_path: Path) -> None:
    """It gets one problem, with its place among the flags; no part of it is shown, for any may be a password."""
    [said] = problems(Flags(providers=("smtp://first", url)), tmp_path)

    assert said.startswith("command line: --provider[2]: ")
    assert "hunter2" not in said


@given(st.text(), st.text(), st.text(alphabet="smtp:/@?#&=%u[]", max_size=20))
def test_any_url_at_all(user: str, password: str, url: str) -> None:
    """What is percent-encoded arrives as it was; what is no URL is refused, and never in another way."""
    for text in (url, f"smtp://{url}"):
        with suppress(Wrong):
            provider_table(text)
    table = provider_table(f"smtp://{quote(user, safe='')}:{quote(password, safe='')}@h")
    assert (table.get("username", ""), table.get("password", "")) == (user, password)


def test_what_is_wrong_with_flags(tmp_path: Path) -> None:
    """Every problem at once, those of the file too, each with its place."""
    (tmp_path / "relay.toml").write_text('colour = "red"\n')
    flags = Flags(
        Path("relay.toml"),
        ("smtp://user@smtp.example.com:99999", "smtp://u:p@h?tls=none&name=clear", "smtp://h?name=clear"),
        spool="",
        listen=("tcp:2525",),
        http=("8025",),
    )

    said = [line.partition(": ")[2].partition(": ")[0] for line in problems(flags, tmp_path)]

    assert said == [
        "colour",
        '--provider[1].port (name "smtp.example.com")',
        "--spool",
        "--listen[1]",
        "--http[1]",
        '--provider[1].password (name "smtp.example.com")',
        '--provider[2].tls (name "clear")',
        '--provider[3].name (name "clear")',
    ]


def test_a_missing_file_and_bad_flags(tmp_path: Path) -> None:
    """Both are said; that the file names no provider cannot be known."""
    said = problems(Flags(Path("relay.toml"), spool="", listen=("tcp:2525",)), tmp_path)

    assert [line.split(": ")[:2] for line in said] == [
        [f"{tmp_path}/relay.toml", "cannot be read"],
        ["command line", "--spool"],
        ["command line", "--listen[1]"],
    ]


def test_a_password_in_a_flag(tmp_path: Path) -> None:
    """It is taken, with a warning that does not show it; one that is kept elsewhere is none."""
    (tmp_path / "secret").write_text("hunter2\n")
    literal = Flags(providers=("smtp://a@h1?password_file=secret", "smtp://u:hunter2@h2"))

    config = configured(literal, tmp_path)

    [warning] = config.warnings
    assert warning.startswith("--provider[2]: ")
    assert "hunter2" not in warning
    assert [provider.password.reveal() for provider in config.providers] == ["hunter2", "hunter2"]


def test_what_flags_show_of_themselves() -> None:
    """Their repr has no URL in it."""
    assert "hunter2" not in repr(Flags(providers=("smtp://u:hunter2@h",)))
