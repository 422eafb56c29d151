"""Values one by one: what a kind takes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.kinds import Choice, Duration, Kind, Share, Size, Text, Whole
from relay.config.loopback import is_loopback
from relay.config.names import Address, From, Host, OwnName, Pattern, is_literal, split_address
from relay.config.origin import Origin
from relay.config.problem import Wrong

ORIGIN = Origin("relay.toml", Path("/srv"), {})
UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
SIZES = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
LONGEST = 3650 * 86_400
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.dates(), st.just({})
)
KINDS: list[Kind[object]] = [
    Duration(),
    Duration(zero=True),
    Size(),
    Whole(1),
    Share(),
    Choice("a", "b"),
    Text(),
    OwnName(),
    Host(),
    Address(bare=True),
    Pattern(),
    From(),
]


def refused(kind: Kind[object], value: object) -> bool:
    """Whether `kind` refuses `value`."""
    try:
        kind.read(value, ORIGIN)
    except Wrong:
        return True
    return False


@given(st.integers(0, 10**9), st.sampled_from(sorted(UNITS)))
def test_a_duration_with_a_unit(count: int, unit: str) -> None:
    """It is exactly so many milliseconds, or out of range."""
    milliseconds = count * UNITS[unit]

    if milliseconds <= LONGEST * 1000:
        assert Duration(zero=True).read(f"{count}{unit}", ORIGIN) == milliseconds / 1000
    else:
        assert refused(Duration(zero=True), f"{count}{unit}")


@given(st.one_of(st.integers(), st.floats()))
def test_a_duration_as_a_number(value: float) -> None:
    """Seconds; a negative one, a NaN, an infinity and what nobody lives to see are refused."""
    if 0 <= value <= LONGEST:
        seconds = Duration(zero=True).read(value, ORIGIN)
        assert seconds == value
        assert isinstance(seconds, float)
        assert refused(Duration(), value) is (value == 0)
    else:
        assert refused(Duration(zero=True), value)


@given(st.text(alphabet="0123456789.-+ eEmsdhMKiB٣\n", max_size=8))
def test_text_that_may_be_a_duration_or_a_size(text: str) -> None:
    """Only ASCII digits and one unit are any."""
    digits = text.rstrip("msdhKMGTiB")
    plain = digits.isascii() and digits.isdigit()

    assert refused(Duration(zero=True), text) or (plain and text[len(digits) :] in UNITS)
    assert refused(Size(), text) or (plain and text[len(digits) :] in SIZES)


@given(st.integers(0, 2**20), st.sampled_from(sorted(SIZES)))
def test_a_size_with_a_unit(count: int, unit: str) -> None:
    """It is exactly so many octets."""
    assert Size().read(f"{count}{unit}", ORIGIN) == count * SIZES[unit]


@given(st.integers())
def test_a_size_as_a_number(octets: int) -> None:
    """Octets, from the least to the most."""
    assert refused(Size(1, 100), octets) is not (1 <= octets <= 100)


@pytest.mark.parametrize("kind", [Size(), Whole(0), Share(), Duration(zero=True)])
@pytest.mark.parametrize("value", [True, False, None, [], {}, ""])
def test_what_is_no_number(kind: Kind[object], value: object) -> None:
    """A boolean is none either, whatever Python thinks."""
    assert refused(kind, value)


@pytest.mark.parametrize("kind", [Size(), Whole(0)])
def test_a_whole_number_with_a_fraction(kind: Kind[object]) -> None:
    """1.0 is not written as what it is."""
    assert refused(kind, 1.0)


@given(ANYTHING)
def test_any_value_at_all(value: object) -> None:
    """Each kind reads or refuses it, and never fails in another way."""
    for kind in KINDS:
        refused(kind, value)


@given(st.text(alphabet='ab@.<>"\\ ,;:()[]*-é\t', max_size=12))
def test_text_that_may_be_an_address(text: str) -> None:
    """An address or a From: that is taken can stand on its line of the dialogue and of the header."""
    if not refused(Address(), text):
        local, domain = split_address(text)
        assert f"{local}@{domain}" == text
        assert domain
        assert not set(text) & set("<>\t\r\n") or local.startswith('"')
    refused(From(), text)
    refused(Pattern(), text)


@pytest.mark.parametrize(
    "address",
    [
        "a@b",
        "a..b@example.com",
        ".a@example.com",
        '"a b"@example.com',
        '"a@b"@example.com',
        r'"a\"b"@example.com',
        "a@[192.0.2.1]",
        "a@[IPv6:2001:db8::1]",
        "jörg@bücher.example",
        "bounce+x=y@example.com",
    ],
)
def test_an_address(address: str) -> None:
    """What is an address by RFC 5321 and RFC 6531, and what providers take besides."""
    assert Address().read(address, ORIGIN) == address


@pytest.mark.parametrize(
    "address",
    [
        "a",
        "@b",
        "a@",
        "a@b@c",
        "a b@c",
        "a@b c",
        "<a@b>",
        "a@b,c@d",
        "a@192.0.2.1",
        "a@[b]",
        "a@-b",
        "a@b..c",
        '"a@b',
        'a"b"@c',
        "a@b\r\nc",
        f"{'a' * 65}@b",
    ],
)
def test_what_is_no_address(address: str) -> None:
    """Refused, and so is a name alone where one must be whole."""
    assert refused(Address(), address)


@pytest.mark.parametrize("pattern", ["root", "Root@Example.com", "*@localhost", "*"])
def test_what_a_rule_applies_to(pattern: str) -> None:
    """A name, an address, a domain or all; in lower case from then on."""
    assert Pattern().read(pattern, ORIGIN) == pattern.lower()


@pytest.mark.parametrize("pattern", ["", "@a", "a@", "a*", "*a@b", "a@*", "**", "*@*", "*@", "a b"])
def test_what_no_rule_applies_to(pattern: str) -> None:
    """A star stands for a whole name, never for a part of one."""
    assert refused(Pattern(), pattern)


@pytest.mark.parametrize(
    "field",
    [
        "mailer-daemon@example.com",
        "<mailer-daemon@example.com>",
        "Mail Delivery System <mailer-daemon@example.com>",
        '"Mail, Delivery" <mailer-daemon@example.com>',
        "Jörg B. <mailer-daemon@example.com>",
    ],
)
def test_a_from_field(field: str) -> None:
    """An address, with or without a name before it."""
    assert From().read(field, ORIGIN) == field


@pytest.mark.parametrize(
    "field",
    ["Mail", "Mail <>", "a@b, c@d", "Mail, Delivery <a@b>", "Mail <a@b> x", "group: a@b;", "M <jörg@b>", "M <a@b\n>"],
)
def test_what_is_no_from_field(field: str) -> None:
    """Anything else would make a report that providers refuse."""
    assert refused(From(), field)


@pytest.mark.parametrize("literal", ["[192.0.2.1]", "[IPv6:2001:db8::1]", "[ipv6:::1]"])
def test_an_address_literal(literal: str) -> None:
    """RFC 5321, 4.1.3: a tag before an IPv6 address, none before an IPv4 one."""
    assert is_literal(literal)
    assert OwnName().read(literal, ORIGIN) == literal
    assert refused(Host(), literal)


@pytest.mark.parametrize("text", ["[::1]", "[IPv6:192.0.2.1]", "[]", "[a]", "192.0.2.1", "[192.0.2.1"])
def test_what_is_no_address_literal(text: str) -> None:
    """The tag is what tells them apart."""
    assert not is_literal(text)


@pytest.mark.parametrize("host", ["a", "a.b", "my_host", "xn--bcher-kva.example", "a.b.", "192.0.2.1", "::1", "1a.2b"])
def test_a_host(host: str) -> None:
    """A name, with or without a final dot, or an IP address."""
    assert Host().read(host, ORIGIN) == host


@pytest.mark.parametrize(
    "host",
    ["", ".", "a..b", "-a", "a-", "a b", "192.0.2", "192.0.2.256", "a.1", "a" * 64, f"{'a.' * 127}a", "a\0", "*"],
)
def test_what_is_no_host(host: str) -> None:
    """A name that ends in a number is an IP address written wrong."""
    assert refused(Host(), host)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.255.255.254", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f08:0808"]
)
def test_what_is_loopback(host: str) -> None:
    """127.0.0.0/8, ::1 and ::ffff:127.0.0.0/104."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "128.0.0.1",
        "0.0.0.0",
        "::",
        "::2",
        "::127.0.0.1",
        "::ffff:128.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "fe80::1",
        "localhost",
        "127.1",
        "",
        "127.0.0.1 ",
        "0127.0.0.1",
    ],
)
def test_what_is_not_loopback(host: str) -> None:
    """Neighbours of these, all addresses at once, and names: those are a resolver's word."""
    assert not is_loopback(host)
