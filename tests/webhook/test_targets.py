"""Where webhooks may lead: told of addresses, of URLs, and of what a name turns out to be when it is connected to."""

import asyncio
import contextlib
import datetime as dt
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from events.notification.cloud_event import of_test
from events.notification.http_delivery import DeliveryResult, Resolve, WebhookSender, resolve
from events.settings import SettingsInvalid, read_settings
from events.webhook.errors import TargetRefused
from events.webhook.signature import secret_of
from events.webhook.targets import AllowedTargets, check_target
from services import certificates
from tests.webhook.receiver import Receiver, receiver

SECRET = secret_of(b"k" * 32)
PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:8.8.8.8"]
PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",  # noqa: S104 - refused
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%lo",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "2001:db8::1",
    "2001::1",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed_over_https_alone(address: str) -> None:
    assert AllowedTargets().allow(ip_address(address), scheme="https")
    assert not AllowedTargets().allow(ip_address(address), scheme="http")


@pytest.mark.parametrize("address", PRIVATE)
def test_no_other_address_is(address: str) -> None:
    assert not AllowedTargets().allow(ip_address(address), scheme="https")
    assert not AllowedTargets.parse("192.168.7.0/24").allow(ip_address(address), scheme="https")
    assert AllowedTargets.parse("any").allow(ip_address(address), scheme="http")


def test_a_setting_allows_networks_and_plain_http_in_them() -> None:
    targets = AllowedTargets.parse("10.0.0.0/8, ::1")
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "::1"):
        assert targets.allow(ip_address(address), scheme="http")
    assert not targets.allow(ip_address("11.0.0.1"), scheme="http")
    assert not targets.allow(ip_address("192.168.0.1"), scheme="https")
    with pytest.raises(ValueError, match="10"):
        AllowedTargets.parse("10.0.0.1/8")


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://[::1]:8443/",
        "https://[::ffff:127.0.0.1]/",
        "https://169.254.169.254/latest",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://a.localhost/",
        "http://example.com/",
        "http://8.8.8.8/",
    ],
)
def test_a_url_of_which_it_can_be_told_is_refused_as_it_is_defined(url: str) -> None:
    with pytest.raises(TargetRefused, match="TWINFOLD_WEBHOOK_PRIVATE_TARGETS"):
        check_target(url, AllowedTargets())
    check_target(url, AllowedTargets.parse("any"))


def test_a_name_is_judged_when_it_is_connected_to() -> None:
    check_target("https://example.com:8443/hook", AllowedTargets())


def post(url: str, *, using: Resolve = resolve, **settings: Any) -> DeliveryResult:
    """Deliver a test event."""

    async def once() -> DeliveryResult:
        async with WebhookSender(read_settings(**settings), resolve=using) as posting:
            return await posting.post(url, of_test("test", "siem", at=1), secret=SECRET, at=1)

    return asyncio.run(once())


def names(*answers: list[str]) -> tuple[Resolve, list[str]]:
    """A resolver that answers other addresses each time, and what it was asked."""
    asked: list[str] = []

    async def answer(host: str, _port: int | str) -> Any:
        asked.append(host)
        return [ip_address(one) for one in answers[len(asked) - 1]]

    return answer, asked


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1"])
def test_a_name_that_leads_to_a_private_address_is_refused_and_nobody_is_connected_to(address: str) -> None:
    with receiver() as hook:
        for answered in ([address], ["93.184.216.34", address]):
            using, asked = names(answered)
            answer = post(f"https://rebound.example:{hook.port}/hook", using=using)
            assert (answer.status, answer.result) == (None, "target")
            assert asked == ["rebound.example"]
        assert hook.received == []


def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to(tmp_path: Path) -> None:
    with served_over_tls(tmp_path, "rebound.example") as hook:
        # Asked a second time, the name would lead elsewhere.
        using, asked = names(["127.0.0.1"], ["169.254.169.254"])
        url = f"https://rebound.example:{hook.port}/hook?a=b%20c"
        allowed = {"webhook_private_targets": "127.0.0.1", "webhook_ca_file": tmp_path / "tls/ca.pem"}
        assert post(url, using=using, **allowed).status == 200
        assert asked == ["rebound.example"]
        (one,) = hook.received
        assert one.headers["host"] == f"rebound.example:{hook.port}"
        assert one.path == "/hook?a=b%20c"
        assert one.is_signed_with(SECRET)


def served_over_tls(directory: Path, *hosts: str) -> contextlib.AbstractContextManager[Receiver]:
    files = certificates.ensure(directory, hosts, now=dt.datetime.now(dt.UTC))
    return receiver(certificate=(str(files.certificate), str(files.key)))


def test_a_certificate_is_checked_against_the_name_and_the_authorities(tmp_path: Path) -> None:
    allowed = {"webhook_private_targets": "127.0.0.1"}
    trusting = {**allowed, "webhook_ca_file": tmp_path / "tls/ca.pem"}
    with served_over_tls(tmp_path) as hook:
        assert post(hook.url, **trusting).status == 200
        assert post(hook.url, **allowed).result == "tls"
        using, _ = names(["127.0.0.1"])
        assert post(f"https://other.example:{hook.port}/", using=using, **trusting).result == "tls"
        assert len(hook.received) == 1


def test_what_goes_wrong_is_told_by_its_class_alone() -> None:
    async def nowhere(_host: str, _port: int | str) -> Any:
        raise socket.gaierror

    async def silent(_host: str, _port: int | str) -> Any:
        await asyncio.Event().wait()

    allowed = {"webhook_private_targets": "127.0.0.1", "webhook_timeout_seconds": 0.1}
    assert post("https://no.example/?s=3cret", using=nowhere).result == "name"
    assert post("https://slow.example/", using=silent, **allowed).result == "timeout"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert post(f"http://127.0.0.1:{nobody.getsockname()[1]}/", **allowed).result == "connection"
        nobody.listen()
        assert post(f"http://127.0.0.1:{nobody.getsockname()[1]}/", **allowed).result == "timeout"


def test_an_authority_that_cannot_be_read_is_named_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="TWINFOLD_WEBHOOK_CA_FILE"):
        post("https://no.example/", webhook_ca_file=tmp_path / "nothing.pem")


def test_of_several_addresses_the_next_one_is_tried() -> None:
    with receiver() as hook:
        using, _ = names(["127.0.0.2", "127.0.0.1"])
        answer = post(f"http://two.example:{hook.port}/hook", using=using, webhook_private_targets="127.0.0.0/8")
        assert answer.status == 200
