"""The how-tos: every command in them is run, against a daemon, with the machine's folders moved into the test's own.

What would change the machine, or is not on every one, is played by a program that does nothing.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.tap import Options
from tests.daemon import CHECKOUT, PATIENCE
from tests.papers import blocks, moved
from tests.running import TWISTD, Running, configure
from tests.sink import Sink

HOW_TOS = sorted((CHECKOUT / "docs" / "how-to").glob("*.md"))
README = (CHECKOUT / "README.md").read_text("utf-8")
SCRIPTS = [page for page in HOW_TOS if blocks(page, "sh") and page.stem != "several-instances"]

UUID = "019b7c2e-6b0e-7000-8000-000000000001"

PLAYED = {
    **dict.fromkeys(("systemctl", "systemd-sysusers", "postqueue"), ""),
    "journalctl": f"""echo '{{"event":"finished","id":"{UUID}"}}'""",
    "curl": f'exec {sys.executable} -c "import sys, urllib.request as web; '
    'print(web.urlopen(sys.argv[-1]).read().decode())" "$@"',
}
"""Programs that are not to be run here, as scripts."""

LEAST = {"php.md": 1, "cron.md": 1, "django.md": 1, "several-providers.md": 1, "systemd.md": 1}
"""How many mails the provider gets by a page's commands."""


class Machine:
    """A daemon and its provider, and a folder that stands for the machine's root."""

    def __init__(self, root: Path, sink: Sink) -> None:
        self.root = root
        self.sink = sink
        for folder in ("etc/sysusers.d", "etc/systemd/system", "etc/mailrelay", "usr/sbin", "usr/bin", "played"):
            (root / folder).mkdir(parents=True)
        for name, script in PLAYED.items():
            file = root / "played" / name
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(0o755)
        self.configuration = configure(
            root / "etc/mailrelay",
            [sink.table()],
            {"addresses": {"domain": "example.com"}, "spool": {"directory": str(root / "spool")}},
        )
        self.relay = Running(root / "etc/mailrelay")

    def run(self, script: str) -> None:
        """The commands of one block; the configuration is as it was, whatever blocks before have done to it."""
        kept = self.configuration.read_text()
        ports = {"2525": str(self.relay.smtp), "8025": str(self.relay.http), "/opt/mailrelay/bin": str(TWISTD.parent)}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", moved(script, self.root, ports)],
            cwd=self.root,
            env={
                **os.environ,
                "PATH": f"{self.root}/played:{TWISTD.parent}:{os.environ['PATH']}",
                "MAILRELAY_CONFIG": str(self.configuration),
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.configuration.write_text(kept)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One for all pages: they do not get into each other's way."""
    with Sink(login=("user1", "sesame")) as sink:
        machine = Machine(tmp_path_factory.mktemp("machine"), sink)
        with machine.relay:
            yield machine


@pytest.mark.parametrize("page", SCRIPTS, ids=lambda page: page.stem)
def test_the_commands(machine: Machine, page: Path) -> None:
    """Each block ends well, one after another, and mails that they send arrive."""
    before = len(machine.sink.mails)

    for script in blocks(page, "sh"):
        machine.run(script)

    machine.sink.wait_for(before + LEAST.get(page.name, 0))


def test_what_systemd_is_given(machine: Machine) -> None:
    """The drop-ins have settings of systemd's in a section of its; `systemd.md` says what it rates the service."""
    page = CHECKOUT / "docs" / "how-to" / "systemd.md"
    for text in blocks(page, "ini"):
        parsed = configparser.RawConfigParser()
        parsed.read_string(text)
        assert parsed.sections() == ["Service"]
    assert "LoadCredential=backup.secret:" in blocks(page, "ini")[0]


@pytest.mark.needs("systemd-analyze")
def test_the_hardening_that_is_promised(machine: Machine, tmp_path: Path) -> None:
    """The number in `systemd.md` is systemd's, and its drop-ins leave a unit that systemd takes."""
    page = CHECKOUT / "docs" / "how-to" / "systemd.md"
    [number] = re.findall(r"rates the service ([0-9.]+) of 10", page.read_text())
    unit = tmp_path / "mailrelay.service"
    unit.write_text(
        subprocess.run([TWISTD.with_name("mailrelay"), "print-unit"], capture_output=True, text=True, check=True).stdout
    )

    def said(*arguments: str) -> str:
        command = ["systemd-analyze", *arguments, str(unit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    rated = re.search(r"exposure level for mailrelay.service: ([0-9.]+)", said("security", "--offline=true"))
    for text in blocks(page, "ini"):
        unit.write_text(unit.read_text() + "\n" + text)

    assert rated is not None
    assert abs(float(rated[1]) - float(number)) <= 0.2
    assert "mailrelay.service:" not in said("verify", "--man=no")


def test_django(machine: Machine) -> None:
    """The settings are Python, and lead to where mail is taken."""
    [text] = blocks(CHECKOUT / "docs" / "how-to" / "django.md", "python")
    settings: dict[str, object] = {}
    exec(text, settings)
    port = {2525: machine.relay.smtp}[int(str(settings["EMAIL_PORT"]))]

    with smtplib.SMTP(str(settings["EMAIL_HOST"]), port, timeout=PATIENCE) as client:
        client.sendmail(str(settings["SERVER_EMAIL"]), ["b@example.net"], "Subject: hello\n\nIt works.\n")


def test_php(machine: Machine) -> None:
    """What stands in php.ini is a command, which PHP gives a mail on standard input."""
    [text] = blocks(CHECKOUT / "docs" / "how-to" / "php.md", "ini")
    [command] = re.findall('^sendmail_path = "(.*)"$', text, re.MULTILINE)

    machine.run(f"printf 'To: b@example.net\\nSubject: hello\\n\\nIt works.\\n' | {command} -fshop@example.com")


def test_the_image() -> None:
    """It starts a program of ours, in a way that twistd understands."""
    page = CHECKOUT / "docs" / "how-to" / "containers.md"
    [text] = blocks(page, "dockerfile")
    twistd, *arguments = json.loads(re.findall(r"^CMD (.*)$", text, re.MULTILINE)[0])
    check, *_ = json.loads(re.findall(r"^HEALTHCHECK CMD (.*)$", text, re.MULTILINE)[0])
    options = Options()
    options.parseOptions(arguments[arguments.index("mailrelay") + 1 :])

    assert twistd == "twistd"
    assert set(arguments[: arguments.index("mailrelay")]) == {"--nodaemon", "--pidfile="}
    assert options.flags.config == Path("/etc/mailrelay/relay.toml")
    assert TWISTD.with_name(check).exists()


def test_the_mail_of_the_readme(machine: Machine) -> None:
    """The line of Python hands in a mail."""
    [line] = re.findall("^    (python3 -c .*)$", README, re.MULTILINE)
    before = len(machine.sink.mails)

    machine.run(line)

    assert b"It works." in machine.sink.wait_for(before + 1)[-1].content


def test_the_first_configuration_of_the_readme(machine: Machine) -> None:
    """A secret that only its owner reads, a check of the provider, and a mail whose way is shown."""
    [secret] = re.findall(r"^    (\(umask .*)$", README, re.MULTILINE)
    check, send_test = re.findall("^    (/opt/mailrelay/bin/mailrelay .*)$", README, re.MULTILINE)
    before = len(machine.sink.mails)

    machine.run(f"{secret} <<< sesame; test $(stat -c %a provider.secret) = 600")
    machine.run(f"cp $MAILRELAY_CONFIG relay.toml; {check}; {send_test}")

    assert machine.sink.wait_for(before + 1)[-1].sender == b"me@example.com"


@pytest.mark.needs("swaks")
def test_the_other_mail_of_the_readme(machine: Machine) -> None:
    """So does swaks."""
    [line] = re.findall("^    (swaks .*)$", README, re.MULTILINE)
    before = len(machine.sink.mails)

    machine.run(line)

    machine.sink.wait_for(before + 1)
