"""One delivery over HTTP: signed, only to an allowed address, within a time limit."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Self
from urllib.parse import urlsplit

import httpx
import msgspec

from events.notification.cloud_event import MEDIA_TYPE, Notification
from events.secrets.vault import Vault
from events.settings import ENV_PREFIX, Settings, SettingsInvalid
from events.webhook import signature
from events.webhook.errors import TargetRefused
from events.webhook.state import WebhookDocument
from events.webhook.targets import Address, AllowedTargets

ANSWER_BYTES_MAX = 16_384
"""How much of an answer is read, so that the connection can be used again; a longer answer closes it."""

TIMEOUT, NO_NAME, NOT_ALLOWED, TLS, NO_CONNECTION, BROKEN = ("timeout", "name", "target", "tls", "connection", "http")
"""Why there was no answer."""

GONE = 410


class DeliveryResult(msgspec.Struct, frozen=True):
    """The result of a delivery: a status, or `None` and one of the errors above. The body of the answer is not stored."""

    status: int | None
    error: str
    milliseconds: int

    @property
    def delivered(self) -> bool:
        """Whether the receiver accepted it."""
        return self.status is not None and httpx.codes.is_success(self.status)

    @property
    def result(self) -> str:
        """The error, or the class of the status, as in `2xx`."""
        return self.error if self.status is None else f"{self.status // 100}xx"


def revealed_target(vault: Vault, document: WebhookDocument) -> tuple[str, str]:
    """Returns a webhook's URL with its query, and its signing secret, in plain text; raises as `Vault.reveal`."""
    plain = vault.reveal({"secret": document.secret, "query": document.query or ""})
    assert isinstance(plain, dict)
    return f"{document.url}?{plain['query']}" if document.query else document.url, plain["secret"]


async def resolve(host: str, port: int | str) -> list[Address]:
    """Returns the current addresses of a host; raises socket.gaierror if it has none."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(socket_address[0])) for *_, socket_address in infos]


Resolve = Callable[[str, int | str], Awaitable[list[Address]]]


class WebhookSender:
    """Sends to one webhook's receiver, over connections that an `async with` keeps; SettingsInvalid for a bad CA file."""

    def __init__(self, settings: Settings, *, resolve: Resolve = resolve) -> None:
        self._resolve = resolve
        self._targets = AllowedTargets.parse(settings.webhook_private_targets)
        self._timeout_seconds = settings.webhook_timeout_seconds
        trusted = ssl.create_default_context()
        try:
            if settings.webhook_ca_file is not None:
                trusted.load_verify_locations(settings.webhook_ca_file)
        except OSError as error:
            variable = f"{ENV_PREFIX}WEBHOOK_CA_FILE"
            raise SettingsInvalid(variable, f"{variable}: the file has no readable certificates") from error
        # `trust_env=False`: a proxy or a netrc file of the environment would get around the check of addresses.
        self._client = httpx.AsyncClient(
            verify=trusted, trust_env=False, follow_redirects=False, timeout=self._timeout_seconds
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def post(self, url: str, notification: Notification, *, secret: str, at: int) -> DeliveryResult:
        """Deliver a notification; returns every failure as a result, without URL and secret."""
        start = time.perf_counter()
        status, error = None, ""
        message_id = f"{notification.location.epoch}:{notification.location.event_id}"
        signed = signature.headers(secret, message_id=message_id, at_seconds=at // 1000, body=notification.body)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await self._answer(url, {**signed, "content-type": MEDIA_TYPE}, notification.body)
                status, read = answer.status_code, 0
                async with contextlib.aclosing(answer):
                    async for part in answer.aiter_raw():
                        read += len(part)
                        if read > ANSWER_BYTES_MAX:
                            break
        except (TimeoutError, httpx.TimeoutException):
            error = TIMEOUT
        except socket.gaierror:
            error = NO_NAME
        except TargetRefused:
            error = NOT_ALLOWED
        except httpx.ConnectError as failure:
            error = TLS if _is_of_tls(failure) else NO_CONNECTION
        except (httpx.HTTPError, httpx.InvalidURL):
            error = BROKEN
        return DeliveryResult(status, error if status is None else "", round(1000 * (time.perf_counter() - start)))

    async def _answer(self, url: str, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        parts = urlsplit(url)
        addresses = await self._resolve(parts.hostname or "", parts.port or parts.scheme)
        for address in addresses:
            # A public receiver has no private address, so one that is not allowed refuses the whole name.
            if not self._targets.allow(address, scheme=parts.scheme):
                raise TargetRefused(str(address))
        for number, address in enumerate(addresses, 1):
            # To the checked address: a second lookup of the name could give another one. TLS and the receiver see the name.
            request = self._client.build_request(
                "POST",
                httpx.URL(url).copy_with(host=str(address)),
                headers={"host": parts.netloc, "user-agent": "twinfold", **headers},
                content=body,
                extensions={"sni_hostname": parts.hostname},
            )
            try:
                return await self._client.send(request, stream=True)
            except httpx.ConnectError:
                if number == len(addresses):
                    raise
        raise AssertionError


def _is_of_tls(failure: BaseException | None) -> bool:
    while failure is not None:
        if isinstance(failure, ssl.SSLError):
            return True
        failure = failure.__cause__ or failure.__context__
    return False
