"""Where an address leads by the rules of [addresses], and what becomes of From:."""

import time
from email.headerregistry import AddressHeader
from email.policy import SMTPUTF8

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.addresses import Rules
from relay.envelope import Recipient
from relay.mailbox import mailboxes

NONE = Rules("example.com", {}, {})


def aliases(**rules: list[str]) -> Rules:
    return Rules("example.com", rules, {})


def addresses(value: str) -> list[str]:
    return [mailbox.address for mailbox in mailboxes(value.encode())]


@pytest.mark.parametrize(
    "address",
    [
        "b@example.net",
        "a..b@example.net",
        '"a b"@example.net',
        '"a@b"@X.example',
        "B@[192.0.2.1]",
        "é@example.net",
        "*@*.x",
    ],
)
def test_what_nothing_names_passes_untouched(address: str) -> None:
    """Every octet of it, with and without rules for others."""
    others = Rules("example.com", {"x": ["y@z.example"], "*@other.example": ["y@z.example"]}, {"x": "y@z.example"})
    for rules in (NONE, others):
        assert rules.recipients(address) == (address,)
        assert rules.sender(address) == address


def test_a_name_alone_gets_the_domain() -> None:
    """As a recipient, as a sender, and as what a rule leads to; a quoted name with an @ in it is still alone."""
    assert NONE.recipients("Root") == ("Root@example.com",)
    assert NONE.sender("root") == "root@example.com"
    assert NONE.recipients('"a@b"') == ('"a@b"@example.com',)
    assert aliases(root=["ops"]).recipients("root") == ("ops@example.com",)
    assert Rules("example.com", {}, {"root": "ops"}).sender("root") == "ops@example.com"


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("bob@one.example", "exact"),
        ("BOB@One.Example", "exact"),
        ("bob", "bare"),
        ("Bob@example.COM", "bare"),
        ("bob@two.example", "star"),
        ("amy@one.example", "one"),
        ("amy@example.com", "own"),
        ("amy", "own"),
        ("amy@two.example", "star"),
        ('"bob"@one.example', "exact"),
        ('"b\\ob"@one.example', "exact"),
        ("b@xn--bcher-kva.example", "books"),
        ("b@BÜCHER.example", "books"),
        ("b@[192.0.2.1]", "literal"),
    ],
)
def test_the_most_specific_rule_applies(address: str, target: str) -> None:
    """name@domain, then name (with no domain or our own), then *@domain, then *; whatever the case."""
    keys = {
        "*": "star",
        "*@one.example": "one",
        "*@example.com": "own",
        "bob": "bare",
        "bob@one.example": "exact",
        "*@bücher.example": "books",
        "*@[192.0.2.1]": "literal",
    }
    for order in (list(keys), list(reversed(keys))):
        rules = Rules(
            "example.com",
            {key: [f"{keys[key]}@target.example"] for key in order},
            {key: f"{keys[key]}@target.example" for key in order},
        )
        assert rules.recipients(address) == (f"{target}@target.example",)
        assert rules.sender(address) == f"{target}@target.example"


def test_a_name_with_our_domain_is_more_specific_than_the_name() -> None:
    """`root@example.com` goes before `root`, in whichever order they stand."""
    for keys in (["root", "root@example.com"], ["root@example.com", "root"]):
        rules = Rules("example.com", {key: [f"{key.replace('@', '.')}@t.example"] for key in keys}, {})
        assert rules.recipients("root") == ("root.example.com@t.example",)


def test_a_rule_applies_once() -> None:
    """No chain and no loop: an alias of an alias is not followed."""
    rules = aliases(a=["b"], b=["a"])
    assert rules.recipients("a") == ("b@example.com",)
    assert Rules("example.com", {}, {"*": "noreply@example.com"}).sender("noreply@example.com") == "noreply@example.com"


def test_the_null_sender_fits_no_rule() -> None:
    """`*` matches no <>: a bounce stays a bounce."""
    assert Rules("example.com", {}, {"*": "noreply@example.com"}).sender("") == ""
    assert NONE.sender("") == ""


def test_two_names_that_lead_to_one_address_are_one_recipient() -> None:
    """And the same recipient twice is one, compared without case; the first one's parameters count."""
    rules = aliases(root=["ops@example.net", "amy@example.net"], admin=["OPS@example.net"])
    never = frozenset({"NEVER"})
    found = rules.expand(
        [
            Recipient("root", never, "rfc822;root"),
            Recipient("admin"),
            Recipient("b@x.example"),
            Recipient("B@X.example"),
        ]
    )
    assert found == (
        Recipient("ops@example.net", never, "rfc822;root"),
        Recipient("amy@example.net", never, "rfc822;root"),
        Recipient("b@x.example"),
    )


def test_everything_goes_to_one_box() -> None:
    """A staging system's rule."""
    rules = Rules("example.com", {"*": ["me@example.com"]}, {})
    assert rules.expand([Recipient("a@x.example"), Recipient("root"), Recipient("me@example.com")]) == (
        Recipient("me@example.com"),
    )


# From: and the addresses in it.


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a@b.example", ["a@b.example"]),
        ("root (Cron Daemon)", ["root"]),
        ("(a (nested) comment@x.example) a@b.example (c@d.example)", ["a@b.example"]),
        ("App Mailer <app@example.com>", ["app@example.com"]),
        ('"app@example.com" <other@example.com>', ["other@example.com"]),
        ('"A, B" <a@b.example>, c@d.example', ["a@b.example", "c@d.example"]),
        ('"a\\"b" <a@b.example>', ["a@b.example"]),
        ('"a b"@example.com', ['"a b"@example.com']),
        ('"a@b"@example.com', ['"a@b"@example.com']),
        ("undisclosed-recipients:;", []),
        ("team: d@example.net, E <e@example.net>;, f@example.net", ["d@example.net", "e@example.net", "f@example.net"]),
        ("=?UTF-8?B?QSA8YUBleGFtcGxlLmNvbT4=?=", []),
        ("=?utf-8?q?a=40b?= <c@d.example>", ["c@d.example"]),
        ("=?utf-8?Q?a@example.com?=", []),
        ("<@relay.example,@two.example:a@b.example>", ["a@b.example"]),
        ("a@[192.0.2.1]", ["a@[192.0.2.1]"]),
        ("a . b @ example . com", ["a.b@example.com"]),
        ("a@b.example\r\n\t,\r\n c@d.example\r\n", ["a@b.example", "c@d.example"]),
        ("Jörg <jörg@bücher.example>", ["jörg@bücher.example"]),
        ("<>", []),
        ("", []),
        ("two words", []),
        ("a@b@c", []),
        ("<a@b.example", []),
        ("<a@b.example> c@d.example", ["a@b.example"]),
        ('"open a@b.example', []),
        ("(open a@b.example", []),
        ("a@b.example, ), c@d.example", ["a@b.example", "c@d.example"]),
        (".a..b.@c.example, .", [".a..b.@c.example"]),
    ],
)
def test_addresses_are_found_where_they_are_and_nowhere_else(value: str, found: list[str]) -> None:
    """Not in comments, names, encoded words; in groups, over folds and behind obsolete routes they are."""
    assert addresses(value) == found


ATOM = st.text("abcXYZ019!#$%&'*+-/^_`{|}~", min_size=1, max_size=6)
DOT_ATOM = st.lists(ATOM, min_size=1, max_size=3).map(".".join)
QUOTED = st.text('ab @<>,;:()."\\', max_size=6).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
DOMAIN = st.lists(st.text("abcxyz-09", min_size=1, max_size=5), min_size=1, max_size=3).map(".".join)
COMMENT = st.text("abc @<>,;:.", max_size=6).map("({})".format)
SPEC = st.builds("{}@{}".format, DOT_ATOM, DOMAIN)
MAILBOX = st.one_of(
    st.tuples(SPEC.map(lambda spec: ("", spec, "")), COMMENT | st.just("")).map(lambda pair: (*pair[0][:2], pair[1])),
    st.tuples((ATOM | QUOTED).map(lambda name: name + " <"), SPEC, st.just(">")),
)


@given(st.lists(MAILBOX, min_size=1, max_size=4))
def test_it_finds_what_was_put_in(parts: list[tuple[str, str, str]]) -> None:
    """The octets from `start` to `end` are the address; Python's own parser agrees on how many there are."""
    value = ",\r\n ".join("".join(part) for part in parts).encode()
    found = mailboxes(value)
    assert [value[mailbox.start : mailbox.end].decode() for mailbox in found] == [spec for _, spec, _ in parts]
    assert [mailbox.address for mailbox in found] == [spec for _, spec, _ in parts]


@pytest.mark.parametrize(
    "value",
    ["a@b.example", "A B <a@b.example>, c@d.example (x)", '"q, q" <c@d.example>', "g: a@b.example, c@d.example;"],
)
def test_it_agrees_with_the_standard_library(value: str) -> None:
    """For fields that both can read."""
    header = SMTPUTF8.header_factory("From", value)
    assert isinstance(header, AddressHeader)
    assert addresses(value) == [address.addr_spec for address in header.addresses]


@given(st.binary(max_size=60) | st.text('ab@<>()"\\[],;:. \r\n', max_size=60).map(str.encode))
def test_no_field_is_too_strange(value: bytes) -> None:
    """It never raises, and what it does not replace keeps its octets."""
    found = mailboxes(value)
    assert all(0 <= mailbox.start < mailbox.end <= len(value) for mailbox in found)
    assert found == sorted(found, key=lambda mailbox: mailbox.start)
    NONE.rewrite_from(b"From:" + value, "a@b", "c@d.example")


@pytest.mark.parametrize("part", ["(", '"', "[", "<", "\\", '"\\', "a.", "=?a?b?", ",", "(\\", "a@b,"])
def test_a_long_field_takes_no_long_time(part: str) -> None:
    """Time grows with the length and not with its square: nobody holds the reactor with a header."""
    begin = time.process_time()
    mailboxes(part.encode() * 50_000)
    assert time.process_time() - begin < 2


NOREPLY = Rules(
    "example.com", {}, {"root@example.com": "noreply@example.com", "*@app1.internal": "noreply@example.com"}
)


@pytest.mark.parametrize(
    ("field", "rewritten"),
    [
        (b"From: root (Cron Daemon)\r\n", b"From: noreply@example.com (Cron Daemon)\r\n"),
        (b"From: root@example.com\r\n", b"From: noreply@example.com\r\n"),
        (b"FROM:\t<ROOT@Example.com>\r\n", b"FROM:\t<noreply@example.com>\r\n"),
        (
            b'From: "root@example.com"\r\n <root@example.com>\r\n',
            b'From: "root@example.com"\r\n <noreply@example.com>\r\n',
        ),
        (
            b"From: J\xf6rg <root@example.com>, b@x.example (root@example.com)\r\n",
            b"From: J\xf6rg <noreply@example.com>, b@x.example (root@example.com)\r\n",
        ),
        (b"From: all: root, root@example.com;\r\n", b"From: all: noreply@example.com, noreply@example.com;\r\n"),
        (b"From : root@example.com\r\n", b"From : noreply@example.com\r\n"),
    ],
)
def test_from_follows_the_sender(field: bytes, rewritten: bytes) -> None:
    """Where it holds the sender's own address; comments, names, folds and the other addresses keep every octet."""
    new = NOREPLY.sender("root@example.com")
    assert NOREPLY.rewrite_from(field, "root@example.com", new) == rewritten
    assert NOREPLY.rewrite_from(field, "root", new) == rewritten


@pytest.mark.parametrize(
    "field",
    [
        b"From: b@example.com\r\n",
        b"From: root@example.net\r\n",
        b"From: b@example.com (root@example.com)\r\n",
        b'From: "root@example.com" <b@example.com>\r\n',
        b"From: =?utf-8?q?root=40example=2Ecom?= <b@example.com>\r\n",
        b"From: =?UTF-8?B?cm9vdEBleGFtcGxlLmNvbQ==?=\r\n",
        b"From:\r\n",
        b"From: xroot@example.com\r\n",
    ],
)
def test_another_from_stays(field: bytes) -> None:
    """None, so that nothing is kept in X-Original-From either."""
    assert NOREPLY.rewrite_from(field, "root@example.com", "noreply@example.com") is None


def test_an_address_that_is_not_ascii_is_found_and_written_as_utf_8() -> None:
    """RFC 6532, 3.2."""
    rules = Rules("example.com", {}, {"jörg@bücher.example": "geschäft@example.com"})
    new = rules.sender("jörg@bücher.example")
    assert rules.rewrite_from("From: <jörg@xn--bcher-kva.example>\r\n".encode(), "jörg@bücher.example", new) == (
        "From: <geschäft@example.com>\r\n".encode()
    )
