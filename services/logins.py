"""The tokens that `twinfold login` stored on this machine, one per server."""

from pathlib import Path

import msgspec

from services import atomic_files

_FORMAT = 1


class LoginsUnreadable(Exception):
    """The file of stored logins cannot be read or written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}; remove the file and run `twinfold login` again")
        self.path, self.why = path, why


class NotLoggedIn(Exception):
    """No token is stored for the server."""

    def __init__(self, url: str) -> None:
        super().__init__(f"no login is stored for {url}; `twinfold login --api-url {url}` stores one")
        self.url = url


class Login(msgspec.Struct, frozen=True):
    """A stored token; `principal` is the name that the server recorded for it, as in `user:ada`."""

    token: str
    principal: str


class _LoginsFile(msgspec.Struct, frozen=True):
    logins: dict[str, Login]
    format: int = _FORMAT


def read(path: Path) -> dict[str, Login]:
    """The stored logins by the server's URL; none where the file does not exist.

    Raises:
        LoginsUnreadable: the file exists and cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LoginsUnreadable(path, error.strerror or type(error).__name__) from error
    try:
        stored = msgspec.json.decode(data, type=_LoginsFile)
    except msgspec.DecodeError:
        # The decoder's message could repeat a part of a token.
        raise LoginsUnreadable(path, "is not a file of `twinfold login`") from None
    return stored.logins


def put(path: Path, url: str, login: Login | None) -> None:
    """Store the login of one server, or remove it with `None`. The file is readable for its owner alone.

    Raises:
        LoginsUnreadable: the file cannot be read or written.
    """
    logins = {name: stored for name, stored in read(path).items() if name != url}
    if login is not None:
        logins[url] = login
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic_files.write(path, msgspec.json.encode(_LoginsFile(logins)))
    except OSError as error:
        raise LoginsUnreadable(path, error.strerror or type(error).__name__) from error
