"""`mailrelay check`: what it says of a configuration, and with which exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli.check import check

GOOD = '[[provider]]\nname = "primary"\nhost = "127.0.0.1"\nport = 2526\ntls = "none"\n'
BAD = 'nonsense = 1\n[smtp]\nmax_recipients = "many"\n' + GOOD


def checked(*arguments: str, **variables: str) -> Result:
    """What the command comes to."""
    return CliRunner(env={"MAILRELAY_CONFIG": None, **variables}).invoke(check, list(arguments))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_good_configuration(folder: Path) -> None:
    """`ok`, and the providers in their order."""
    (folder / "relay.toml").write_text(GOOD)

    result = checked("--offline")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "ok: primary\n", "")


def test_a_bad_one(folder: Path) -> None:
    """Everything that is wrong, a line each, on standard error."""
    (folder / "other.toml").write_text(BAD)

    result = checked("--offline", "--config", "other.toml")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == ["nonsense", "smtp.max_recipients"]


@pytest.mark.parametrize(("text", "ok", "errors", "names"), [(GOOD, True, 0, ["primary"]), (BAD, False, 2, [])])
def test_as_json(folder: Path, text: str, ok: bool, errors: int, names: list[str]) -> None:
    """The same as one object, on standard output."""
    (folder / "relay.toml").write_text(text)

    result = checked("--offline", "--json", MAILRELAY_CONFIG=str(folder / "relay.toml"))

    said = json.loads(result.stdout)
    assert result.exit_code == (0 if ok else 1)
    assert said["ok"] is ok
    assert len(said["errors"]) == errors
    assert [provider["name"] for provider in said["providers"]] == names
