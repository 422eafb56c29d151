"""Configurations that are good: what they come to, and what stands where they say nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Event

import pytest
from attrs import evolve

from relay.config import Config, ConfigErrors, find_config, load
from relay.config.load import SYSTEM_FILE
from relay.config.origin import Origin
from relay.config.resolve import answered, machine_name, resolve
from relay.config.values import Listener, Secret

PROVIDER = '[[provider]]\nhost = "smtp.example.com"\n'


def hostname() -> str:
    return "app1.example.com"


def loaded(folder: Path, text: str, environ: dict[str, str] | None = None, name: str = "relay.toml") -> Config:
    """The configuration of a file with `text` in `folder`."""
    (folder / name).write_text(text)
    return load(folder / name, environ or {}, hostname)


EVERYTHING = r"""
hostname = "app1.example.com"
instance = "app1"

[addresses]
domain = "example.com"
aliases = { root = ["ops@example.com", "Alice"], "*@LocalHost" = ["ops@example.com"], '"a@b"' = ['"c@d"'] }
senders = { "*@app1.internal" = "noreply" }

[smtp]
listen = ["tcp:2525:interface=127.0.0.1", "tcp6:2525:interface=\\:\\:1", "unix:relay.sock:mode=660"]
max_message_size = "25MiB"
max_recipients = 1000
max_connections = 200
idle_timeout = "5m"
postmaster = "admin"
bare_newlines = "reject"
drop_headers = []
rate_limit = { messages = 100, per = "1m", by = "sender" }

[spool]
backend = "postgresql"
directory = "/var/spool/mailrelay"
drop = "drop"
dsn = { env = "MAILRELAY_DSN" }
min_free = 0

[delivery]
workers = 10
queue_size = 1000
batch_size = 20
batch_delay = "250ms"
probe = "15s"
probe_max = "10m"

[retry]
schedule = [0, 0.5, "1m", "5m"]
interval = "1h"
jitter = 0
max_age = "5d"

[bounce]
to = "bounces@example.com"
from = "Mail <mailer-daemon@example.com>"
per_hour = 0
delay_warning = "0s"

[[provider]]
name = "primary"
host = "smtp.primary.example"
port = 587
tls = "starttls"
username = "user1"
password = { file = "primary.secret" }
auth = "LOGIN"
connections = 10
messages_per_connection = 100
idle_timeout = 0
timeout = "60s"
dot_timeout = "10m"
ca_file = ""
server_name = "primary.example."
on_uncertain = "hold"
null_sender = "bounces@example.com"
pipeline_depth = 4

[[provider]]
name = "secondary"
host = "::1"
tls = "none"
username = "user2"
password = { credential = "secondary" }

[http]
listen = []

[alerts]
check_interval = "1m"
backlog = 0
oldest = "30m"
repeat = 0
webhook = "https://hooks.example.com/services/T0?x=1"
mail_to = ["ops@example.com"]
mail_from = "relay@example.com"

[log]
format = "text"
file = "relay.log"
"""


def test_a_file_that_says_everything(tmp_path: Path) -> None:
    """Each key becomes the attribute of its name: seconds, octets, absolute paths, whole addresses."""
    (tmp_path / "primary.secret").write_text("s3cret\n")
    (tmp_path / "secondary").write_text("other\r\n")
    environ = {"MAILRELAY_DSN": "host=db dbname=mail", "CREDENTIALS_DIRECTORY": str(tmp_path)}

    config = loaded(tmp_path, EVERYTHING, environ)

    assert config.instance == "app1"
    assert config.addresses.aliases == {
        "root": ("ops@example.com", "Alice@example.com"),
        "*@localhost": ("ops@example.com",),
        '"a@b"': ('"c@d"@example.com',),
    }
    assert config.addresses.senders == {"*@app1.internal": "noreply@example.com"}
    assert config.smtp.listen[2] == Listener(f"unix:{tmp_path}/relay.sock:mode=660")
    assert config.smtp.max_message_size == 25 * 1024 * 1024
    assert config.smtp.idle_timeout == 300.0
    assert config.smtp.postmaster == "admin@example.com"
    assert (config.smtp.rate_limit.messages, config.smtp.rate_limit.by) == (100, "sender")
    assert config.spool.directory == Path("/var/spool/mailrelay")
    assert config.spool.drop == tmp_path / "drop"
    assert config.spool.dsn.reveal() == "host=db dbname=mail"
    assert config.delivery.batch_delay == 0.25
    assert config.retry.schedule == (0.0, 0.5, 60.0, 300.0)
    assert config.bounce.to == "bounces@example.com"
    assert config.bounce.from_ == "Mail <mailer-daemon@example.com>"
    primary, secondary = config.providers
    assert primary.password.reveal() == "s3cret"
    assert primary.server_name == "primary.example"
    assert primary.ca_file is None
    assert secondary.password.reveal() == "other"
    assert config.http.listen == ()
    assert config.alerts.webhook.reveal() == "https://hooks.example.com/services/T0?x=1"
    assert config.log.file == tmp_path / "relay.log"
    assert config.path == tmp_path / "relay.toml"


def test_the_smallest_file(tmp_path: Path) -> None:
    """A host is enough; the rest follows from it, from the machine, or from where the file is."""
    config = loaded(tmp_path, PROVIDER)

    assert config.hostname == config.instance == config.addresses.domain == "app1.example.com"
    assert config.smtp.postmaster == "postmaster@app1.example.com"
    assert config.bounce.from_ == "Mail Delivery System <mailer-daemon@app1.example.com>"
    assert config.alerts.mail_from == "mailrelay@app1.example.com"
    assert config.spool.directory == tmp_path / "spool"
    assert config.spool.drop == tmp_path / "drop"
    [provider] = config.providers
    assert (provider.name, provider.server_name) == ("smtp.example.com", "smtp.example.com")
    assert (provider.port, provider.tls) == (587, "starttls")
    assert not provider.password
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("said", "port", "tls"),
    [
        ("", 587, "starttls"),
        ("port = 465", 465, "implicit"),
        ('tls = "implicit"', 465, "implicit"),
        ('tls = "none"', 587, "none"),
        ('port = 465\ntls = "starttls"', 465, "starttls"),
        ('port = 2525\ntls = "implicit"', 2525, "implicit"),
    ],
)
def test_port_and_tls_follow_from_each_other(tmp_path: Path, said: str, port: int, tls: str) -> None:
    """465 means implicit TLS and the reverse; otherwise STARTTLS is required on 587."""
    [provider] = loaded(tmp_path, PROVIDER + said).providers

    assert (provider.port, provider.tls) == (port, tls)


def test_a_host_with_a_final_dot(tmp_path: Path) -> None:
    """The dot keeps the resolver from searching; it is no part of a certificate's name."""
    [provider] = loaded(tmp_path, '[[provider]]\nhost = "smtp.example.com."').providers

    assert provider.host == "smtp.example.com."
    assert provider.server_name == "smtp.example.com"


def test_the_default_listener_on_ipv6_is_optional(tmp_path: Path) -> None:
    """One that a file names is not, even if it is the same."""
    by_default = loaded(tmp_path, PROVIDER).smtp.listen
    said = loaded(tmp_path, '[smtp]\nlisten = ["tcp6:2525:interface=\\\\:\\\\:1"]\n' + PROVIDER).smtp.listen

    assert [listener.optional for listener in by_default] == [False, True]
    assert said == (evolve(by_default[1], optional=False),)


@pytest.mark.parametrize(
    ("file", "environ", "directory"),
    [
        ("/srv/relay.toml", {}, "/srv/spool"),
        ("/srv/relay.toml", {"STATE_DIRECTORY": "/var/lib/relay"}, "/var/lib/relay/spool"),
        ("/etc/mailrelay/relay.toml", {"STATE_DIRECTORY": "/a:/b"}, "/a/spool"),
        ("/etc/mailrelay/relay.toml", {}, "/var/lib/mailrelay/spool"),
        ("/etc/relay.toml", {"STATE_DIRECTORY": ""}, "/var/lib/mailrelay/spool"),
        ("/etcetera/relay.toml", {}, "/etcetera/spool"),
    ],
)
def test_where_the_spool_is(file: str, environ: dict[str, str], directory: str) -> None:
    """Where systemd keeps state, where Debian does for a file below /etc, else beside the file; so for the drop."""
    origin = Origin(file, Path(file).parent, environ)

    config = resolve(Config(path=Path(file)), origin, hostname)

    assert config.spool.directory == Path(directory)
    assert config.spool.drop == Path(directory).parent / "drop"


def test_a_path_that_goes_up(tmp_path: Path) -> None:
    """What lies beside such a folder is found where the system would find it."""
    (tmp_path / "etc").mkdir()
    config = loaded(tmp_path / "etc", '[spool]\ndirectory = "../spool"\n' + PROVIDER)

    assert config.spool.directory == tmp_path.resolve() / "spool"
    assert config.spool.drop == tmp_path.resolve() / "drop"


def test_a_relative_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon changes its folder, so every path is absolute."""
    loaded(tmp_path, PROVIDER)
    monkeypatch.chdir(tmp_path)

    config = load(Path("relay.toml"), {}, hostname)

    assert config.path == tmp_path / "relay.toml"
    assert config.spool.directory == tmp_path / "spool"


def test_a_byte_order_mark(tmp_path: Path) -> None:
    """Some editors put one there; it is no error."""
    assert loaded(tmp_path, "\ufeff" + PROVIDER).providers


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST.", "::ffff:127.0.0.1"])
def test_a_password_in_clear_to_this_machine(tmp_path: Path, host: str) -> None:
    """A tunnel or a local daemon may be logged in to without TLS."""
    login = 'tls = "none"\nusername = "user1"\npassword = "hunter2"'

    assert loaded(tmp_path, f'[[provider]]\nhost = "{host}"\n{login}').providers[0].password


@pytest.mark.parametrize("host", ["127.0.0.1.example.com", "128.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "localhost.com"])
def test_a_password_in_clear_to_another_machine(tmp_path: Path, host: str) -> None:
    """That is an error, whatever the name looks like."""
    login = 'tls = "none"\nusername = "user1"\npassword = "hunter2"'

    with pytest.raises(ConfigErrors, match="in clear"):
        loaded(tmp_path, f'[[provider]]\nhost = "{host}"\n{login}')


def test_a_name_that_is_the_host_of_another(tmp_path: Path) -> None:
    """Two providers may share a host, but for their names."""
    text = '[[provider]]\nhost = "smtp.example.com"\nname = "first"\n' + PROVIDER

    assert [provider.name for provider in loaded(tmp_path, text).providers] == ["first", "smtp.example.com"]


def test_two_listeners_on_any_free_port(tmp_path: Path) -> None:
    """Port 0 is another one each time."""
    text = '[smtp]\nlisten = ["tcp:0:interface=127.0.0.1"]\n[http]\nlisten = ["tcp:0:interface=127.0.0.1"]\n'

    assert loaded(tmp_path, text + PROVIDER).http.listen == (Listener("tcp:0:interface=127.0.0.1"),)


OLDER = {
    "hostname": "app1.example.com",
    "smtp": {"maxMessageSize": "1MiB", "rateLimit": {"messages": 5, "per": 90}},
    "addresses": {"aliases": {"some_one": ["ops@example.com"]}},
    "spool": {"minFree": 1024},
    "bounce": {"delayWarning": 0},
    "batchSize": 7,
    "batchDelay": 1500,
    "forwardProviders": [
        {"host": "smtp1.example.com", "port": 465, "username": "user1", "password": "hunter2"},
        {"host": "smtp2.example.com", "port": 587, "username": "", "password": ""},
    ],
}


def test_the_older_form(tmp_path: Path) -> None:
    """JSON in camelCase says the same; its batch delay is in milliseconds, its other numbers are seconds."""
    config = loaded(tmp_path, json.dumps(OLDER), name="relay.json")

    assert config.smtp.max_message_size == 2**20
    assert config.smtp.rate_limit.per == 90.0
    assert config.addresses.aliases == {"some_one": ("ops@example.com",)}
    assert config.spool.min_free == 1024
    assert config.bounce.delay_warning == 0.0
    assert config.delivery.batch_size == 7
    assert config.delivery.batch_delay == 1.5
    first, second = config.providers
    assert (first.host, first.tls, first.password) == ("smtp1.example.com", "implicit", Secret("hunter2"))
    assert (second.host, second.username, bool(second.password)) == ("smtp2.example.com", "", False)


@pytest.mark.parametrize(("said", "seconds"), [(250, 0.25), (0, 0.0), (0.5, 0.0005), ("2s", 2.0)])
def test_a_batch_delay_in_the_older_form(tmp_path: Path, said: object, seconds: float) -> None:
    """A number is in milliseconds in [delivery] too; a unit says itself what it is."""
    text = json.dumps({"delivery": {"batchDelay": said}, "provider": [{"host": "smtp.example.com"}]})

    assert loaded(tmp_path, text, name="relay.json").delivery.batch_delay == seconds


def test_which_file_is_found(tmp_path: Path) -> None:
    """The environment's, else the current folder's, else the system's."""
    assert find_config({}, tmp_path) == SYSTEM_FILE
    assert find_config({"MAILRELAY_CONFIG": ""}, tmp_path) == SYSTEM_FILE

    (tmp_path / "relay.toml").touch()

    assert find_config({}, tmp_path) == tmp_path / "relay.toml"
    assert find_config({"MAILRELAY_CONFIG": "other.toml"}, tmp_path) == tmp_path / "other.toml"
    assert find_config({"MAILRELAY_CONFIG": "/srv/other.toml"}, tmp_path) == Path("/srv/other.toml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The message names it and says how to name another one."""
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path / "relay.toml", {}, hostname)

    [problem] = caught.value.problems
    assert problem.file == str(tmp_path / "relay.toml")
    assert problem.what == f"cannot be read: {os.strerror(2)}"
    assert "--config" in problem.fix


@pytest.mark.parametrize("name", ["relay.toml", "relay.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, "a = " + "9" * 5000, '{"batchDelay": ' + "9" * 5000 + "}", "\0"])
def test_a_file_that_only_malice_would_write(tmp_path: Path, name: str, text: str) -> None:
    """It gets an error like any other."""
    with pytest.raises(ConfigErrors, match=f"{name}: is no"):
        loaded(tmp_path, text, name=name)


def test_a_name_server_that_does_not_answer() -> None:
    """A start, or a reload, waits for it no longer than it was told to."""
    never = Event()

    assert answered(lambda: str(never.wait()), 0.01) is None
    assert answered(lambda: "app1.example.com", 5.0) == "app1.example.com"
    never.set()


def test_the_machines_own_name() -> None:
    """There always is one, and it is asked for once."""
    assert machine_name()
    assert machine_name() is machine_name()
