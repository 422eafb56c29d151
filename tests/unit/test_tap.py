"""twistd's flags: what is read, and how a configuration that makes no sense is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.python import usage

from relay.config import Flags
from relay.tap import Options, makeService, service_of_tac


def options(*arguments: str) -> Options:
    """The options that these arguments make."""
    parsed = Options()
    parsed.parseOptions(list(arguments))
    return parsed


def test_no_flag_at_all() -> None:
    """Nothing was said, and nothing is made up here."""
    assert options().flags == Flags(config=None, providers=(), spool=None, listen=(), http=())


def test_every_flag_in_its_order() -> None:
    """Flags that may be repeated keep the order in which they were given."""
    given = options(
        "--provider=smtp://a", "--listen=tcp:1", "--http=tcp:2", "--config=c.toml", "--spool=s", "--provider", "smtps://b",
        "--listen=tcp6:3", "--http=unix:h",
    )  # fmt: skip

    assert given.flags == Flags(
        config=Path("c.toml"),
        providers=("smtp://a", "smtps://b"),
        spool="s",
        listen=("tcp:1", "tcp6:3"),
        http=("tcp:2", "unix:h"),
    )


@pytest.mark.parametrize("arguments", [["--nonsense"], ["word"], ["--provider"]])
def test_a_flag_that_is_none(arguments: list[str]) -> None:
    """That is twistd's to tell, with its usage page."""
    with pytest.raises(usage.UsageError):
        options(*arguments)


def test_a_file_that_makes_no_sense(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All that is wrong is on file descriptor 2, and the exit status is 1."""
    file = tmp_path / "relay.toml"
    file.write_text('nonsense = 1\n[smtp]\nmax_recipients = "many"\n')

    with pytest.raises(SystemExit) as stopped:
        makeService(options(f"--config={file}"))

    said = capfd.readouterr().err
    assert stopped.value.code == 1
    assert "nonsense" in said
    assert "smtp.max_recipients" in said


def test_the_tac_and_a_file_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """$MAILRELAY_CONFIG is named where it leads nowhere."""
    monkeypatch.setenv("MAILRELAY_CONFIG", str(tmp_path / "absent.toml"))

    with pytest.raises(SystemExit) as stopped:
        service_of_tac()

    assert stopped.value.code == 1
    assert str(tmp_path / "absent.toml") in capfd.readouterr().err


def test_the_tac_without_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without $MAILRELAY_CONFIG it is relay.toml in the current folder, and no other."""
    monkeypatch.delenv("MAILRELAY_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit):
        service_of_tac()

    assert "relay.toml" in capfd.readouterr().err
