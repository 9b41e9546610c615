"""The author of a command's changes to the log: a person."""

import os
import pwd
import re

from events.access import state as access
from events.access.bearer import BearerToken
from events.clock import now_ms
from events.envelope import Principal
from events.log.port import Log
from events.settings import ENV_PREFIX, Settings
from services.local_api import read_local_api
from services.logins import read

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._@+-]")
_NAME_CHARACTERS_MAX = 64


class TokenNotAccepted(Exception):
    """The user's token is unknown to this log, revoked or expired."""

    def __init__(self, source: str) -> None:
        super().__init__(
            f"the token of {source} is not accepted by this log: it is unknown, revoked or expired;"
            f" get a new one with `twinfold token issue`, or remove it (unset {ENV_PREFIX}TOKEN, `twinfold logout`)"
        )
        self.source = source


def author_of(log: Log, settings: Settings) -> Principal:
    """The holder of the user's token, as in `user:ada`; without a token, the operating system's user.

    Raises:
        TokenNotAccepted: the token is unknown, revoked or expired.
        LoginsUnreadable: the file of stored logins cannot be read.
        LogUnavailable: Redis does not answer.
    """
    if settings.token:
        return _holder(log, settings.token, f"{ENV_PREFIX}TOKEN")
    local = read_local_api(settings.data_dir)
    login = None if local is None else read(settings.login_file).get(local.url)
    if local is not None and login is not None:
        return _holder(log, login.token, f"the login at {local.url}")
    return Principal.parse(f"user:{system_user()}")


def system_user() -> str:
    """The name of the operating system's user, in the characters that a token's name may have."""
    # Not getpass.getuser(): it believes LOGNAME and USER, which anyone may set.
    user_id = os.getuid()
    try:
        name = pwd.getpwuid(user_id).pw_name
    except KeyError:
        # Containers often run under ids without a name.
        name = f"uid-{user_id}"
    return _NOT_IN_A_NAME.sub("-", name)[:_NAME_CHARACTERS_MAX]


def _holder(log: Log, text: str, source: str) -> Principal:
    token = BearerToken.parse(text)
    if token is None:
        raise TokenNotAccepted(source)
    subject = access.TOKEN + token.token_id
    (stored,) = log.load([subject], fleet=True)
    document = None if stored.snapshot is None else access.decode(subject, stored.snapshot)
    holder = token.holder(document, now=now_ms())
    if holder is None:
        raise TokenNotAccepted(source)
    return Principal.parse(f"user:{holder.name}")
