"""SIGHUP: a new configuration takes effect, with no connection dropped and no mail touched."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.daemon import PATIENCE, Daemon
from tests.running import COMMAND, Running, Settings, configure, given, letter, soon
from tests.sink import Sink


@pytest.fixture
def sinks() -> Iterator[tuple[Sink, Sink]]:
    """Two providers."""
    with Sink("first") as first, Sink("second") as second:
        yield first, second


def reload(relay: Running) -> str:
    """Have the configuration read again; what is said of that."""
    relay.process.send_signal(signal.SIGHUP)
    return str(relay.event("reloaded")["message"])


def test_other_providers(tmp_path: Path, sinks: tuple[Sink, Sink]) -> None:
    """Mail goes to whom the file names now, in the new order; what waited in the line of the old one goes as well."""
    first, second = sinks
    configure(tmp_path, [first.table()])
    with Running(tmp_path) as relay:
        relay.submit(letter("one"))
        first.wait_for(1)
        first.stop()
        relay.submit(letter("two"))
        relay.event("provider_down")

        configure(tmp_path, [second.table()])
        reload(relay)
        relay.submit(letter("three"))
        second.wait_for(2)
        soon(lambda: relay.health()["queue"]["total"] == 0, "nothing waits")
        names = [provider["name"] for provider in relay.health()["providers"]]
        first.start()
        configure(tmp_path, [first.table(), second.table()])
        reload(relay)
        relay.submit(letter("four"))
        first.wait_for(2)

    assert names == ["second"]


def test_a_transaction_is_under_way(tmp_path: Path, sinks: tuple[Sink, Sink]) -> None:
    """It ends where it began, also if its provider is not in the file any more; the client's session goes on."""
    first, second = sinks
    configure(tmp_path, [first.table()])
    gate = first.gate(".")
    with Running(tmp_path) as relay:
        with relay.client() as client:
            client.mail("a@example.com")
            with gate:
                relay.submit(letter("one"))
                first.wait_until_reached(".")
                configure(tmp_path, [second.table()], {"smtp": {"max_message_size": 12345}})
                reload(relay)
            client.rcpt("b@example.net")
            client.data(letter("two"))
            second.wait_for(1)
            first.wait_for(1)
            client.ehlo()
            size = client.esmtp_features["size"]
        soon(lambda: relay.health()["queue"]["total"] == 0, "nothing waits")
        status = relay.stop()
    lines = [json.loads(line)["event"] for line in relay.errors if line.startswith("{")]

    assert size == "12345"
    assert lines.count("delivered") == 2
    assert not {"uncertain", "deferred", "error"} & set(lines)
    assert status in (0, -15)


def test_what_is_kept_open(tmp_path: Path, sinks: tuple[Sink, Sink]) -> None:
    """A connection to a provider that has not changed is used again; of one that has, it is not."""
    first, _ = sinks
    configure(tmp_path, [first.table()])
    with Running(tmp_path) as relay:
        relay.submit(letter("one"))
        first.wait_for(1)
        reload(relay)
        relay.submit(letter("two"))
        first.wait_for(2)
        configure(tmp_path, [first.table(connections=3)])
        reload(relay)
        relay.submit(letter("three"))
        mails = first.wait_for(3)

    assert [mail.connection for mail in mails] == [1, 1, 2]


def test_a_secret_that_was_changed(tmp_path: Path) -> None:
    """Its file is read again, and the provider that refused the old one is tried at once."""
    authority = trustme.CA()
    (tmp_path / "secret").write_text("wrong\n")
    with Sink("sink", tls="starttls", authority=authority, login=("user", "sesame")) as sink:
        table = sink.table(ca_file=sink.write_authority(tmp_path / "roots.pem"))
        configure(tmp_path, [{key: value for key, value in table.items() if key != "password"}])
        file = tmp_path / "relay.toml"
        file.write_text(file.read_text() + 'password = { file = "secret" }\n')
        with Running(tmp_path) as relay:
            relay.submit(letter("one"))
            relay.event("provider_down")
            (tmp_path / "secret").write_text("sesame\n")
            reload(relay)
            sink.wait_for(1, within=20)


def test_a_provider_that_is_down_is_tried_at_once(tmp_path: Path, sinks: tuple[Sink, Sink]) -> None:
    """Also where nothing else has changed."""
    first, _ = sinks
    first.stop()
    configure(tmp_path, [first.table()], {"delivery": {"probe": "1h", "probe_max": "1h"}})
    with Running(tmp_path) as relay:
        relay.submit(letter("one"))
        relay.event("provider_down")
        first.start()
        reload(relay)
        first.wait_for(1, within=20)


def test_a_file_that_makes_no_sense(tmp_path: Path, sinks: tuple[Sink, Sink]) -> None:
    """It is refused with the words of the start, and all goes on as it was."""
    first, _ = sinks
    configure(tmp_path, [first.table()])
    with Running(tmp_path) as relay:
        (tmp_path / "relay.toml").write_text('nonsense = 1\n[delivery]\nworkers = "many"\n')
        relay.process.send_signal(signal.SIGHUP)
        messages = [relay.event("error")["message"] for _ in range(3)]
        relay.submit(letter("one"))
        first.wait_for(1)
        configure(tmp_path, [first.table()])
        reload(relay)

    for key in ("nonsense", "delivery.workers", "provider"):
        assert any(key in str(message) for message in messages)


def test_what_needs_a_restart(tmp_path: Path, sinks: tuple[Sink, Sink]) -> None:
    """It is named in one line; the rest takes effect."""
    first, _ = sinks
    configure(tmp_path, [first.table()])
    changes: Settings = {
        "": {"hostname": "other.example", "instance": "two"},
        "spool": {"directory": "elsewhere"},
        "http": {"listen": ["tcp:0:interface=127.0.0.2"]},
        "addresses.aliases": {"root": ["ops@example.net"]},
    }
    with Running(tmp_path) as relay:
        configure(tmp_path, [first.table()], changes)
        said = reload(relay)
        relay.submit(letter("one"), to="root")
        [mail] = first.wait_for(1)
        with relay.client() as client:
            greeted = client.ehlo()[1]
        folders = {path.name for path in tmp_path.iterdir()}

    assert said.endswith("but not until a restart: hostname, instance, http.listen, spool.directory")
    assert mail.recipients == (b"ops@example.net",)
    assert greeted.startswith(b"relay.example")
    assert "elsewhere" not in folders


def test_the_log_goes_on_in_a_new_file(tmp_path: Path, sinks: tuple[Sink, Sink]) -> None:
    """As logrotate wants it."""
    first, _ = sinks
    log = tmp_path / "relay.log"
    configure(tmp_path, [first.table()], {"log": {"file": "relay.log"}})
    relay = Daemon(COMMAND, tmp_path, os.environ)
    with relay:
        soon(lambda: log.exists() and "started" in log.read_text(), "it runs")
        log.rename(tmp_path / "relay.log.1")
        relay.process.send_signal(signal.SIGHUP)
        soon(lambda: log.exists() and '"event":"reloaded"' in log.read_text(), "it goes on")


def test_many_at_once(tmp_path: Path, sinks: tuple[Sink, Sink]) -> None:
    """Signals that come while one is dealt with are not lost, and mail flows meanwhile."""
    first, second = sinks
    configure(tmp_path, [first.table(), second.table()])
    with Running(tmp_path) as relay:
        with smtplib.SMTP("127.0.0.1", relay.smtp, timeout=PATIENCE) as client:
            for number in range(50):
                relay.process.send_signal(signal.SIGHUP)
                client.sendmail("a@example.com", ["b@example.net"], letter(f"mail-{number}"))
        soon(lambda: len(first.mails) + len(second.mails) == 50, "all are delivered")
        reload(relay)
        soon(lambda: relay.health()["queue"]["total"] == 0, "nothing waits")
        assert relay.health()["totals"]["failedEmails"] == 0


def test_reloaded_under_load(tmp_path: Path, sinks: tuple[Sink, Sink]) -> None:
    """While connections carry one mail after another none of them is dropped, and no mail arrives twice."""
    first, second = sinks
    configure(tmp_path, [first.table(), second.table()])
    over = threading.Event()
    taken: list[str] = []
    dropped: list[str] = []

    def application(relay: Running) -> None:
        try:
            with relay.client() as client:
                while not over.is_set():
                    taken.append(given(client, letter("mail")))
        except (OSError, smtplib.SMTPException) as error:
            dropped.append(str(error))

    with Running(tmp_path) as relay:
        applications = [threading.Thread(target=application, args=(relay,)) for _ in range(4)]
        for each in applications:
            each.start()
        for number in range(10):
            configure(tmp_path, [first.table(timeout=30 + number), second.table()][:: -1 if number % 2 else 1])
            reload(relay)
            before = len(taken)
            soon(lambda before=before: len(taken) > before + 10, "mail is taken")  # type: ignore[misc]
        over.set()
        for each in applications:
            each.join()
        soon(lambda: relay.health()["queue"]["total"] == 0, "all are delivered")
        copies = Counter(mail.id for mail in (*first.mails, *second.mails))

    assert dropped == []
    assert set(copies) == set(taken)
    assert set(copies.values()) == {1}
