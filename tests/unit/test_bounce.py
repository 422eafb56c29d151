"""What a sender is told: who hears of what, in which form, and in whose words."""

import time
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import SMTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.bounce.digest import LISTED, Account, digest, read
from relay.bounce.fate import Fate
from relay.bounce.mime import date
from relay.bounce.notice import HEADER_LIMIT, WHOLE_LIMIT, Kind, Original, header_of, needed, who_hears
from relay.bounce.report import Letterhead, Matter, delay_report, failure_report, relayed_report
from relay.bounce.words import subject_of
from relay.envelope import Envelope, Recipient

LETTERHEAD = Letterhead("app1.example.com", "example.com")
UUID = "019abc00-0000-7000-8000-0000000000ff"
NOW = 1764064800.0
AGE = 432000.0
HEADER = b"From: App <app@example.com>\r\nTo: b@example.net\r\nSubject: Invoice 17\r\nMessage-ID: <a1@example.com>\r\n"
B = Recipient("b@example.net")
MAIL = Envelope(
    1,
    "019abc00-0000-7000-8000-000000000001",
    "app@example.com",
    (B,),
    NOW - 432000,
    len(HEADER) + 10,
    client="127.0.0.1",
)
SENT = date(MAIL.received_at)
NO_USER = Fate(B, "550 5.1.1 <b@example.net>: No such user here", "smtp.primary.example", NOW - 2)


def matter(mail: Envelope = MAIL, original: Original | None = None, to: str = "app@example.com") -> Matter:
    return Matter(UUID, to, NOW, AGE, mail, original or Original(HEADER, whole=False))


def failure(*fates: Fate, mail: Envelope = MAIL, header: bytes = HEADER, to: str = "app@example.com") -> bytes:
    return failure_report(LETTERHEAD, matter(mail, Original(header, whole=False), to), fates)


def parsed(report: bytes) -> EmailMessage:
    """The report, read by the standard library, which finds nothing wrong in it."""
    assert report.isascii()
    assert b"\n" not in report.replace(b"\r\n", b"")
    assert max(map(len, report.split(b"\r\n"))) <= 998
    message = message_from_bytes(report, policy=SMTP)
    assert isinstance(message, EmailMessage)
    assert not [defect for part in message.walk() for defect in part.defects]
    return message


def parts(report: bytes) -> tuple[str, list[Message], Message]:
    """Its three parts: the words, the blocks of message/delivery-status, what comes back."""
    message = parsed(report)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    text, status, original = message.iter_parts()
    assert isinstance(text, EmailMessage)
    assert status.get_content_type() == "message/delivery-status"
    blocks = [block for block in status.get_payload() if isinstance(block, Message)]
    return text.get_content().replace("\r\n", "\n"), blocks, original


# Who hears.


@pytest.mark.parametrize(
    ("to", "kind", "notify", "heard"),
    [
        ("sender", Kind.FAILURE, None, "app@example.com"),
        ("sender", Kind.DELAY, None, "app@example.com"),
        ("sender", Kind.SUCCESS, None, None),
        ("ops@example.com", Kind.FAILURE, None, "ops@example.com"),
        ("none", Kind.FAILURE, None, None),
        ("none", Kind.FAILURE, "FAILURE", None),
        ("sender", Kind.FAILURE, "NEVER", None),
        ("sender", Kind.DELAY, "NEVER", None),
        ("sender", Kind.FAILURE, "FAILURE", "app@example.com"),
        ("sender", Kind.DELAY, "FAILURE", None),
        ("sender", Kind.DELAY, "FAILURE,DELAY", "app@example.com"),
        ("sender", Kind.FAILURE, "SUCCESS,DELAY", None),
        ("sender", Kind.SUCCESS, "SUCCESS", "app@example.com"),
        ("ops@example.com", Kind.SUCCESS, "FAILURE,SUCCESS", "ops@example.com"),
    ],
)
def test_who_hears_of_what(to: str, kind: Kind, notify: str | None, heard: str | None) -> None:
    """NOTIFY decides, and `bounce.to` whom it is told; without NOTIFY failures and delays are told."""
    recipient = Recipient("b@example.net", None if notify is None else frozenset(notify.split(",")))
    assert who_hears(to, MAIL, recipient, kind) == heard


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("to", ["sender", "ops@example.com"])
def test_the_null_sender_and_our_own_reports_cause_nothing(to: str, kind: Kind) -> None:
    """A bounce never bounces, not even to a person that hears of all the others."""
    recipient = Recipient("b@example.net", frozenset({"FAILURE", "DELAY", "SUCCESS"}))
    assert who_hears(to, replace(MAIL, sender=""), recipient, kind) is None
    assert who_hears(to, replace(MAIL, report=True), recipient, kind) is None


# The form.


def test_a_failure_is_told_in_full() -> None:
    """Every field that RFC 3464 knows and we can fill."""
    mail = replace(MAIL, envid="QQ+2B314")
    b = Recipient("b@example.net", None, "rfc822;b+2Bx@example.net")
    report = failure(replace(NO_USER, recipient=b), mail=mail)
    message = parsed(report)
    assert str(message["From"]) == "Mail Delivery System <mailer-daemon@example.com>"
    assert message["To"] == "app@example.com"
    assert message["Subject"] == "Not delivered: mail to b@example.net"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["MIME-Version"] == "1.0"
    assert message["Message-ID"] == f"<{UUID}@example.com>"
    assert message["In-Reply-To"] == message["References"] == "<a1@example.com>"
    assert message["Date"].datetime.timestamp() == NOW
    text, (about, of_b), original = parts(report)
    assert list(about.items()) == [
        ("Reporting-MTA", "dns; app1.example.com"),
        ("Original-Envelope-Id", "QQ+314"),
        ("Arrival-Date", about["Arrival-Date"]),
        ("X-Mailrelay-Id", MAIL.uuid),
    ]
    assert list(of_b.items()) == [
        ("Original-Recipient", "rfc822; b+x@example.net"),
        ("Final-Recipient", "rfc822; b@example.net"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns; smtp.primary.example"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 <b@example.net>: No such user here"),
        ("Last-Attempt-Date", of_b["Last-Attempt-Date"]),
    ]
    assert original.get_content_type() == "text/rfc822-headers"
    assert original.get_payload(decode=True) == HEADER
    assert text.startswith(
        "Your mail could not be delivered to this recipient:\n\n"
        "    b@example.net\n"
        "      smtp.primary.example said: 550 5.1.1 <b@example.net>: No such user\n"
        "      here\n"
        "      There is no such mailbox."
    )
    assert "    Subject: Invoice 17\n" in text
    assert MAIL.uuid in text


def test_without_orcpt_and_envid_nothing_is_made_up() -> None:
    """RFC 3461, 6.3: Original-Recipient stands there only if it was given."""
    _, (about, of_b), _ = parts(failure(NO_USER))
    assert "Original-Recipient" not in of_b
    assert "Original-Envelope-Id" not in about


def test_a_mail_that_waits_is_told_until_when() -> None:
    """Delayed, with Will-Retry-Until; no provider was asked, so none is named."""
    report = delay_report(LETTERHEAD, matter(), [Fate(B, "", "", 0)], NOW + 86400)
    text, (_, of_b), _ = parts(report)
    assert (of_b["Action"], of_b["Status"]) == ("delayed", "4.4.0")
    assert of_b["Will-Retry-Until"] in text.replace("\n", " ")
    assert not {"Diagnostic-Code", "Remote-MTA", "Last-Attempt-Date"} & set(of_b)
    assert "No provider could be reached." in text
    assert "You\nneed not send it again" in text


def test_a_mail_that_was_handed_on_is_told_as_relayed() -> None:
    """For NOTIFY=SUCCESS, where the provider does not offer DSN (RFC 3461, 5.2.2)."""
    fate = Fate(B, "250 2.0.0 Ok: queued as 4X", "smtp.primary.example", NOW)
    report = relayed_report(LETTERHEAD, matter(), [fate])
    text, (_, of_b), _ = parts(report)
    assert (of_b["Action"], of_b["Status"]) == ("relayed", "2.0.0")
    assert "smtp.primary.example said: 250 2.0.0 Ok: queued as 4X" in text


def test_many_recipients_stand_in_one_report() -> None:
    """Each with its own words and its own block."""
    fates = [replace(NO_USER, recipient=Recipient(f"r{number}@example.net")) for number in range(40)]
    report = failure(*fates)
    text, blocks, _ = parts(report)
    assert len(blocks) == 41
    assert [block["Final-Recipient"] for block in blocks[1:]] == [f"rfc822; r{n}@example.net" for n in range(40)]
    assert parsed(report)["Subject"] == "Not delivered: mail to 40 recipients"
    assert "these 40 recipients" in text


@pytest.mark.parametrize(
    ("reply", "expired", "kind", "status"),
    [
        ("550 5.7.1 Refused", False, Kind.FAILURE, "5.7.1"),
        ("550 Refused", False, Kind.FAILURE, "5.0.0"),
        ("550 4.7.1 Wrong class", False, Kind.FAILURE, "5.7.1"),
        ("552 5.3.4 the mail is too large", False, Kind.FAILURE, "5.3.4"),
        ("550", False, Kind.FAILURE, "5.0.0"),
        ("damaged", False, Kind.FAILURE, "5.0.0"),
        ("451 4.7.1 Greylisted", True, Kind.FAILURE, "4.7.1"),
        ("451 Try later", True, Kind.FAILURE, "4.4.7"),
        ("connection lost", True, Kind.FAILURE, "4.4.7"),
        ("uncertain: lost behind the dot", True, Kind.FAILURE, "4.4.7"),
        ("451 4.7.1 Greylisted", False, Kind.DELAY, "4.7.1"),
        ("451 Try later", False, Kind.DELAY, "4.0.0"),
        ("550 5.7.1 Refused by the second", False, Kind.DELAY, "4.0.0"),
        ("connection lost", False, Kind.DELAY, "4.4.0"),
        ("", False, Kind.DELAY, "4.4.0"),
        ("250 2.6.0 Ok", False, Kind.SUCCESS, "2.6.0"),
        ("250 Ok", False, Kind.SUCCESS, "2.0.0"),
    ],
)
def test_the_status_is_the_provider_s_and_fits_the_action(reply: str, expired: bool, kind: Kind, status: str) -> None:
    """Its own enhanced code, if it is of the right class; nothing more than what was said is claimed."""
    assert Fate(B, reply, "smtp.primary.example", NOW, expired).status(kind) == status


def test_our_own_words_are_not_put_into_a_provider_s_mouth() -> None:
    """No reply was seen: the Diagnostic-Code is not of type smtp, and the text does not say "said"."""
    text, (_, of_b), _ = parts(failure(Fate(B, "no reply within 60 s", "smtp.primary.example", NOW, expired=True)))
    assert of_b["Diagnostic-Code"] == "x-mailrelay; no reply within 60 s"
    assert "smtp.primary.example: no reply within 60 s" in text
    assert "given up after 5 days" in text


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        ("550 5.1.1 x", "There is no such mailbox."),
        ("550 5.1.2 x", "There is no such domain"),
        ("552 5.2.2 x", "The mailbox is full."),
        ("552 5.3.4 x", "The mail is too large."),
        ("554 5.6.3 x", "The mail has 8-bit content"),
        ("553 5.6.7 x", "The address has letters"),
        ("550 5.7.1 x", "The words above say why."),
    ],
)
def test_it_says_what_to_do(reply: str, advice: str) -> None:
    """In plain words."""
    text, _, _ = parts(failure(replace(NO_USER, reply=reply)))
    assert advice in text


# 7-bit, whatever comes.


def test_an_address_that_is_not_ascii_makes_no_report_that_needs_smtputf8() -> None:
    """RFC 6533, 3 in the machine's part; in the words people see it as it is."""
    recipient = Recipient("jörg+x@bücher.example", None, "utf-8;j\\x{F6}rg\\x{2B}x@bücher.example")
    report = failure(replace(NO_USER, recipient=recipient), to="jörg@bücher.example")
    text, (_, block), _ = parts(report)
    assert block["Final-Recipient"] == r"utf-8; j\x{F6}rg\x{2B}x@b\x{FC}cher.example"
    assert block["Original-Recipient"] == r"utf-8; j\x{F6}rg\x{2B}x@b\x{FC}cher.example"
    assert "    jörg+x@bücher.example\n" in text
    message = parsed(report)
    assert message["Subject"] == "Not delivered: mail to one recipient"
    (group,) = message["To"].groups
    assert (group.display_name, group.addresses) == ("jörg@bücher.example", ())


def test_a_header_with_8_bit_octets_comes_back_encoded() -> None:
    """Octet for octet once it is decoded, whatever charset it is in."""
    header = b"Subject: J\xf6rg \xc3\xa9 =?utf-8?q?x?=\r\nX-Long: " + b"y" * 2000 + b"\r\nX-Space: a \r\n"
    _, _, original = parts(failure(NO_USER, header=header))
    assert original["Content-Transfer-Encoding"] == "quoted-printable"
    assert original.get_payload(decode=True) == header


def test_the_domain_of_an_international_host_is_written_in_ascii() -> None:
    """`addresses.domain` may have letters that are not ASCII."""
    letterhead = Letterhead("app1.example.com", "bücher.example")
    message = parsed(failure_report(letterhead, matter(), [NO_USER]))
    assert message["From"].addresses[0].addr_spec == "mailer-daemon@xn--bcher-kva.example"
    assert message["Message-ID"] == f"<{UUID}@xn--bcher-kva.example>"


def test_the_name_in_from_may_be_any() -> None:
    """`bounce.from`, in encoded words where it has to be."""
    letterhead = Letterhead("app1.example.com", "example.com", '"Post, München" <post@example.com>')
    message = parsed(failure_report(letterhead, matter(), [NO_USER]))
    (address,) = message["From"].addresses
    assert (address.display_name, address.addr_spec) == ("Post, München", "post@example.com")


@pytest.fixture
def kathmandu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone with odd minutes, under a locale that is not English."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    monkeypatch.setenv("LC_ALL", "hu_HU.UTF-8")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_dates_are_english_and_have_their_zone(kathmandu: None) -> None:
    """RFC 5322, 3.3, in no locale."""
    report = failure(NO_USER)
    assert parsed(report)["Date"] == "Tue, 25 Nov 2025 15:45:00 +0545"
    assert b"\r\nLast-Attempt-Date: Tue, 25 Nov 2025 15:44:58 +0545\r\n" in report


def test_a_step_of_the_clock_makes_no_mail_half_a_century_late() -> None:
    """A small machine boots in 1970: the age is what has really passed."""
    mail = replace(MAIL, received_at=60.0)
    report = failure_report(
        LETTERHEAD, replace(matter(mail), age=90.0), [Fate(B, "451 Try later", "h.example", NOW, expired=True)]
    )
    text, (about, _), _ = parts(report)
    assert "given up after 90 seconds" in text
    assert about["Arrival-Date"] == date(NOW - 90)


HOSTILE = [
    "550 5.7.1 \r\n\r\nBcc: x@example.net\r\n.\r\nMAIL FROM:<>",
    f"550 --=_{UUID}--",
    "550 =?utf-8?q?=0D=0ABcc:_x@example.net?=",
    "550 5.1.1 " + "x" * 5000,
    "550 5.1.1 " + "word " * 1000,
    "550 \x00\x1b[2J\u2028\x85 é \U0001f600",
    "550 \ud800",
    ".",
]


@pytest.mark.parametrize("reply", HOSTILE)
@pytest.mark.parametrize("whole", [False, True])
def test_nothing_that_a_provider_says_breaks_the_report(reply: str, whole: bool) -> None:
    """No field, no part and no line of it comes from outside; lines are bounded."""
    original = Original(HEADER + b"\r\n--x\r\n" * whole, whole)
    report = failure_report(LETTERHEAD, matter(original=original), [replace(NO_USER, reply=reply, remote="h")])
    text, blocks, _ = parts(report)
    assert len(blocks) == 2
    assert "Bcc" not in parsed(report)
    assert list(blocks[1]) == [
        "Final-Recipient",
        "Action",
        "Status",
        "Remote-MTA",
        "Diagnostic-Code",
        "Last-Attempt-Date",
    ]
    assert text.endswith("\nNobody reads what is answered to this mail.\n")


@given(
    st.text(max_size=200),
    st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), min_size=1, max_size=60),
    st.binary(max_size=200).map(lambda octets: octets.replace(b"\n", b"").replace(b"\r", b"")),
)
def test_any_words_any_address_any_header(reply: str, address: str, value: bytes) -> None:
    """Whatever comes in, the report is ASCII, whole and readable, and can be read back."""
    header = b"Subject: " + value + b"\r\nMessage-ID:" + value + b"\r\n"
    recipient = Recipient(address, None, f"rfc822;{address}")
    report = failure(Fate(recipient, reply, "smtp.primary.example", NOW), header=header, to=address)
    _, blocks, original = parts(report)
    assert len(blocks) == 2
    assert original.get_payload(decode=True) == header
    account = read(report)
    assert account is not None
    assert len(account.fates) == 1


# How much comes back.


def test_ret_full_returns_the_whole_mail() -> None:
    """Octet for octet, up to 1 MiB, in a report of a failure."""
    body = b"\r\nfirst\r\n.dot\r\n"
    mail = replace(MAIL, ret="FULL", size=len(HEADER + body))
    assert needed(mail, Kind.FAILURE) == mail.size
    original = Original.of(mail, Kind.FAILURE, HEADER + body)
    assert original == Original(HEADER + body, whole=True)
    report = failure_report(LETTERHEAD, matter(mail, original), [NO_USER])
    assert b"\r\nContent-Type: message/rfc822\r\n" in report
    assert b"\r\n\r\n" + HEADER + body + b"\r\n--" in report
    _, _, returned = parts(report)
    assert returned.get_content_type() == "message/rfc822"
    assert parsed(report)["References"] == "<a1@example.com>"


@pytest.mark.parametrize(
    ("changes", "kind", "body"),
    [
        ({"ret": "HDRS"}, Kind.FAILURE, b"\r\nx\r\n"),
        ({"ret": ""}, Kind.FAILURE, b"\r\nx\r\n"),
        ({"ret": "FULL"}, Kind.DELAY, b"\r\nx\r\n"),
        ({"ret": "FULL"}, Kind.SUCCESS, b"\r\nx\r\n"),
        ({"ret": "FULL", "eight_bit": True}, Kind.FAILURE, b"\r\n\xe9\r\n"),
        ({"ret": "FULL"}, Kind.FAILURE, b"\r\n" + b"x" * 999 + b"\r\n"),
        ({"ret": "FULL"}, Kind.FAILURE, b"\r\n" + b"x\r\n" * (WHOLE_LIMIT // 3)),
    ],
)
def test_else_its_header_comes_back(changes: dict[str, object], kind: Kind, body: bytes) -> None:
    """By default; for a mail that is large or 8-bit; where nothing failed (RFC 3461, 4.3)."""
    mail = replace(MAIL, size=len(HEADER + body), **changes)  # type: ignore[arg-type]
    beginning = (HEADER + body)[: needed(mail, kind)]
    assert len(beginning) <= max(HEADER_LIMIT, len(HEADER) + 1010)
    assert Original.of(mail, kind, beginning) == Original(HEADER, whole=False)


@pytest.mark.parametrize(
    ("beginning", "header"),
    [
        (b"A: b\r\n\r\nbody\r\n\r\n", b"A: b\r\n"),
        (b"\r\nbody\r\n", b""),
        (b"A: b\r\n", b"A: b\r\n"),
        (b"A: b\r\nC: cut off here", b"A: b\r\n"),
        (b"", b""),
        (b"A: " + b"x" * HEADER_LIMIT + b"\r\n\r\n", b""),
        (b"A: b\r\n" * HEADER_LIMIT, b"A: b\r\n" * (HEADER_LIMIT // 6)),
    ],
)
def test_the_header_ends_at_the_first_empty_line(beginning: bytes, header: bytes) -> None:
    """Or at a bound, and always with a line."""
    assert header_of(beginning) == header


@pytest.mark.parametrize(
    ("header", "subject"),
    [
        (b"Subject: plain\r\n", "plain"),
        (b"SUBJECT :folded\r\n over lines\r\n", "folded over lines"),
        (b"Subject: =?utf-8?q?M=C3=A4rz?= =?utf-8?b?w6Q=?=\r\n", "Märzä"),
        ("Subject: März\r\n".encode(), "März"),
        (b"Subject: =?x-unknown?q?a?=\r\n", "=?x-unknown?q?a?="),
        (b"Subject: =?utf-8?b?a?=\r\n", "=?utf-8?b?a?="),
        (b"Subject: =?utf-8?q?a=0D=0AX=3A_y?=\r\n", "a\\x0d\\x0aX: y"),
        (b"X-Subject: no\r\n", ""),
        (b"Subject:\r\nTo: x\r\n", ""),
        (b"Subject: " + b"x" * 300 + b"\r\n", "x" * 200 + " [cut]"),
    ],
)
def test_the_subject_is_shown_as_people_read_it(header: bytes, subject: str) -> None:
    """Decoded, on one line, of bounded length; as it is where it cannot be decoded."""
    assert subject_of(header) == subject


# The digest.


def accounts(*reports: bytes) -> list[Account]:
    return [account for account in map(read, reports) if account is not None]


def test_a_report_is_read_back() -> None:
    """The digest is made of the reports themselves."""
    late = Fate(Recipient("jörg@bücher.example"), "451 4.7.1 Greylisted", "smtp.second.example", NOW, expired=True)
    assert read(failure(NO_USER, late)) == Account(
        Kind.FAILURE,
        SENT,
        MAIL.uuid,
        "Invoice 17",
        (replace(NO_USER, at=0), replace(late, at=0)),
    )
    whole = Original(HEADER + b"\r\nx\r\n", whole=True)
    account = read(failure_report(LETTERHEAD, matter(original=whole), [NO_USER]))
    assert account is not None
    assert account.subject == "Invoice 17"


@given(st.binary(max_size=200) | st.integers(0, 1500).map(lambda end: failure(NO_USER)[:end]))
def test_what_is_no_report_is_none(octets: bytes) -> None:
    """Damage makes no digest fail."""
    assert read(octets) is None or b"message/delivery-status" in octets


def test_a_digest_says_what_all_of_them_said() -> None:
    """One mail, in the same form of header, by kind; the provider's words stay."""
    delayed = delay_report(LETTERHEAD, matter(), [Fate(B, "", "", 0)], NOW)
    message = parsed(digest(LETTERHEAD, UUID, NOW, "app@example.com", accounts(failure(NO_USER), delayed)))
    assert message["Subject"] == "Not delivered, delayed or handed on: mail to 2 more recipients"
    assert (message["To"], message["Auto-Submitted"]) == ("app@example.com", "auto-replied")
    text = message.get_content().replace("\r\n", "\n")
    assert text == (
        "Within one hour more reports were due to you than are sent one by one.\n"
        "These are the other ones; they speak of 2 recipients.\n"
        "\n"
        "Not delivered, and not tried again:\n"
        "\n"
        "  Subject: Invoice 17\n"
        f"  Sent:    {SENT}\n"
        f"  Id:      {MAIL.uuid}\n"
        "    b@example.net\n"
        "      smtp.primary.example said: 550 5.1.1 <b@example.net>: No such user\n"
        "      here\n"
        "      There is no such mailbox. Look for a slip in the address, then\n"
        "      send the mail again.\n"
        "\n"
        "Not delivered yet, and still tried; you need not send it again:\n"
        "\n"
        "  Subject: Invoice 17\n"
        f"  Sent:    {SENT}\n"
        f"  Id:      {MAIL.uuid}\n"
        "    b@example.net\n"
        "      No provider could be reached.\n"
        "\n"
        "Written by mailrelay on app1.example.com.\n"
        "Nobody reads what is answered to this mail.\n"
    )


def test_a_digest_says_what_was_given_up_for_its_age() -> None:
    """Else "try again later" would stand below "not tried again"."""
    late = replace(NO_USER, reply="451 4.7.1 Greylisted, try again later", expired=True)
    text = parsed(digest(LETTERHEAD, UUID, NOW, "app@example.com", accounts(failure(late)))).get_content()
    assert (
        "    b@example.net\n"
        "      given up for its age; the last answer was:\n"
        "      smtp.primary.example said: 451 4.7.1 Greylisted, try again later\n"
        "      The mail itself may be fine. Send it again if it still matters.\n"
    ) in text.replace("\r\n", "\n")


def test_a_digest_of_failures_says_so_in_its_subject() -> None:
    """One is one."""
    message = parsed(digest(LETTERHEAD, UUID, NOW, "app@example.com", accounts(failure(NO_USER))))
    assert message["Subject"] == "Not delivered: mail to 1 more recipient"


def test_a_digest_is_bounded_and_says_how_many_it_leaves_out() -> None:
    """A storm of bounces makes no mail of megabytes, and none is kept back in silence."""
    big = Account(Kind.FAILURE, "today", "id", "s", (NO_USER,) * (LISTED - 10))
    message = parsed(digest(LETTERHEAD, UUID, NOW, "app@example.com", [big, replace(big, fates=(NO_USER,) * 30)], 100))
    text = message.get_content()
    assert message["Subject"] == f"Not delivered: mail to {LISTED + 120} more recipients"
    assert text.count("    b@example.net") == LISTED
    assert "And 120 more, which stand in the log of mailrelay." in text
