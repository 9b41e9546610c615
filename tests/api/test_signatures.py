"""Shared access signatures, as clients spell them."""

import base64
import hashlib
import hmac
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.auth.sas import CLOCK_SKEW_SECONDS, SCHEME, Signature, SignatureMalformed, read

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()


def header(
    resource: str, *, key: str = KEY, expiry: int = 1000, policy: str = "service", order: str = "sr sig se skn"
) -> str:
    signed = quote_plus(resource)
    digest = hmac.digest(base64.b64decode(key), f"{signed}\n{expiry}".encode(), hashlib.sha256)
    parts = {"sr": signed, "sig": quote(base64.b64encode(digest)), "se": str(expiry), "skn": policy}
    return f"{SCHEME} " + "&".join(f"{name}={parts[name]}" for name in order.split())


@pytest.mark.parametrize("order", ["sr sig se skn", "sr sig skn se", "se skn sig sr"])
def test_the_order_of_the_parts_is_free(order: str) -> None:
    found = read(header("localhost:8080", order=order))
    assert (found.host, found.path, found.policy, found.expiry) == ("localhost:8080", "", "service", 1000)
    assert found.is_of(KEY)
    assert not found.is_of(OTHER)


def test_what_was_signed_cannot_be_changed() -> None:
    said = header("host/devices/a")
    assert read(said).is_of(KEY)
    assert not read(said.replace("devices%2Fa", "devices%2Fb")).is_of(KEY)
    assert not read(said.replace("se=1000", "se=1001")).is_of(KEY)


def test_a_signature_ends_a_skew_of_clocks_after_its_time() -> None:
    found = read(header("host", expiry=1000))
    assert not found.is_expired(1000 + CLOCK_SKEW_SECONDS - 0.1)
    assert found.is_expired(1000 + CLOCK_SKEW_SECONDS)


@pytest.mark.parametrize(
    ("resource", "host", "path", "covered"),
    [
        ("Edge.Example:8080", "edge.example:8080", "/devices", True),
        ("edge.example", "edge.example:8080", "/devices", True),
        ("edge.example:8081", "edge.example:8080", "/devices", False),
        ("other.example", "edge.example", "/devices", False),
        ("host/devices/a", "host", "/devices/a", True),
        ("host/devices/a/", "host", "/devices/a", True),
        ("host/devices/a", "host", "/devices/a/modules/m", True),
        ("host/devices/a", "host", "/devices/ab", False),
        ("host/devices/a", "host", "/devices/A", True),
        ("host/devices/a", "host", "/devices", False),
        ("host/devices/a%2Fb", "host", "/devices/a/b", False),
    ],
)
def test_a_signature_covers_its_host_and_what_is_below_its_path(
    resource: str, host: str, path: str, *, covered: bool
) -> None:
    assert read(header(resource)).covers(host, path) is covered


@pytest.mark.parametrize(
    "said",
    [
        "",
        "Basic YTpi",
        f"{SCHEME} ",
        f"{SCHEME} sr=host&sig=AAAA",
        f"{SCHEME} sr=host&sig=AAAA&se=soon",
        f"{SCHEME} sr=host&sig=AAAA&se=-1",
        f"{SCHEME} sr=host&sig=AAAA&se=1e9",
        f"{SCHEME} sr=host&sig=!&se=1",
        f"{SCHEME} sr=host&sig=AAAA&se=1&se=2",
        f"{SCHEME} sr=host&sig=AAAA&se=1&skn",
        f"{SCHEME} sr={'x' * 5000}&sig=AAAA&se=1",
    ],
)
def test_what_is_no_signature_is_said_without_quoting_it(said: str) -> None:
    with pytest.raises(SignatureMalformed) as refused:
        read(said)
    assert "AAAA" not in str(refused.value)


@settings(derandomize=True, max_examples=300)
@given(
    st.text(st.characters(max_codepoint=255), max_size=60)
    | st.tuples(*[st.text("abc%+/=& \x00\xff0129", max_size=8)] * 4).map(
        lambda some: "{} sr={}&sig={}&se={}&skn={}".format(SCHEME, *some)
    )
)
def test_any_header_is_a_signature_of_nobody_or_malformed(said: str) -> None:
    try:
        found = read(said)
    except SignatureMalformed:
        return
    assert isinstance(found, Signature)
    assert not found.is_of(KEY)
    assert found.covers("host", "/") in {True, False}


def test_a_header_of_the_greatest_length_is_read_and_a_longer_one_is_not() -> None:
    header = f"{SCHEME} sr=hub&sig=c2ln&se=2000000000&skn="
    longest = header + "x" * (4096 - len(header))
    assert read(longest).policy.startswith("xxx")
    with pytest.raises(SignatureMalformed):
        read(longest + "x")
