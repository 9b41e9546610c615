"""The client of the API that commands use, and how they show its answers."""

import json as json_
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import httpx
import typer
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from events.canonical import Json
from events.device.tags import tag_value
from events.rich_console import console
from events.settings import ENV_PREFIX, Settings, read_settings
from events.terminal import print_json, print_lines
from services import logins
from services.cli.connection_errors import SET_DIRECTORY, misfit
from services.cli.flag_names import in_flags
from services.local_api import TOKEN_FILE, LocalApi, read_local_api
from services.local_api import token as local_token

# A preview waits up to 5 s for workers before it computes (decision 0028).
TIMEOUT_SECONDS = 30.0
WATCH_SECONDS = 0.5
# The hub's routes require a version; those of `/v1` have none.
API_VERSION = {"api-version": "2024-03-31"}

ApiUrl = Annotated[str | None, typer.Option(help="URL of the API.", envvar=[], show_default="TWINFOLD_API_URL")]
At = Annotated[
    str | None, typer.Option(help="Read a past state: a time (2026-11-21T10:00:00Z) or a position (fleet:17, p03:120).")
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")]
Limit = Annotated[int, typer.Option(min=1, help="Maximum number of devices to list.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]

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
    """Calls the API and raises its errors as exceptions of the command line."""

    def __init__(
        self, url: str | None, *, at: str | None = None, token: str = "", named: Callable[[str], str] = in_flags
    ) -> None:
        """With `at`, every read gets the state at that time or position. `token` overrides settings, logins and data directory.

        `named` translates the names in an error message; `str` keeps them, for members that the user wrote in a file.

        Raises:
            SettingsInvalid, LoginsUnreadable: the URL of the API, or the token for it, cannot be read.
        """
        self._at, self._named = {} if at is None else {"at": at}, named
        settings = read_settings(api_url=url)
        local = read_local_api(settings.data_dir)
        self._url = (settings.api_url or (local.url if local else "http://127.0.0.1:8080")).rstrip("/")
        self._directory, self._is_guess = settings.data_dir, not (settings.api_url or local)
        bearer_token, self.token_source = (token, "given") if token else self._token(settings, local)
        self._headers = {"Authorization": f"Bearer {bearer_token}"} if bearer_token else {}
        # The authority of a data directory is trusted for the address of its own server alone: anyone who can write that
        # directory could otherwise impersonate any API.
        trusted = local.ca if local is not None and local.ca and self._url == local.url else None
        self._verify = ssl.create_default_context(cafile=trusted)
        self.headers: httpx.Headers = httpx.Headers()
        """The headers of the last answer."""

    @property
    def url(self) -> str:
        """The URL of the API, without a slash at the end."""
        return self._url

    def _token(self, settings: Settings, local: LocalApi | None) -> tuple[str, str]:
        """The token for this server and where it comes from; both are empty if there is none."""
        if settings.token:
            return settings.token, f"{ENV_PREFIX}TOKEN"
        login = logins.read(settings.login_file).get(self._url)
        if login is not None:
            return login.token, str(settings.login_file)
        # The administrator's token of this machine is sent to the server of this machine alone: any other could use it.
        administrator = local_token(settings.data_dir) if local is not None and local.url == self._url else ""
        return administrator, str(settings.data_dir / TOKEN_FILE) if administrator else ""

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Json = None,
        params: dict[str, Any] | None = None,
        any_etag: bool = False,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Send a request and return the JSON of the answer; `None` if it is empty.

        Raises:
            ApiRefused, ApiUnavailable: the request failed.
        """
        headers = {**self._headers, **({"If-Match": "*"} if any_etag else {}), **(headers or {})}
        try:
            answer = httpx.request(
                method,
                f"{self._url}{path}",
                json=body,
                params={
                    **(params or {}),
                    **(self._at if method == "GET" else {}),
                    **({} if path.startswith("/v1") else API_VERSION),
                },
                headers=headers,
                timeout=TIMEOUT_SECONDS,
                verify=self._verify,
            )
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise ApiUnavailable(self._url, _message(answer))
        if not answer.is_success:
            raise ApiRefused(answer.status_code, self._named(_message(answer)))
        self.headers = answer.headers
        return answer.json() if answer.content else None

    def stream(self, path: str, *, params: dict[str, Any]) -> Iterator[bytes]:
        """Send a GET request and yield the bytes of the answer as they arrive.

        Raises:
            ApiRefused, ApiUnavailable: the request failed, or the answer broke off.
        """
        try:
            with httpx.stream(
                "GET",
                f"{self._url}{path}",
                params=params,
                headers=self._headers,
                timeout=TIMEOUT_SECONDS,
                verify=self._verify,
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise ApiRefused(answer.status_code, _message(answer))
                yield from answer.iter_bytes()
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: httpx.HTTPError) -> ApiUnavailable:
        why = misfit(self._url, error)
        if why is not None:
            return ApiMisaddressed(self._url, why)
        guess = f" (the default URL, because {self._directory} has no API; {SET_DIRECTORY})" if self._is_guess else ""
        return ApiUnavailable(self._url, f"{str(error) or type(error).__name__}{guess}")

    def pages(
        self, path: str, *, limit: int, params: dict[str, Any] | None = None, items: str = "devices"
    ) -> Iterator[Any]:
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


def quoted(name: str) -> str:
    """An id as a part of a URL's path; ids may contain `#`, `?` and `%`."""
    return quote(name, safe="")


def show_answer(
    read: Callable[[], Answer], render: Callable[[Answer], RenderableType], *, json: bool, watch: bool = False
) -> None:
    """Print what `read` returns, as JSON or rendered; `watch` refreshes it until Ctrl-C, also while the API is away."""
    if json:
        show_json(read())
    elif watch:
        show_live(read, render, until=lambda _: False)
    else:
        console().print(render(read()))


def show_lines(items: Iterable[str], *, json: bool, empty: str) -> None:
    """Print ids, one a line or as a JSON list; without any, `empty`."""
    lines = list(items)
    if json:
        show_json(lines)
    else:
        print_lines(*(lines or [empty]))


def show_live(
    read: Callable[[], Answer], render: Callable[[Answer], RenderableType], *, until: Callable[[Answer], bool]
) -> Answer:
    """Show the rendered answers in one place on the terminal until `until` is true; returns the last answer."""
    # Read before the screen is taken over: an error of the first read is printed and ends the command.
    first = read()
    with Live(render(first), console=console(), auto_refresh=False) as live:

        def show(answer: Answer | ApiUnavailable) -> None:
            live.update(Text(str(answer)) if isinstance(answer, ApiUnavailable) else render(answer), refresh=True)

        return poll(first, read, show, until=until)


def poll(
    last: Answer,
    read: Callable[[], Answer],
    show: Callable[[Answer | ApiUnavailable], None],
    *,
    until: Callable[[Answer], bool],
) -> Answer:
    """Read every `WATCH_SECONDS` until `until` is true, and return the last answer; `show` gets each, and outages too."""
    while not until(last):
        time.sleep(WATCH_SECONDS)
        try:
            last = read()
        except ApiUnavailable as error:
            # A rollout takes hours, and an upgrade restarts the API meanwhile: an outage does not end the watching.
            show(error)
        else:
            show(last)
    return last


def _message(answer: httpx.Response) -> str:
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


def pairs(texts: list[str], *, flag: str = "--tag") -> dict[str, Any]:
    """`name=value` pairs as tags with the types of `tag_value`; `name=` removes a tag. `flag` is named in errors."""
    tags: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r} is not name=value", param_hint=flag)
        tags[name] = tag_value(value)
    return tags


def json_text(value: Json) -> str:
    """A value as JSON in one line."""
    return json_.dumps(value, ensure_ascii=False)


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    print_json(json_.dumps(value, indent=2, ensure_ascii=False))
