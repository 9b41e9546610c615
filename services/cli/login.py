"""`twinfold login`, `logout` and `whoami`: the person that changes are recorded under."""

import sys
from datetime import UTC, datetime

import typer

from events.canonical import JsonObject
from events.settings import ENV_PREFIX, read_settings
from events.terminal import complain, print_lines
from services import logins
from services.authors import system_user
from services.cli.client import AnswerApi, Api, ApiRefused, ApiUrl, PlainApi, show_json
from services.cli.commands import command
from services.logins import Login, NotLoggedIn


@command(example="login --api-url https://twinfold.example:8080")
def login(*, api_url: ApiUrl = None) -> None:
    """Store a token for a server. Later commands use it, and their changes are recorded under its name.

    The token is read from standard input, at a terminal without an echo. It is checked before it is stored.
    """
    # Not an argument: other users would see it in the process list, and it would stay in the history of the shell.
    if sys.stdin.isatty():
        token = str(typer.prompt("Token (of `twinfold token issue`)", hide_input=True)).strip()
    else:
        token = sys.stdin.readline().strip()
    if not token.isascii() or not token.isprintable() or not token:
        raise typer.BadParameter("standard input has no token; send one line, as `twinfold token issue` printed it")
    api = Api(api_url=api_url, token=token)
    caller = api.call("GET", "/v1/me")
    logins.put(read_settings().login_file, api.url, Login(token, caller["principal"]))
    print_lines(f"logged in at {api.url} as {_described(caller)}")
    if read_settings().token:
        complain(f"note: {ENV_PREFIX}TOKEN is set, and overrides this login")


@command(example="logout --api-url https://twinfold.example:8080")
def logout(*, api: PlainApi) -> None:
    """Remove the stored token of a server. The token itself stays valid; `twinfold token revoke` ends it."""
    url, path = api.url, read_settings().login_file
    if url not in logins.read(path):
        raise NotLoggedIn(url)
    logins.put(path, url, None)
    print_lines(f"logged out at {url}")


@command(example="whoami")
def whoami(*, api: AnswerApi) -> None:
    """Show the name under which changes are recorded, the permissions, and where the token comes from."""
    try:
        caller = api.call("GET", "/v1/me")
    except ApiRefused as error:
        hint = "" if api.token_source else "; `twinfold login` stores a token"
        raise ApiRefused(error.status, f"{error}{hint}") from error
    if api.json:
        show_json({**caller, "server": api.url, "tokenSource": api.token_source or None})
        return
    print_lines(f"{_described(caller)} at {api.url}")
    print_lines(f"token: {api.token_source or 'none'}")
    if not read_settings().token and api.url not in logins.read(read_settings().login_file):
        print_lines(f"commands on the log itself (token, policy, blocked, erase) record user:{system_user()}")


def _described(caller: JsonObject) -> str:
    details = [caller["role"] or ", ".join(caller["permissions"])]
    if caller["scope"]:
        details.append(f"devices where {caller['scope']}")
    if caller["expiresAt"]:
        until = datetime.fromtimestamp(caller["expiresAt"] / 1000, UTC)
        details.append(f"until {until.isoformat(timespec='minutes').replace('+00:00', 'Z')}")
    return f"{caller['principal']} ({'; '.join(details)})"
