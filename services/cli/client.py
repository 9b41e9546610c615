"""The command line's way to the API."""

import json
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import httpx
import typer
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from events.canonical import Json
from events.device.tag_value import tag_value
from events.rich_console import console
from events.settings import ENV_PREFIX, Settings, read_settings
from events.terminal import print_json
from services import logins
from services.cli.connection_errors import SET_DIRECTORY, misfit
from services.cli.flag_names import in_flags
from services.serving import TOKEN_FILE, Serving, serving
from services.serving import token as local_token

TIMEOUT_SECONDS = 30.0
WATCH_SECONDS = 0.5
API_VERSION = {"api-version": "2024-03-31"}

ApiUrl = Annotated[str | None, typer.Option(help="Where the API is.", envvar=[], show_default="TWINFOLD_API_URL")]
At = Annotated[
    str | None,
    typer.Option(help="As of then: a time (2026-11-21T10:00:00Z), or a position of the log (fleet:17, p03:120)."),
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Look again until Ctrl-C.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]

Found = TypeVar("Found")


class ApiRefused(Exception):
    """The API refused what was asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ApiUnavailable(Exception):
    """The API does not answer, or cannot reach its Redis."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"the API at {url} is not available: {why}; is `twinfold up` running?")
        self.url, self.why = url, why


class ApiMisaddressed(ApiUnavailable):
    """Something answers at the API's address, and not in the way that it is asked."""

    def __init__(self, url: str, why: str) -> None:
        Exception.__init__(self, f"the API at {url} cannot be asked: {why}")
        self.url, self.why = url, why


class Api:
    """Calls of the API, with its errors as ours."""

    def __init__(
        self,
        url: str | None,
        *,
        at: str | None = None,
        token: str = "",
        named: Callable[[str], str] = in_flags,
    ) -> None:
        """With `at`, every read answers as of then. A `token` overrides those of the settings, logins and data directory.

        `named` puts the names that the user typed into a message; `str` leaves those that a file has.

        Raises:
            SettingsInvalid, LoginsUnreadable: where the API is, or the token for it, cannot be read.
        """
        self._then, self._named = {} if at is None else {"at": at}, named
        settings = read_settings(api_url=url)
        local = serving(settings.data_dir)
        self._url = (settings.api_url or (local.url if local else "http://127.0.0.1:8080")).rstrip("/")
        self._directory, self._is_guess = settings.data_dir, not (settings.api_url or local)
        shown, self.token_source = (token, "given") if token else self._token(settings, local)
        self._headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        # The authority of this machine is trusted for its own address alone.
        trusted = local.ca if local is not None and local.ca and self._url == local.url else None
        self._verify = ssl.create_default_context(cafile=trusted)
        self.headers: httpx.Headers = httpx.Headers()
        """Those of the last answer."""

    @property
    def url(self) -> str:
        """Where the API is, without a slash at the end."""
        return self._url

    def _token(self, settings: Settings, local: Serving | None) -> tuple[str, str]:
        """The token for this server, and where it comes from; both empty where there is none."""
        if settings.token:
            return settings.token, f"{ENV_PREFIX}TOKEN"
        login = logins.read(settings.login_file).get(self._url)
        if login is not None:
            return login.token, str(settings.login_file)
        # The administrator's token of this machine is shown to the server of this machine alone.
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
        """The JSON of an answer; `None` where it has none.

        Raises:
            ApiRefused, ApiUnavailable: there is no such answer.
        """
        headers = {**self._headers, **({"If-Match": "*"} if any_etag else {}), **(headers or {})}
        try:
            answer = httpx.request(
                method,
                f"{self._url}{path}",
                json=body,
                params={
                    **(params or {}),
                    **(self._then if method == "GET" else {}),
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
        """The bytes of an answer as they come.

        Raises:
            ApiRefused, ApiUnavailable: there is no such answer, or it broke off.
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
        guess = f" (a guess: {self._directory} tells of no API; {SET_DIRECTORY})" if self._is_guess else ""
        return ApiUnavailable(self._url, f"{str(error) or type(error).__name__}{guess}")

    def pages(self, path: str, *, limit: int, params: dict[str, Any] | None = None) -> Iterator[Any]:
        """Device ids, or devices, page by page."""
        token, left = None, limit
        while left:
            asked = {**(params or {}), "top": min(left, 1000), **({"continuation": token} if token else {})}
            page = self.call("GET", path, params=asked)
            yield from page["devices"]
            token, left = page["continuation"], left - len(page["devices"])
            if token is None:
                return


def quoted(name: str) -> str:
    """An id as a part of a path; ids may hold `#`, `?` and `%`."""
    return quote(name, safe="")


def show_table(look: Callable[[], RenderableType], *, watch: bool) -> None:
    """Print what `look` answers; with `watch` again and again, also over an API that is away for a while."""
    if watch:
        show_live(look, lambda table: table, until=lambda _: False)
    else:
        console().print(look())


def show_live(
    look: Callable[[], Found], shown: Callable[[Found], RenderableType], *, until: Callable[[Found], bool]
) -> Found:
    """Show what `look` answers, each in the place of the one before, until something holds of it; answers that."""
    first = look()
    with Live(shown(first), console=console(), auto_refresh=False) as live:

        def show(found: Found | ApiUnavailable) -> None:
            live.update(Text(str(found)) if isinstance(found, ApiUnavailable) else shown(found), refresh=True)

        return look_on(first, look, show, until=until)


def look_on(
    last: Found,
    look: Callable[[], Found],
    show: Callable[[Found | ApiUnavailable], None],
    *,
    until: Callable[[Found], bool],
) -> Found:
    """Look until something holds of what is found, and answer that; all of it is shown, also that the API is away for a while."""
    while not until(last):
        time.sleep(WATCH_SECONDS)
        try:
            last = look()
        except ApiUnavailable as error:
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
        return "\n".join(str(one["errorStatus"]) for one in body["errors"])
    return str(body.get("Message", "")).partition(";")[2] or str(body)


def pairs(given: list[str], *, flag: str = "--tag") -> dict[str, Any]:
    """`name=value` pairs as tags, typed as `tag_value` says; `name=` removes. `flag` is where they were given."""
    found: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{one!r} is not name=value", param_hint=flag)
        found[name] = tag_value(value)
    return found


def json_text(value: Json) -> str:
    """A value within a line, as JSON."""
    return json.dumps(value, ensure_ascii=False)


def show_json(value: Json) -> None:
    """Print JSON."""
    print_json(json.dumps(value, indent=2, ensure_ascii=False))
