"""What sendmail(1) reads of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import load
from relay.sendmail.settings import Place, Settings, read

PROVIDER = '[[provider]]\nhost = "127.0.0.1"\nport = 2526\ntls = "none"\n'


def settings(folder: Path, text: str, name: str = "relay.toml") -> Settings:
    """What a file comes to."""
    (folder / name).write_text(text)
    return read({"MAILRELAY_CONFIG": str(folder / name)})


@pytest.mark.parametrize("text", ["not [TOML", "\udcff", ""])
def test_a_file_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """Where the daemon is by default."""
    file = tmp_path / "relay.toml"
    if text:
        file.write_bytes(text.encode("utf-8", "surrogateescape"))

    assert read({"MAILRELAY_CONFIG": str(file)}) == Settings(
        (Place(host="127.0.0.1", port=2525),),
        "/var/lib/mailrelay/drop",
        "/var/lib/mailrelay/spool/control.sock",
        "",
        25 * 2**20,
        1000,
    )


def test_never_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's cron runs in folders in which anybody may write."""
    (tmp_path / "relay.toml").write_text('hostname = "evil.example"')
    monkeypatch.chdir(tmp_path)

    assert read({}).domain != "evil.example"


def test_where_the_daemon_listens(tmp_path: Path) -> None:
    """Unix sockets first; what cannot be known from the file is left out; a proxy's header is said where it is due."""
    found = settings(
        tmp_path,
        r"""[smtp]
        listen = ["tcp:2525:interface=127.0.0.1", "tcp6:2526:interface=\\:\\:1", "systemd:domain=INET:index=0",
                  "tcp:0:interface=127.0.0.1", "unix:smtp.sock:mode=666", "haproxy:tcp:port=25:interface=127.0.0.2"]
        """,
    )

    assert found.places == (
        Place(path=str(tmp_path / "smtp.sock")),
        Place(host="127.0.0.1", port=2525),
        Place(host="::1", port=2526),
        Place(host="127.0.0.2", port=25, preamble=b"PROXY UNKNOWN\r\n"),
    )


@pytest.mark.parametrize(
    "spool",
    [
        "",
        'directory = "data/spool"',
        'directory = "/srv/mail/spool"',
        'directory = "/srv/spool"\ndrop = "/srv/in"',
        'drop = "in"',
    ],
)
def test_the_folders_are_the_daemons(tmp_path: Path, spool: str) -> None:
    """Both read the same in the same file."""
    text = f'hostname = "app1.example.com"\n[spool]\n{spool}\n{PROVIDER}'
    found = settings(tmp_path, text)
    configured = load(tmp_path / "relay.toml", {})

    assert Path(found.drop) == configured.spool.drop
    assert Path(found.control) == configured.spool.directory / "control.sock"
    assert found.domain == configured.addresses.domain


def test_the_older_form_of_the_file(tmp_path: Path) -> None:
    """JSON, in camelCase."""
    text = '{"smtp": {"maxMessageSize": "1MiB", "maxRecipients": 7}, "addresses": {"domain": "example.com"}}'
    found = settings(tmp_path, text, "relay.json")

    assert (found.max_size, found.max_recipients, found.domain) == (2**20, 7, "example.com")


def test_values_that_make_no_sense(tmp_path: Path) -> None:
    """Each counts as not said; the daemon will tell."""
    text = 'smtp = { listen = [1, "nonsense"], max_message_size = "huge", max_recipients = -1 }\nspool = "x"'
    found = settings(tmp_path, text)

    assert (found.places, found.max_size, found.max_recipients) == ((), 25 * 2**20, 1000)
    assert found.drop == str(tmp_path / "drop")
