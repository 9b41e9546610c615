"""What `up` writes into a data directory for other commands: where the API and Redis are, and the administrator's token."""

from pathlib import Path

import msgspec

FILE = "serving.json"
TOKEN_FILE = "admin.token"  # noqa: S105 - the name of a file


class NotServed(Exception):
    """No `up` has run in the data directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"{directory}: no `twinfold up` has worked there; start one, or give its directory by --data")
        self.directory = directory


class NoAuthority(Exception):
    """The API of a data directory uses no certificate of the local authority."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"{directory}: no authority of its own, as the API has your certificate or no TLS")
        self.directory = directory


class LocalApi(msgspec.Struct, frozen=True):
    """Where the API and Redis of a data directory are. `ca` is the file of the local authority; empty if it is not used."""

    url: str
    host_name: str
    redis_url: str
    queue_url: str
    ca: str = ""


def read_local_api(directory: Path) -> LocalApi | None:
    """Where the API and Redis of a data directory are; `None` if no `up` has run there."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=LocalApi)
    except (OSError, msgspec.DecodeError):
        return None


def require_local_api(directory: Path) -> LocalApi:
    """As `read_local_api`, with an error instead of `None`.

    Raises:
        NotServed: no `up` has run there.
    """
    local = read_local_api(directory)
    if local is None:
        raise NotServed(directory)
    return local


def token_id(directory: Path) -> str:
    """The id of the administrator's token; empty if there is none."""
    parts = token(directory).split("_", 2)
    return parts[1] if len(parts) > 2 else ""  # noqa: PLR2004 - twf, id, secret


def token(directory: Path) -> str:
    """The administrator's token of a data directory; empty if there is none, or this user may not read it."""
    try:
        return (directory / TOKEN_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
