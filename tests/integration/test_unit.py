"""The files for systemd that the package ships: hardened, valid, and with room for all that the daemon does."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from relay.cli.print_unit import unit
from relay.config import Config, load
from tests.fleet import postgresql
from tests.postgres import Servers
from tests.running import TWISTD, Running, configure, letter
from tests.sink import Sink

MAILRELAY = TWISTD.with_name("mailrelay")

EXPOSURE = 2.0
"""What `systemd-analyze security` may give at most, from 0 (safe) to 10."""


def printed(*arguments: str) -> str:
    """What `mailrelay print-unit` says."""
    return subprocess.run([MAILRELAY, "print-unit", *arguments], capture_output=True, text=True, check=True).stdout


def setting(text: str, name: str) -> list[str]:
    """All values of a setting, in their order."""
    return re.findall(f"^{name}=(.*)$", text, re.MULTILINE)


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize(("name", "flags"), [("mailrelay", []), ("mailrelay@1", ["--template"])])
def test_hardening(tmp_path: Path, name: str, flags: list[str]) -> None:
    """By systemd itself the service is rated as hardly exposed."""
    file = tmp_path / f"{name}.service"
    file.write_text(printed(*flags))

    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", file],
        capture_output=True,
        text=True,
        check=True,
    )

    rated = re.search(f"Overall exposure level for {name}.service: ([0-9.]+)", said.stdout)
    assert rated is not None
    assert float(rated[1]) <= EXPOSURE


@pytest.mark.needs("systemd-analyze")
def test_validity(tmp_path: Path) -> None:
    """There is nothing for systemd to say about the units."""
    units: dict[str, list[str]] = {
        "mailrelay.service": [],
        "mailrelay.socket": ["--socket"],
        "mailrelay@1.service": ["--template"],
    }
    for name, flags in units.items():
        (tmp_path / name).write_text(printed(*flags))

    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *[tmp_path / name for name in units]],
        capture_output=True,
        text=True,
        check=False,
    )

    assert [line for line in said.stderr.splitlines() if "mailrelay" in line] == []
    assert said.returncode == 0


def test_the_path_of_this_installation() -> None:
    """The service starts the twistd that stands beside the command that was asked."""
    [command] = setting(printed(), "ExecStart")

    assert command.split()[0] == str(TWISTD)
    assert command.split()[1:] == ["--nodaemon", "--pidfile=", "mailrelay", "--config", "/etc/mailrelay/relay.toml"]


def test_an_instance() -> None:
    """It has a configuration and folders of its own, and is else what the one service is."""
    one, each = (printed(*flags).splitlines() for flags in ([], ["--template"]))
    differs = [line for line in each if line not in one and not line.startswith("#")]

    assert differs == [
        "Description=Local mail relay, instance %i",
        "After=postgresql.service network.target nss-lookup.target",
        f"ExecStart={TWISTD} --nodaemon --pidfile= mailrelay --config /etc/mailrelay/%i.toml",
        "LoadCredential=database.secret:/etc/mailrelay/database.secret",
        "StateDirectory=mailrelay/%i",
        "RuntimeDirectory=mailrelay/%i",
    ]
    assert len(each) == len(one) + 1


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/opt/50%/twistd", "/opt/50%%/twistd"),
        ("/opt/a b/twistd", '"/opt/a b/twistd"'),
        ('/opt/a"b\\c$/twistd', '"/opt/a\\"b\\\\c$$/twistd"'),
    ],
)
def test_a_path_that_systemd_would_take_apart(path: str, word: str) -> None:
    """It is written so that it stays one word (systemd.service(5))."""
    [command] = setting(unit("mailrelay.service", Path(path)), "ExecStart")

    assert command.startswith(f"{word} --nodaemon")


def credentials(folder: Path) -> dict[str, str]:
    """An environment in which systemd has left what LoadCredential= names."""
    for name in setting(printed(), "LoadCredential"):
        (folder / name.partition(":")[0]).write_text("sesame\n")
    return {"CREDENTIALS_DIRECTORY": str(folder), "STATE_DIRECTORY": "/var/lib/mailrelay"}


def example(folder: Path, text: str) -> Config:
    """A configuration as the service reads it."""
    (folder / "relay.toml").write_text(text)
    return load(folder / "relay.toml", credentials(folder))


def test_the_example(tmp_path: Path) -> None:
    """It is taken as it is, and its secret is the one that the service loads."""
    config = example(tmp_path, printed("--example"))

    [provider] = config.providers
    assert provider.password.reveal() == "sesame"
    assert config.spool.directory == Path("/var/lib/mailrelay/spool")


def test_the_example_with_all_of_it(tmp_path: Path) -> None:
    """What is a comment may be taken in as it stands."""
    text = re.sub(r"^# (?=[a-z_]+ = |\[)", "", printed("--example"), flags=re.MULTILINE)
    for name in ("backup.secret", "webhook.secret"):
        (tmp_path / name).write_text("https://alerts.example/\n")

    config = example(tmp_path, text)

    assert [each.name for each in config.providers] == ["primary", "backup"]
    assert config.alerts.mail_to == ("ops@example.com",)


def test_the_sockets_in_the_configuration(tmp_path: Path) -> None:
    """The endpoints that the socket unit names are those of its lines, in their order."""
    text = printed("--socket")
    [listen] = re.findall(r"^# +(listen = .*)$", text, re.MULTILINE)
    domains = ["INET6" if "[" in place else "INET" for place in setting(text, "ListenStream")]

    config = example(tmp_path, f'[smtp]\n{listen}\n[[provider]]\nhost = "smtp.provider.example"\n')

    inherited = [each.endpoint for each in config.smtp.listen if each.endpoint.startswith("systemd:")]
    assert inherited == [f"systemd:domain={domain}:index={number}" for number, domain in enumerate(domains)]


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A provider with TLS and a login."""
    with Sink(tls="starttls", authority=trustme.CA(), login=("user1", "sesame")) as sink:
        yield sink


def allowed(sets: list[str]) -> set[str]:
    """The system calls in these of systemd's sets."""
    found: set[str] = set()
    for name in sets:
        said = subprocess.run(
            ["systemd-analyze", "syscall-filter", "--no-pager", name], capture_output=True, text=True, check=True
        )
        members = set(re.findall(r"^ +(@?[a-z0-9_-]+)$", said.stdout, re.MULTILINE))
        inner = sorted(each for each in members if each.startswith("@"))
        found |= {each for each in members if not each.startswith("@")} | (allowed(inner) if inner else set())
    return found


@pytest.mark.needs("systemd-analyze", "strace")
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_the_system_calls(tmp_path: Path, sink: Sink, backend: str, postgresql_servers: Servers) -> None:
    """A life with a mail in it makes no call that SystemCallFilter= denies."""
    ca_file = sink.write_authority(tmp_path / "ca.pem")
    spool = postgresql(postgresql_servers["pip"].new()) if backend == "postgresql" else {}
    configure(tmp_path, [sink.table(ca_file=ca_file)], {"spool": spool})
    trace = tmp_path / "trace"
    with Running(tmp_path, under=["strace", "-f", "-qq", "-c", "-U", "name", "-o", str(trace)]) as relay:
        relay.submit(letter("small"), letter("large", 400_000))
        for _ in range(2):
            relay.event("finished")
        [child] = Path(f"/proc/{relay.process.pid}/task/{relay.process.pid}/children").read_text().split()
        os.kill(int(child), 15)
        relay.event("stopped")
        relay.process.wait(60)
    made = set(re.findall(r"^([a-z0-9_]+)$", trace.read_text(), re.MULTILINE)) - {"total", "syscall"}

    given, taken = setting(printed(), "SystemCallFilter")
    assert "write" in made
    assert made - allowed([given]) == set()
    as_root = {"fchown"} if os.geteuid() == 0 else set()  # SQLite's: what root opens is to stay its owner's
    assert (made - as_root) & allowed(taken.removeprefix("~").split()) == set()
