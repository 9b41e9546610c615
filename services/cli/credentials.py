"""`twinfold connection-string`, `ca`, `token` and `policy`: the credentials of clients."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from events.access.commands import DefinePolicy, DeletePolicy, NoteSecretsRead, RevokeToken
from events.access.permissions import OWNER
from events.access.state import POLICY
from events.clock import now_ms
from events.envelope import Principal
from events.number_text import iso_text
from events.rich_console import console
from events.settings import read_settings
from events.terminal import complain, print_lines
from services.authors import author_of
from services.cli.client import table
from services.cli.commands import CommandGroup, From, argument, command, flag
from services.cli.flags import DataDir, log_settings
from services.local_api import NoAuthority, require_local_api

if TYPE_CHECKING:
    from events.log.redis import RedisLog
    from events.producer.producer import Producer
    from events.producer.secrecy import LazyVault

token = CommandGroup(no_args_is_help=True, help="Bearer tokens: permissions of people and programs.")
policy = CommandGroup(no_args_is_help=True, help="Shared access policies and their keys.")

_UNITS = {"m": 60, "h": 3600, "d": 86_400}

_HTTPS_PORT = 443
_OTHER_PORT = (
    "note: IoT Hub's libraries for Node and Java accept no port in a connection string and connect to port 443. For them,"
    " start `twinfold up --port 443` (see docs/guides/operating.md). Python's library and az use the port as printed."
)

Name = Annotated[str, argument("The policy's name.")]


class OpenedLog(msgspec.Struct, frozen=True):
    """The log of a data directory or of the settings, with what is needed to write to it."""

    log: "RedisLog"
    vault: "LazyVault"
    producer: "Producer"
    author: Principal


def _opened(**flags: Any) -> OpenedLog:
    from redis import Redis

    from events.log.log_factory import open_log
    from events.log.wake import Waker
    from events.producer.producer import Producer
    from events.producer.secrecy import LazyVault
    from events.secrets.redis import RedisSecretStore

    settings = log_settings(**flags)
    log = open_log(settings.redis_url, allow_volatile=True)
    vault = LazyVault(RedisSecretStore(log.client), settings.effective_key_file)
    waker = Waker(Redis.from_url(settings.effective_queue_url))
    author = author_of(log, settings)
    return OpenedLog(log, vault, Producer(log, by=author, waker=waker, take_secrets=vault.take_out), author)


Opened = Annotated[OpenedLog, From(_opened, data_dir=DataDir)]


@command(example="connection-string --policy service")
def connection_string(
    *,
    policy: Annotated[str, flag("A shared access policy.")] = OWNER,
    device: Annotated[str | None, flag("A device, or a module as device/module, instead of a policy.")] = None,
    data: DataDir = None,
) -> None:
    """Print a connection string for clients. It contains a key."""
    from services.credentials import device_key, policy_key

    local = require_local_api(read_settings(data_dir=data).data_dir)
    opened = _opened(data_dir=data)
    if device is None:
        subject, key = POLICY + policy, policy_key(opened.log, opened.vault, policy)
        credentials = f"SharedAccessKeyName={policy};SharedAccessKey={key}"
    else:
        device_id, _, module_id = device.partition("/")
        subject, key = device, device_key(opened.log, opened.vault, device_id, module_id or None)
        module = f";ModuleId={module_id}" if module_id else ""
        credentials = f"DeviceId={device_id}{module};SharedAccessKey={key}"
    # Recorded before the key is printed: a key in use without a trace of who read it could not be found later.
    opened.producer.do(NoteSecretsRead(str(opened.author), (subject,), 1, "keys", "twinfold connection-string"))
    # IoT Hub's libraries for Node and Java reject a port, and connect to 443.
    host_name = local.host_name.removesuffix(f":{_HTTPS_PORT}")
    print_lines(f"HostName={host_name};{credentials}")
    if host_name == local.host_name:
        complain(_OTHER_PORT)


@command(example="ca --data ./twinfold-data")
def ca(*, data: DataDir = None) -> None:
    """Print the path of the certificate that clients must trust."""
    directory = read_settings(data_dir=data).data_dir
    local = require_local_api(directory)
    if not local.ca:
        raise NoAuthority(directory)
    print_lines(local.ca)


@token.command(example="token issue ada --role operate --expires 90d")
def issue(
    name: Annotated[str, argument("Name of the person or program; its changes are recorded as by user:<name>.")],
    *,
    role: Annotated[str, flag("read, operate or admin.")] = "read",
    expires: Annotated[
        str | None, flag("How long it is valid, as in 30m, 12h or 90d. The default is no limit.")
    ] = None,
    scope: Annotated[str, flag("A target condition: the token is for these devices only.")] = "",
    opened: Opened,
) -> None:
    """Issue a token and print it. It is not stored, so it cannot be shown again."""
    from services.credentials import issue_token

    print_lines(issue_token(opened.producer, name=name, role=role, expires_at=_time(expires), scope=scope))


@token.command("list", example="token list")
def list_tokens(*, opened: Opened) -> None:
    """List the valid tokens."""
    from services.credentials import tokens

    rows = (
        (name, token.name, token.role, iso_text(token.expires_at) if token.expires_at else "never", token.scope)
        for name, token in tokens(opened.log)
    )
    console().print(table(rows, "id", "name", "role", "expires", "scope"))


@token.command(example="token revoke 0a1b2c3d4e5f6071")
def revoke(
    token_id: Annotated[str, argument("The id of the token, from `twinfold token list`.")], *, opened: Opened
) -> None:
    """Revoke a token. It is refused from a second later."""
    opened.producer.do(RevokeToken(token_id))
    print_lines(f"{token_id} is revoked")


@policy.command("list", example="policy list")
def list_policies(*, opened: Opened) -> None:
    """List the policies and their permissions."""
    from services.credentials import policies

    rows = ((name, ", ".join(document.permissions)) for name, document in policies(opened.log))
    console().print(table(rows, "policy", "permissions"))


@policy.command(example="policy create dashboards RegistryRead ServiceConnect")
def create(
    name: Name,
    permissions: Annotated[list[str], argument("Any of RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect.")],
    *,
    opened: Opened,
) -> None:
    """Create a policy with new keys."""
    from events.secrets.secret_fields import new_key

    opened.producer.do(DefinePolicy(name, tuple(permissions), new_key(), new_key(), new=True))
    print_lines(f"{name} is created")


@policy.command(example="policy rotate service")
def rotate(name: Name, *, opened: Opened) -> None:
    """Give a policy a new primary key. The old primary key becomes the secondary, so clients that use it keep working."""
    from events.secrets.secret_fields import new_key
    from services.credentials import policy_of

    current = policy_of(opened.log, name)
    opened.producer.do(DefinePolicy(name, current.permissions, new_key(), current.primary_key))
    print_lines(f"{name} has a new primary key")


@policy.command(example="policy delete dashboards")
def delete(name: Name, *, opened: Opened) -> None:
    """Delete a policy that you created."""
    opened.producer.do(DeletePolicy(name))
    print_lines(f"{name} is deleted")


def _time(expires: str | None) -> int:
    if expires is None:
        return 0
    number, unit = expires[:-1], expires[-1:]
    if not (number.isascii() and number.isdecimal()) or unit not in _UNITS or not 0 < int(number) <= 10_000:  # noqa: PLR2004 - plenty
        raise typer.BadParameter(
            f"{expires!r} is not a duration, as in 30m, 12h or 90d (at most 10000)", param_hint="--expires"
        )
    return now_ms() + 1000 * int(number) * _UNITS[unit]
