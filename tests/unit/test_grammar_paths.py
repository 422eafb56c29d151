"""Paths: what passes as it is, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.grammar.paths import PathError, cut, is_bare, parse

ATOM = "abcXYZ019!#$%&'*+/=?^_`{|}~.-"
WIDE = st.characters(min_codepoint=0xA0, exclude_characters="\u2028\u2029", exclude_categories=["Cs"])
dot_strings = st.text(st.sampled_from(ATOM) | WIDE, min_size=1, max_size=40)
quoted_strings = st.lists(
    st.sampled_from([chr(code) for code in range(32, 127) if chr(code) not in '"\\'])
    | st.builds("\\{}".format, st.sampled_from([chr(code) for code in range(32, 127)]))
    | WIDE,
    max_size=20,
).map(lambda parts: f'"{"".join(parts)}"')
labels = st.text(st.sampled_from("abcXYZ019_-") | WIDE, min_size=1, max_size=12)
domains = st.lists(labels, min_size=1, max_size=3).map(".".join)
literals = st.ip_addresses(v=4).map("[{}]".format) | st.ip_addresses(v=6).map("[IPv6:{}]".format)
local_parts = dot_strings | quoted_strings
addresses = st.builds("{}@{}".format, local_parts, domains | literals) | local_parts


@given(addresses.filter(lambda address: len(address.encode()) <= 254))
def test_an_address_passes_as_it_is(address: str) -> None:
    """What was parsed and is written again is the same octets."""
    inner, rest = cut(f"<{address}> X".encode())

    assert parse(inner) == address
    assert rest == b" X"


@given(addresses.filter(lambda address: len(address.encode()) <= 200), st.lists(domains | literals, min_size=1))
def test_a_source_route_is_dropped(address: str, hops: list[str]) -> None:
    """What remains is the mailbox (RFC 5321, appendix C)."""
    route = ",".join(f"@{hop}" for hop in hops)
    inner = f"{route}:{address}".encode()
    if len(inner) <= 254:
        assert parse(inner) == address


@given(st.binary(max_size=300))
def test_any_octets(inner: bytes) -> None:
    """Whatever comes: an address that is written as the same octets, or an error."""
    try:
        address = parse(inner)
    except PathError:
        return
    assert inner.endswith(address.encode())
    assert not set(inner) & {0, 10, 13}


@pytest.mark.parametrize(
    "octets", [b"", b"a@b", b"<a@b", b"a@b>", b"A <a@b>", b"<A <a@b>>", b'<"a@b>', b'<"a\\">', b"<a>"[1:], b"x<a@b>"]
)
def test_no_angle_brackets_around_it(octets: bytes) -> None:
    """The path is the first thing, and whole."""
    with pytest.raises(PathError):
        cut(octets)


def test_angle_brackets_in_quotes() -> None:
    """Quotes hide what would end the path."""
    assert cut(rb'<"a>\"<"@b> SIZE=1') == (rb'"a>\"<"@b', b" SIZE=1")


@pytest.mark.parametrize(
    "inner",
    [
        b"@",
        b"a@",
        b"@b",
        b"a@b@c",
        b"a b@c",
        b"a@b c",
        b"a@.b",
        b"a@b.",
        b"a@b..c",
        b"a@b,c",
        b"a;b@c",
        b"(a)b@c",
        b'"a"b@c',
        b'a"b"@c',
        b'"\x7f"@c',
        b'"a\tb"@c',
        b"a\x00@c",
        b"a@b\n",
        b"a@b\r",
        b"\n",
        b"a@[1.2.3]",
        b"a@[1.2.3.4.5]",
        b"a@[01.2.3.4]",
        b"a@[]",
        b"a@[IPv6:]",
        b"a@[IPv6:1::2::3]",
        b"a@[tag:]",
        b"a@[a[b]",
        b"@r.example:",
        b"@:a@b",
        b"a\xc2\x85b@c",
        b"a\xe2\x80\xa8b@c",
        b"\xff@c",
        b"\xc3\x28@c",
        b"\xed\xa0\x80@c",
    ],
)
def test_what_is_no_address(inner: bytes) -> None:
    """RFC 5321, 4.1.2 and 4.1.3; RFC 6531, 3.3; control characters in no form."""
    with pytest.raises(PathError):
        parse(inner)


@pytest.mark.parametrize(
    ("inner", "passes"),
    [
        (b"l" * 200 + b"@b", True),
        (b"l" * 201 + b"@b", False),
        ("é".encode() * 100 + b"@b", True),
        ("é".encode() * 101 + b"@b", False),
        (b"a@" + b"d" * 252, True),
        (b"a@" + b"d" * 253, False),
        (b"l" * 200, True),
        (b"l" * 201, False),
        (b"@" + b"r" * 250 + b":a@b", False),
    ],
)
def test_limits(inner: bytes, *, passes: bool) -> None:
    """Octets, not characters: 200 before the @, 256 of a path with its brackets."""
    if passes:
        assert parse(inner).encode() == inner
    else:
        with pytest.raises(PathError):
            parse(inner)


@pytest.mark.parametrize(
    ("address", "bare"),
    [("root", True), ('"a@b"', True), ("a@b", False), ('"a"@b', False), ('"a@"@[1.2.3.4]', False), ('""', True)],
)
def test_names_without_a_domain(address: str, *, bare: bool) -> None:
    """An @ in quotes is none."""
    assert is_bare(address) is bare
