"""Secrets: where they may be, and that nothing but `reveal` ever shows one."""

from __future__ import annotations

import copy
import json
import os
import pickle
import tomllib
from collections.abc import Callable
from pathlib import Path
from traceback import TracebackException

import attrs
import pytest

from relay.config import ConfigErrors, Flags, from_flags, load
from relay.config.origin import Origin
from relay.config.problem import Wrong
from relay.config.secret import Secret, read_secret

TEXT = "hunter2"

FILE = f"""
[spool]
backend = "postgresql"
dsn = "host=db password={TEXT}"

[[provider]]
host = "smtp.example.com"
username = "user1"
password = "{TEXT}"

[alerts]
webhook = "https://hooks.example.com/{TEXT}"
"""


@pytest.mark.parametrize(
    ("octets", "secret"),
    [
        (b"s3cret", "s3cret"),
        (b"s3cret\n", "s3cret"),
        (b"s3cret\r\n", "s3cret"),
        (b"s3cret\n\n", "s3cret\n"),
        (b"s3cret\r", "s3cret\r"),
        (b" s3cret ", " s3cret "),
        ("pässwörd\n".encode(), "pässwörd"),
    ],
)
def test_a_secret_in_a_file(tmp_path: Path, octets: bytes, secret: str) -> None:
    """One line end at its end is not part of it; all else is."""
    (tmp_path / "secret").write_bytes(octets)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert read_secret({"file": "secret"}, Origin("", tmp_path, {})).reveal() == secret
    assert read_secret({"file": str(tmp_path / "secret")}, Origin("", Path("/"), {})).reveal() == secret
    assert read_secret({"credential": "secret"}, Origin("", Path("/"), environ)).reveal() == secret


def test_a_secret_in_the_environment() -> None:
    """It is taken as it is."""
    assert read_secret({"env": "SECRET"}, Origin("", Path("/"), {"SECRET": "s3cret\n"})).reveal() == "s3cret\n"


def test_an_empty_string() -> None:
    """It says that there is no secret, as the default does."""
    assert read_secret("", Origin("", Path("/"), {})) == Secret()


@pytest.mark.parametrize(
    "value",
    [
        {"file": "missing"},
        {"file": "a\0b"},
        {"file": "."},
        {"file": "empty"},
        {"file": "large"},
        {"file": "nul"},
        {"file": "fifo"},
        {"file": "/dev/zero"},
        {"env": "MISSING"},
        {"env": "EMPTY"},
        {"env": "NOT_UTF_8"},
        {"credential": "../secret"},
        {"credential": ".."},
        {"credential": "missing"},
        {"file": "", "env": ""},
        {"file": None},
        {TEXT: "secret"},
        {},
        [TEXT],
        5,
        True,
        None,
        "\ud800",
    ],
)
def test_a_secret_that_is_not_there(tmp_path: Path, value: object) -> None:
    """Each way to be wrong is refused at once, also where a file has no end or nobody writes to it."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "large").write_text("x" * 70_000)
    (tmp_path / "nul").write_bytes(b"a\0b")
    os.mkfifo(tmp_path / "fifo")
    environ = {"EMPTY": "", "NOT_UTF_8": "\udcff", "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}

    with pytest.raises(Wrong) as caught:
        read_secret(value, Origin("", tmp_path, environ))

    assert TEXT not in str(caught.value)


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{!r:>30}".format,
        "{:>30}".format,
        lambda value: f"{[value]} {(value,)}",
        lambda value: str(getattr(value, "__dict__", "")),
        lambda value: str([getattr(value, name, None) for name in dir(value)]),
        lambda value: repr(copy.copy(value)) + repr(copy.deepcopy(value)),
    ],
)
def test_a_secret_that_is_looked_at(show: Callable[[object], str]) -> None:
    """No way to make text of it shows it."""
    assert TEXT not in show(Secret(TEXT))


def test_a_secret_that_is_written_out() -> None:
    """It cannot be pickled nor become JSON."""
    for dump in (pickle.dumps, json.dumps):
        with pytest.raises(TypeError) as caught:
            dump(Secret(TEXT))
        assert TEXT not in str(caught.value)


def test_secrets_compare_by_what_they_hold() -> None:
    """A reload sees which one is another."""
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("pässwörd") == Secret("pässwörd")
    assert Secret("a")
    assert not Secret()


def test_a_configuration_that_is_looked_at(tmp_path: Path) -> None:
    """Its repr, its dict and its tuple show no secret."""
    (tmp_path / "relay.toml").write_text(FILE)

    config = load(tmp_path / "relay.toml", {}, lambda: "app1.example.com")

    assert config.providers[0].password.reveal() == TEXT
    for shown in (config, attrs.asdict(config), attrs.astuple(config)):
        assert TEXT not in repr(shown)


@pytest.mark.parametrize(
    "said",
    [
        f'password = ["{TEXT}"]',
        f'password = {{ file = ["{TEXT}"] }}',
        f'password = {{ {TEXT} = "a" }}',
        f'password = "{TEXT}',
        f"password = {TEXT}",
        f'passwrod = "{TEXT}"',
        f'host = "smtp://user:{TEXT}@smtp.example.com"',
        f'password = "{TEXT}"\nport = 0',
        f'password = "{TEXT}"\n[spool]\ndsn = ["{TEXT}"]\n[alerts]\nwebhook = "{TEXT}"',
        f'[smtp]\nrate_limit = "{TEXT}"\n[[providers]]\npassword = "{TEXT}"',
    ],
)
@pytest.mark.parametrize("older", [False, True])
def test_errors_show_no_secret(tmp_path: Path, said: str, older: bool) -> None:
    """Neither a message, nor a traceback that shows the locals of every frame, the environment's secrets included."""
    text = f'[[provider]]\nname = "primary"\n{said}\n'
    if older:
        try:
            text = json.dumps(tomllib.loads(text))
        except tomllib.TOMLDecodeError:
            text = f'{{"provider": [{{"password": {TEXT}}}]}}'
    file = tmp_path / ("relay.json" if older else "relay.toml")
    file.write_text(text)

    with pytest.raises(ConfigErrors) as caught:
        load(file, {"SMTP_PASSWORD": TEXT}, lambda: "app1.example.com")

    assert TEXT not in str(caught.value)
    assert TEXT not in repr(caught.value)
    assert TEXT not in everything_of(caught.value)


def test_errors_of_flags_show_no_secret(tmp_path: Path) -> None:
    """Nor those of a command line that has one in a URL."""
    flags = Flags(providers=(f"smtp://user:{TEXT}@smtp.example.com:0", f"smtp://user:{TEXT}#@smtp.example.com"))

    with pytest.raises(ConfigErrors) as caught:
        from_flags(flags, {"SMTP_PASSWORD": TEXT}, tmp_path, lambda: "app1.example.com")

    assert TEXT not in everything_of(caught.value)


def everything_of(error: BaseException) -> str:
    """An error's traceback, with its causes and contexts, and the locals of every frame of the program."""
    frames = error.__traceback__
    # The first frame is the test's own.
    error.__traceback__ = frames.tb_next if frames else None
    return "".join(TracebackException.from_exception(error, capture_locals=True).format(chain=True))
