"""What `pip install .` gives, in an empty virtual environment with no checkout in sight."""

from __future__ import annotations

import os
import shutil
import smtplib
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as KeepsMessages

from tests.daemon import CHECKOUT, Daemon, free_port

SOURCES = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE", "relay", "twisted", "docs/man")


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment in which mailrelay was installed from its sources, and these are gone."""
    sources = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        origin = CHECKOUT / name
        if origin.is_dir():
            shutil.copytree(origin, sources / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        else:
            shutil.copy(origin, sources)
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, str(sources)], check=True, env=environ())
    shutil.rmtree(sources)
    return folder / "bin"


def environ(**more: str) -> dict[str, str]:
    """The environment without anything that would make a checkout or another installation visible."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MAILRELAY_CONFIG")
    return {name: value for name, value in os.environ.items() if name not in hidden} | more


class Sink(KeepsMessages):
    """Keeps every mail that it gets, parsed."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Message] = []

    def handle_message(self, message: Message) -> None:
        """Keep it."""
        self.mails.append(message)


@pytest.fixture
def sink() -> Iterator[tuple[int, list[Message]]]:
    """A provider without TLS: its port, and the mails that it got."""
    kept = Sink()
    controller = Controller(kept, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller.port, kept.mails
    controller.stop()


def printed(program: Path, *arguments: str, folder: Path) -> str:
    """What a program says on its standard output, in `folder`."""
    done = subprocess.run([program, *arguments], cwd=folder, env=environ(), check=True, capture_output=True, text=True)
    return done.stdout


def test_twistd_knows_the_plugin(bin_folder: Path, tmp_path: Path) -> None:
    """`twistd --help` lists mailrelay, and `twistd mailrelay --help` its flags."""
    listed = printed(bin_folder / "twistd", "--help", folder=tmp_path)
    flags = printed(bin_folder / "twistd", "mailrelay", "--help", folder=tmp_path)

    assert "    mailrelay " in listed
    assert "--provider=" in flags


def test_the_files_that_are_no_python(bin_folder: Path) -> None:
    """The page's parts, the spool's schema, what systemd is given and the man pages are installed too."""
    [package] = bin_folder.parent.glob("lib/python3*/site-packages/relay")
    ours = Path(CHECKOUT / "relay")
    wanted = {path.relative_to(ours) for suffix in ("sql", "html", "css", "js") for path in ours.rglob(f"*.{suffix}")}
    wanted |= {path.relative_to(ours) for path in (ours / "system").iterdir()}
    pages = {path.name for path in (CHECKOUT / "docs" / "man").iterdir()}

    assert wanted
    assert {path.name for path in (bin_folder.parent / "share" / "man" / "man1").glob("mail*.1")} >= pages
    assert {path for path in wanted if not (package / path).is_file()} == set()


def by_tac(folder: Path, smtp: int, http: int, provider: int) -> tuple[list[str], dict[str, str]]:
    """As twistd -ny relay.tac."""
    shutil.copy(CHECKOUT / "relay.tac", folder)
    configured(folder, smtp, http, provider)
    return ["twistd", "-ny", "relay.tac"], {}


def by_tac_and_variable(folder: Path, smtp: int, http: int, provider: int) -> tuple[list[str], dict[str, str]]:
    """MAILRELAY_CONFIG=… twistd -ny relay.tac."""
    shutil.copy(CHECKOUT / "relay.tac", folder)
    (folder / "etc").mkdir()
    file = configured(folder / "etc", smtp, http, provider)
    return ["twistd", "-ny", "relay.tac"], {"MAILRELAY_CONFIG": str(file)}


def by_file(folder: Path, smtp: int, http: int, provider: int) -> tuple[list[str], dict[str, str]]:
    """As twistd -n mailrelay --config relay.toml."""
    configured(folder, smtp, http, provider)
    return ["twistd", "-n", "mailrelay", "--config", "relay.toml"], {}


def by_flags(folder: Path, smtp: int, http: int, provider: int) -> tuple[list[str], dict[str, str]]:
    """As twistd -n mailrelay with a flag for each thing."""
    flags = [
        f"--provider=smtp://127.0.0.1:{provider}?tls=none",
        "--spool=spool",
        f"--listen=tcp:{smtp}:interface=127.0.0.1",
        f"--http=tcp:{http}:interface=127.0.0.1",
    ]
    return ["twistd", "-n", "mailrelay", *flags], {}


def configured(folder: Path, smtp: int, http: int, provider: int) -> Path:
    """A relay.toml in `folder`."""
    file = folder / "relay.toml"
    file.write_text(
        f"""
        [smtp]
        listen = ["tcp:{smtp}:interface=127.0.0.1"]
        [http]
        listen = ["tcp:{http}:interface=127.0.0.1"]
        [[provider]]
        host = "127.0.0.1"
        port = {provider}
        tls = "none"
        """
    )
    return file


@pytest.mark.parametrize("way", [by_tac, by_tac_and_variable, by_file, by_flags])
def test_a_mail_goes_through(
    bin_folder: Path,
    tmp_path: Path,
    sink: tuple[int, list[Message]],
    way: Callable[[Path, int, int, int], tuple[list[str], dict[str, str]]],
) -> None:
    """However it is started, what it was handed arrives, and SIGTERM ends it well."""
    provider, mails = sink
    smtp, http = free_port(), free_port()
    [program, *arguments], variables = way(tmp_path, smtp, http, provider)

    with Daemon([bin_folder / program, *arguments], tmp_path, environ(**variables)) as daemon:
        daemon.event("started")
        with smtplib.SMTP("127.0.0.1", smtp) as client:
            client.sendmail("a@example.com", ["b@example.net"], "Subject: through\r\n\r\nIt works.\r\n")
        finished = daemon.event("finished")
        status = daemon.stop()

    assert finished["result"] == "delivered"
    assert [mail["Subject"] for mail in mails] == ["through"]
    assert status in (0, -15)


def test_a_configuration_that_makes_no_sense(bin_folder: Path, tmp_path: Path) -> None:
    """All of it is told on file descriptor 2, without twistd's usage page, and the exit status is 1."""
    (tmp_path / "relay.toml").write_text("nonsense = 1\n[delivery]\nworkers = -1\n")
    shutil.copy(CHECKOUT / "relay.tac", tmp_path)

    for arguments in (["-ny", "relay.tac"], ["-n", "mailrelay", "--config", "relay.toml"]):
        ended = subprocess.run(
            [bin_folder / "twistd", *arguments],
            cwd=tmp_path,
            env=environ(),
            capture_output=True,
            text=True,
            check=False,
        )

        assert ended.returncode == 1
        assert "nonsense" in ended.stderr
        assert "delivery.workers" in ended.stderr
        assert "Usage:" not in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stdout + ended.stderr
