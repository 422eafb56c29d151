"""The programs that people send mail with: what they hand in is what a provider gets, octet for octet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from tests.daemon import PATIENCE
from tests.npm import from_npm
from tests.running import Running, configure
from tests.sending import SENDMAIL
from tests.sink import Mail, Sink

FROM = "a@example.com"
TO = ("b@example.net", "c@example.net")
TEXT = (
    ".\r\n..\r\n.a dot first\r\nblanks at the end \t \r\nQUIT\r\nFrom here\r\n"
    f"{'long ' * 190}\r\n\r\n%FROM_ADDRESS% \\n € öäü\r\n.\r\n\r\n\r\n"
)
LETTER = (
    "Date: Thu, 01 Jan 2026 10:00:00 +0000\r\nMessage-ID: <letter@app.example>\r\nFrom: Jörg <a@example.com>\r\n"
    f"To: b@example.net,\r\n\tc@example.net\r\nSubject: Grüße aus Köln\r\n\r\n{TEXT}"
).encode()
"""What one of them might change: dots, blanks, empty lines at the end, a long line, eight bits, words of its own."""

SMTPLIB = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1])) as client, open("letter.eml", "rb") as letter:
    client.sendmail("a@example.com", ["b@example.net", "c@example.net"], letter.read())
"""
NODEMAILER = """
const [port, pool] = process.argv.slice(1);
const transport = require("nodemailer").createTransport({ host: "127.0.0.1", port: +port, pool: pool === "pool" });
const envelope = { from: "a@example.com", to: ["b@example.net", "c@example.net"] };
transport.sendMail({ envelope, raw: require("fs").readFileSync("letter.eml") }).then(() => transport.close());
"""
NET_SMTP = r"""
use Net::SMTP;
open my $letter, "<:raw", "letter.txt" or die;
my $smtp = Net::SMTP->new("127.0.0.1", Port => $ARGV[0]) or die;
$smtp->mail("a\@example.com") && $smtp->to("b\@example.net", "c\@example.net") && $smtp->data or die;
$smtp->datasend($_) while <$letter>;
$smtp->dataend && $smtp->quit or die;
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the daemon and every program run: the letter is there in all the forms that they read."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "letter.eml").write_bytes(LETTER)
    (folder / "letter.txt").write_bytes(LETTER.replace(b"\r\n", b"\n"))
    (folder / "letter.data").write_bytes(LETTER.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    return folder


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """The provider behind all of it."""
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def relay(sink: Sink, folder: Path) -> Iterator[Running]:
    """One daemon for all of it."""
    listen = ["tcp:0:interface=127.0.0.1", "unix:smtp.sock"]
    configure(folder, [sink.table()], {"smtp": {"listen": listen}, "addresses": {"domain": "example.com"}})
    with Running(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(sink: Sink) -> None:
    sink.mails.clear()


@pytest.fixture(scope="module")
def nodemailer(folder: Path) -> None:
    """Node's package, from the registry that npm knows."""
    from_npm(folder, "nodemailer@7")


def run(folder: Path, command: Sequence[object], words: bytes = b"", environ: Mapping[str, str] | None = None) -> None:
    """A program, which must be content."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=os.environ | (environ or {}),
        input=words,
        check=False,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def see(sink: Sink, content: bytes = LETTER, to: Sequence[str] = TO) -> Mail:
    """The one mail that came, as it must be."""
    [mail] = sink.wait_for(1)
    assert mail.sender.decode() == FROM
    assert [recipient.decode() for recipient in mail.recipients] == list(to)
    assert mail.below_trace == content
    return mail


def test_smtplib(relay: Running, sink: Sink, folder: Path) -> None:
    """Python's client, in a program of its own."""
    run(folder, [sys.executable, "-c", SMTPLIB, relay.smtp])

    see(sink)


def test_smtplib_sends_a_message(relay: Running, sink: Sink) -> None:
    """In eight bits where it is told to, and to an address that is not ASCII."""
    message = EmailMessage(SMTP.clone(cte_type="8bit", utf8=True))
    message["From"], message["To"], message["Subject"] = "Jörg <jörg@example.com>", "bücher@bücher.example", "Grüße"
    message["Date"], message["Message-ID"] = "Thu, 01 Jan 2026 10:00:00 +0000", "<m@app.example>"
    message.set_content(TEXT, cte="8bit")

    with relay.client() as client:
        assert client.send_message(message) == {}

    [mail] = sink.wait_for(1)
    assert (mail.sender, mail.recipients) == ("jörg@example.com".encode(), ("bücher@bücher.example".encode(),))
    assert mail.below_trace == message.as_bytes()
    assert b" with UTF8SMTP id " in mail.content


@pytest.mark.needs("swaks")
@pytest.mark.parametrize("pipeline", [[], ["--pipeline"]])
def test_swaks(relay: Running, sink: Sink, folder: Path, pipeline: list[str]) -> None:
    """With its own dots, so that it changes nothing; and with MAIL, RCPT and DATA at once."""
    envelope = ["--from", FROM, "--to", ",".join(TO)]
    data = ["--no-data-fixup", "--data", "@letter.data"]
    run(folder, ["swaks", "--server", f"127.0.0.1:{relay.smtp}", *envelope, *data, *pipeline])

    see(sink)


@pytest.mark.needs("msmtp")
def test_msmtp(relay: Running, sink: Sink, folder: Path) -> None:
    """As it stands in for sendmail(1), with lines that end either way."""
    for letter in ("letter.txt", "letter.eml"):
        sink.mails.clear()
        words = (folder / letter).read_bytes()
        run(folder, ["msmtp", "--host=127.0.0.1", f"--port={relay.smtp}", f"--from={FROM}", "-oi", *TO], words)

        see(sink)


@pytest.mark.needs("node", "npm")
@pytest.mark.usefixtures("nodemailer")
@pytest.mark.parametrize("pool", [[], ["pool"]])
def test_nodemailer(relay: Running, sink: Sink, folder: Path, pool: list[str]) -> None:
    """Over a connection of its own, and from its pool."""
    run(folder, ["node", "-e", NODEMAILER, relay.smtp, *pool])

    see(sink)


@pytest.mark.needs("perl")
def test_net_smtp(relay: Running, sink: Sink, folder: Path) -> None:
    """Perl's client."""
    run(folder, ["perl", "-e", NET_SMTP, relay.smtp])

    see(sink)


@pytest.mark.needs("php")
def test_php(relay: Running, sink: Sink, folder: Path) -> None:
    """PHP's mail(), which calls sendmail(1)."""
    words = TEXT.replace("\r\n", "\n").removesuffix("\n").encode()
    code = (
        'mail("b@example.net", "Hi", stream_get_contents(STDIN), "From: a@example.com", "-fa@example.com") or exit(1);'
    )
    run(
        folder,
        ["php", "-d", f"sendmail_path={SENDMAIL} -t -i", "-r", code],
        words,
        {"MAILRELAY_CONFIG": str(folder / "relay.toml")},
    )

    [mail] = sink.wait_for(1)
    head, _, text = mail.below_trace.partition(b"\r\n\r\n")
    assert {b"To: b@example.net", b"Subject: Hi", b"From: a@example.com"} <= set(head.split(b"\r\n"))
    assert text == TEXT.encode()
    assert mail.sender.decode() == FROM


@pytest.mark.needs("smtp-source")
@pytest.mark.parametrize("mails_of_a_connection", [[], ["-d"]])
def test_smtp_source(relay: Running, sink: Sink, folder: Path, mails_of_a_connection: list[str]) -> None:
    """Postfix's load, several at once: one mail to a connection, or one connection for many mails."""
    load = ["-s", 5, "-m", 50, "-f", FROM, "-t", TO[0], "-F", "letter.txt", *mails_of_a_connection]
    run(folder, ["smtp-source", *load, f"127.0.0.1:{relay.smtp}"])

    mails = sink.wait_for(50)
    assert {mail.below_trace for mail in mails} == {LETTER + b"\r\n"}  # with an empty line of its own
    assert len({mail.id for mail in mails}) == len(mails) == 50


PIPED = """
exec 3<>/dev/tcp/127.0.0.1/$0
cat >&3
cat <&3
"""


@pytest.mark.needs("bash")
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_script_that_waits_for_nothing(relay: Running, sink: Sink, folder: Path, end: str) -> None:
    """One line says what is wrong with a dialogue that is piped into the port, and none of it is taken."""
    lines = ["EHLO app", f"MAIL FROM:<{FROM}>", f"RCPT TO:<{TO[0]}>", "DATA", "Subject: x", "", "y", ".", "QUIT", ""]
    done = subprocess.run(
        ["bash", "-c", PIPED, str(relay.smtp)],
        cwd=folder, input=end.join(lines), check=True, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip

    *greeting, line = done.stdout.splitlines()
    assert all(said.startswith("220 ") for said in greeting)
    assert line in (
        "554 5.5.0 something was sent before our reply: wait for it after connecting, EHLO and DATA",
        *(["500 5.5.2 lines end in CRLF"] if end == "\n" else []),
    )
    with relay.client() as client:
        client.sendmail(FROM, TO, LETTER)
    see(sink)
