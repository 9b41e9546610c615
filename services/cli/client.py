"""The client of the API that commands use, and how they show its answers."""

import contextlib
import json as json_
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote, urlsplit

import typer
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from events.canonical import Json
from events.device.tags import tag_value
from events.rich_console import console
from events.settings import ENV_PREFIX, Settings, read_settings
from events.terminal import print_json, print_lines
from services import logins
from services.cli.commands import From, flag
from services.cli.flag_names import in_flags
from services.local_api import TOKEN_FILE, LocalApi, read_local_api
from services.local_api import token as local_token

if TYPE_CHECKING:
    import httpx

# A preview waits up to 5 s for workers before it computes (decision 0028).
TIMEOUT_SECONDS = 30.0
WATCH_SECONDS = 0.5
# The hub's routes require a version; those of `/v1` have none.
API_VERSION = {"api-version": "2024-03-31"}
ANY_ETAG = {"If-Match": "*"}
SET_DIRECTORY = "set TWINFOLD_DATA_DIR to the --data directory of `twinfold up`"

_PROBE_SECONDS = 2.0
# Parts of OpenSSL's messages for an answer that is no TLS; its versions word it differently.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF", "record layer failure")

ApiUrl = Annotated[str | None, flag("URL of the API.", show_default="TWINFOLD_API_URL")]
At = Annotated[str | None, flag("Read a past state: a time (2026-11-21T10:00:00Z) or a position (fleet:17, p03:120).")]
Watch = Annotated[bool, flag("Refresh until Ctrl-C.", "--watch", "-w")]
Limit = Annotated[int, flag("Maximum number of devices to list.", min=1)]
AsJson = Annotated[bool, flag("JSON, for programs.", "--json")]

Params = dict[str, Any] | None
Answer = TypeVar("Answer")


class ApiRefused(Exception):
    """The API refused a request; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ApiUnavailable(Exception):
    """The API does not answer, or cannot reach its Redis."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"the API at {url} is not available: {why}; is `twinfold up` running?")
        self.url, self.why = url, why


class ApiMisaddressed(ApiUnavailable):
    """A server is at the API's address, but the request used the wrong protocol or trust settings."""

    def __init__(self, url: str, why: str) -> None:
        Exception.__init__(self, f"the API at {url} cannot be reached: {why}")
        self.url, self.why = url, why


class Api:
    """Calls the API, raises its errors as exceptions of the command line, and shows answers as the command's flags say."""

    def __init__(
        self,
        *,
        api_url: str | None = None,
        at: str | None = None,
        json: bool = False,
        preview: bool = False,
        preview_token: str | None = None,
        token: str = "",
    ) -> None:
        """With `at`, every read gets the state at that time or position. `token` overrides settings, logins and data directory.

        Raises:
            SettingsInvalid, LoginsUnreadable: the URL of the API, or the token for it, cannot be read.
        """
        self._at = {} if at is None else {"at": at}
        self.json, self.preview, self.preview_token = json, preview, preview_token
        self.named: Callable[[str], str] = in_flags
        """Translates the names in an error message; `str` keeps them, for members that the user wrote in a file."""
        settings = read_settings(api_url=api_url)
        local = read_local_api(settings.data_dir)
        self.url = (settings.api_url or (local.url if local else "http://127.0.0.1:8080")).rstrip("/")
        self._directory, self._is_guess = settings.data_dir, not (settings.api_url or local)
        bearer_token, self.token_source = (token, "given") if token else self._token(settings, local)
        self._headers = {"Authorization": f"Bearer {bearer_token}"} if bearer_token else {}
        # The authority of a data directory is trusted for the address of its own server alone: anyone who can write that
        # directory could otherwise impersonate any API.
        trusted = local.ca if local is not None and local.ca and self.url == local.url else None
        self._verify = ssl.create_default_context(cafile=trusted)
        self.headers: Mapping[str, str] = {}
        """The headers of the last answer."""

    def _token(self, settings: Settings, local: LocalApi | None) -> tuple[str, str]:
        """The token for this server and where it comes from; both are empty if there is none."""
        if settings.token:
            return settings.token, f"{ENV_PREFIX}TOKEN"
        login = logins.read(settings.login_file).get(self.url)
        if login is not None:
            return login.token, str(settings.login_file)
        # The administrator's token of this machine is sent to the server of this machine alone: any other could use it.
        administrator = local_token(settings.data_dir) if local is not None and local.url == self.url else ""
        return administrator, str(settings.data_dir / TOKEN_FILE) if administrator else ""

    def call(
        self, method: str, path: str, *, body: Json = None, params: Params = None, headers: dict[str, str] | None = None
    ) -> Any:
        """Send a request and return the JSON of the answer; `None` if it is empty.

        Raises:
            ApiRefused, ApiUnavailable: the request failed.
        """
        query = {
            **(params or {}),
            **(self._at if method == "GET" else {}),
            **({} if path.startswith("/v1") else API_VERSION),
        }
        with self._sent(method, path, json=body, params=query, headers=headers or {}) as answer:
            self.headers = answer.headers
            return answer.json() if answer.read() else None

    def stream(self, path: str, *, params: dict[str, Any]) -> Iterator[bytes]:
        """Send a GET request and yield the bytes of the answer as they arrive.

        Raises:
            ApiRefused, ApiUnavailable: the request failed, or the answer broke off.
        """
        with self._sent("GET", path, params=params, headers={}) as answer:
            yield from answer.iter_bytes()

    @contextlib.contextmanager
    def _sent(self, method: str, path: str, *, headers: dict[str, str], **how: Any) -> "Iterator[httpx.Response]":
        import httpx

        try:
            with httpx.stream(
                method,
                f"{self.url}{path}",
                headers=self._headers | headers,
                timeout=TIMEOUT_SECONDS,
                verify=self._verify,
                **how,
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                        raise ApiUnavailable(self.url, _message(answer))
                    raise ApiRefused(answer.status_code, self.named(_message(answer)))
                yield answer
        except httpx.HTTPError as error:
            why = misfit(self.url, error)
            if why is not None:
                raise ApiMisaddressed(self.url, why) from error
            guess = (
                f" (the default URL, because {self._directory} has no API; {SET_DIRECTORY})" if self._is_guess else ""
            )
            raise ApiUnavailable(self.url, f"{str(error) or type(error).__name__}{guess}") from error

    def pages(self, path: str, *, limit: int, params: Params = None, items: str = "devices") -> Iterator[Any]:
        """The first `limit` items of a list that the API answers in pages; `items` is the member that holds them."""
        token, left = None, limit
        while left:
            # The API answers at most 1,000 items a page (`PAGE_MAX`).
            query = {**(params or {}), "top": min(left, 1000), **({"continuation": token} if token else {})}
            page = self.call("GET", path, params=query)
            yield from page[items]
            token, left = page["continuation"], left - len(page[items])
            if token is None:
                return

    def show(
        self,
        path: str,
        render: Callable[[Any], RenderableType],
        *,
        params: Params = None,
        part: Callable[[Any], Any] = lambda answer: answer,
        watch: bool = False,
    ) -> None:
        """Print the answer of a GET request, or a part of it, as JSON or rendered.

        `watch` refreshes it until Ctrl-C, also while the API is away.
        """

        def read() -> Any:
            return part(self.call("GET", path, params=params))

        if self.json:
            show_json(read())
        elif watch:
            show_live(watched(read, until=lambda _: False), render)
        else:
            console().print(render(read()))

    def show_lines(self, items: Iterable[str], *, empty: str) -> None:
        """Print ids, one a line or as a JSON list; without any, `empty`."""
        lines = list(items)
        if self.json:
            show_json(lines)
        else:
            print_lines(*(lines or [empty]))


PlainApi = Annotated[Api, From(Api, api_url=ApiUrl)]
AnswerApi = Annotated[Api, From(Api, api_url=ApiUrl, json=AsJson)]
PastApi = Annotated[Api, From(Api, at=At, api_url=ApiUrl)]
ReadApi = Annotated[Api, From(Api, at=At, api_url=ApiUrl, json=AsJson)]


def misfit(url: str, error: "httpx.HTTPError") -> str | None:
    """Why the address or the trust settings are wrong, and what to set; `None` when the error has another cause."""
    text = str(error)
    if url.startswith("https://"):
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return (
                f"its certificate is not trusted here: {SET_DIRECTORY}, or SSL_CERT_FILE to the certificate of its"
                " authority (`twinfold ca` prints its path)"
            )
        if any(sign in text for sign in _NOT_TLS):
            return "it speaks HTTP without TLS: set TWINFOLD_API_URL (--api-url) to the same address with http://"
        return None
    import httpx

    # A TLS server that gets plain HTTP closes the connection, which says nothing of TLS: only a handshake can tell.
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError) and _speaks_tls(url):
        return f"it speaks HTTPS: {SET_DIRECTORY}, or TWINFOLD_API_URL (--api-url) to its https:// address"
    return None


def _speaks_tls(url: str) -> bool:
    """Whether a TLS handshake succeeds at a URL, whatever its certificate."""
    parts = urlsplit(url)
    # Unverified: nothing is sent, and the certificate's trust is not the question here.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=_PROBE_SECONDS) as line,
        context.wrap_socket(line, server_hostname=parts.hostname),
    ):
        return True
    return False


def _message(answer: "httpx.Response") -> str:
    try:
        body = answer.json()
    except ValueError:
        return f"{answer.status_code} {answer.reason_phrase}"
    if "error" in body:
        return str(body["error"]["message"])
    if body.get("errors"):
        return "\n".join(str(error["errorStatus"]) for error in body["errors"])
    # The hub's form, "ErrorCode:…;text" (contract/hub.md).
    return str(body.get("Message", "")).partition(";")[2] or str(body)


def quoted(name: str) -> str:
    """An id as a part of a URL's path; ids may contain `#`, `?` and `%`."""
    return quote(name, safe="")


def given(**members: Any) -> dict[str, Any]:
    """The parameters of a request, or the members of its body, that are not `None`."""
    return {name: value for name, value in members.items() if value is not None}


def pairs(texts: list[str], *, flag: str = "--tag") -> dict[str, Any]:
    """`name=value` pairs as tags with the types of `tag_value`; `name=` removes a tag. `flag` is named in errors."""
    tags: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r} is not name=value", param_hint=flag)
        tags[name] = tag_value(value)
    return tags


def show_live(answers: Iterator[Answer | ApiUnavailable], render: Callable[[Answer], RenderableType]) -> None:
    """Show answers in one place on the terminal, each instead of the former."""
    from rich.live import Live

    def rendered(answer: Answer | ApiUnavailable) -> RenderableType:
        return Text(str(answer)) if isinstance(answer, ApiUnavailable) else render(answer)

    # The first is read before the screen is taken over: its error is printed and ends the command.
    with Live(rendered(next(answers)), console=console(), auto_refresh=False) as live:
        for answer in answers:
            live.update(rendered(answer), refresh=True)


def watched(read: Callable[[], Answer], *, until: Callable[[Answer], bool]) -> Iterator[Answer | ApiUnavailable]:
    """Read every `WATCH_SECONDS` until `until` is true; yields each answer, and the outages after the first."""
    answer = read()
    yield answer
    while not until(answer):
        time.sleep(WATCH_SECONDS)
        try:
            answer = read()
        except ApiUnavailable as error:
            # A rollout takes hours, and an upgrade restarts the API meanwhile: an outage does not end the watching.
            yield error
        else:
            yield answer


def table(rows: Iterable[Iterable[object]], *headers: str, right: Iterable[str] = (), title: str = "") -> Table:
    """A table of rows, with the columns of the headers in `right` aligned to the right; without headers it has no head."""
    columns = (Column(header, justify="right" if header in right else "left") for header in headers)
    whole = Table(*columns, title=title or None, title_justify="left", show_header=bool(headers))
    for row in rows:
        whole.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    return whole


def json_text(value: Json) -> str:
    """A value as JSON in one line."""
    return json_.dumps(value, ensure_ascii=False)


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    print_json(json_.dumps(value, indent=2, ensure_ascii=False))
