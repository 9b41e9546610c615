"""One delivery over HTTP: to an address that is allowed, signed, within its time, and with next to nothing read back."""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
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
"""So much of an answer is read, so that the connection can be used again; of a longer one, nothing more."""

TIMEOUT, NO_NAME, NOT_ALLOWED, TLS, NO_CONNECTION, BROKEN = ("timeout", "name", "target", "tls", "connection", "http")
"""Why there was no answer."""

GONE = 410


class DeliveryResult(msgspec.Struct, frozen=True):
    """What became of a delivery: a status, or `None` and one of the errors above. No body: it is nobody's business here."""

    status: int | None
    error: str
    milliseconds: int

    @property
    def delivered(self) -> bool:
        """Whether the receiver has it."""
        return self.status is not None and httpx.codes.is_success(self.status)

    @property
    def result(self) -> str:
        """The error, or the class of the status, as in `2xx`."""
        return self.error if self.status is None else f"{self.status // 100}xx"


def opened(vault: Vault, document: WebhookDocument) -> tuple[str, str]:
    """A webhook's URL with its query, and the secret that it is signed with.

    Raises:
        SecretsError: one of them does not open.
    """
    found = vault.reveal({"secret": document.secret, "query": document.query or ""})
    assert isinstance(found, dict)
    return f"{document.url}?{found['query']}" if document.query else document.url, found["secret"]


async def resolve(host: str, port: int | str) -> list[Address]:
    """The addresses that a host of a URL has at the moment.

    Raises:
        socket.gaierror: it has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(location[0])) for *_, location in found]


Resolve = Callable[[str, int | str], Awaitable[list[Address]]]


class Posting:
    """Posts to the receiver of one webhook, over connections that are kept until the end of the block.

    Raises:
        SettingsInvalid: the file of authorities cannot be read.
    """

    def __init__(self, settings: Settings, *, resolve: Resolve = resolve) -> None:
        self._resolve = resolve
        self._targets = AllowedTargets.parse(settings.webhook_private_targets)
        self._timeout_seconds = settings.webhook_timeout_seconds
        trusted = _trusted(settings.webhook_ca_file)
        # No proxy and no credentials of the environment: where it goes is decided here.
        self._client = httpx.AsyncClient(
            verify=trusted, trust_env=False, follow_redirects=False, timeout=self._timeout_seconds
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def post(self, url: str, one: Notification, *, secret: str, at: int) -> DeliveryResult:
        """Deliver a notification; whatever goes wrong on the way is the answer, and shows neither URL nor secret."""
        start = time.perf_counter()
        status, error = None, ""
        message_id = f"{one.location.epoch}:{one.location.event_id}"
        signed = signature.headers(secret, message_id=message_id, at_seconds=at // 1000, body=one.body)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await self._answer(url, {**signed, "content-type": MEDIA_TYPE}, one.body)
                status = answer.status_code
                await _read_on(answer)
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
        addresses = await self._addresses(parts.hostname or "", parts.port or parts.scheme, scheme=parts.scheme)
        for number, address in enumerate(addresses, 1):
            # To the address that was looked at, whatever the name says by now; TLS and the receiver see the name.
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

    async def _addresses(self, host: str, port: int | str, *, scheme: str) -> list[Address]:
        addresses = await self._resolve(host, port)
        for address in addresses:
            # One that is not allowed spoils the others: nobody's public receiver has one.
            if not self._targets.allow(address, scheme=scheme):
                raise TargetRefused(str(address))
        return addresses


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if ca_file is not None:
            context.load_verify_locations(ca_file)
    except OSError as error:
        variable = f"{ENV_PREFIX}WEBHOOK_CA_FILE"
        raise SettingsInvalid(variable, f"{variable}: no certificates can be read there") from error
    return context


async def _read_on(answer: httpx.Response) -> None:
    read = 0
    try:
        async for part in answer.aiter_raw():
            read += len(part)
            if read > ANSWER_BYTES_MAX:
                break
    finally:
        await answer.aclose()


def _is_of_tls(failure: BaseException | None) -> bool:
    while failure is not None:
        if isinstance(failure, ssl.SSLError):
            return True
        failure = failure.__cause__ or failure.__context__
    return False
