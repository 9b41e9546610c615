"""What `up` left in a data directory for the commands that come after it."""

from pathlib import Path

import msgspec

from services.credentials import Serving

FILE = "serving.json"
TOKEN_FILE = "admin.token"  # noqa: S105 - the name of a file


class NotServed(Exception):
    """No `up` has worked in the data directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"{directory}: no `twinfold up` has worked there; start one, or give its directory by --data")
        self.directory = directory


class NoAuthority(Exception):
    """The API of a data directory has no certificate of an authority made there."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"{directory}: no authority of its own, as the API has your certificate or no TLS")
        self.directory = directory


def serving(directory: Path) -> Serving | None:
    """Where the API and Redis of a data directory are; `None` where no `up` has told."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=Serving)
    except (OSError, msgspec.DecodeError):
        return None


def served(directory: Path) -> Serving:
    """The same, insisting.

    Raises:
        NotServed: nobody has told.
    """
    stored = serving(directory)
    if stored is None:
        raise NotServed(directory)
    return stored


def token_id(directory: Path) -> str:
    """The id of the administrator's token; empty where there is none."""
    parts = token(directory).split("_", 2)
    return parts[1] if len(parts) > 2 else ""  # noqa: PLR2004 - twf, id, secret


def token(directory: Path) -> str:
    """The administrator's token of a data directory; empty where there is none, or it is not for us to read."""
    try:
        return (directory / TOKEN_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
