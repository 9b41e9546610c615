"""`twinfold connection-string`, `ca`, `token` and `policy`: the credentials of clients."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer
from redis import Redis
from rich.table import Table

from events.access.commands import DefinePolicy, DeletePolicy, NoteSecretsRead, RevokeToken
from events.access.permissions import OWNER
from events.access.state import POLICY
from events.clock import now_ms
from events.envelope import Principal
from events.log.log_factory import open_log
from events.log.redis import RedisLog
from events.log.wake import Waker
from events.number_text import iso_text
from events.producer.producer import Producer
from events.producer.secrecy import LazyVault
from events.rich_console import console
from events.secrets.redis import RedisSecretStore
from events.secrets.secret_fields import new_key
from events.settings import Settings, read_settings
from events.terminal import complain, print_lines
from services.authors import author_of
from services.cli.commands import CommandGroup, command
from services.cli.flags import DataDir, log_settings
from services.credentials import device_key, issue_token, policies, policy_key, policy_of, tokens
from services.local_api import LocalApi, NoAuthority, require_local_api

token = CommandGroup(no_args_is_help=True, help="Bearer tokens: permissions of people and programs.")
policy = CommandGroup(no_args_is_help=True, help="Shared access policies and their keys.")

_UNITS = {"m": 60, "h": 3600, "d": 86_400}

_HTTPS_PORT = 443
_OTHER_PORT = (
    "note: IoT Hub's libraries for Node and Java accept no port in a connection string and connect to port 443. For them,"
    " start `twinfold up --port 443` (see docs/guides/operating.md). Python's library and az use the port as printed."
)

Name = Annotated[str, typer.Argument(help="The policy's name.")]


class OpenedLog(msgspec.Struct, frozen=True):
    """The log of a data directory or of the settings, with what is needed to write to it."""

    log: RedisLog
    vault: LazyVault
    producer: Producer
    author: Principal

    # Recorded before the key is printed: a key in use without a trace of who read it could not be found later.
    def note_read(self, subject: str) -> None:
        """Record in the log that a key is about to be printed.

        Raises:
            LogUnavailable: it is not recorded, so the key must not be printed.
        """
        self.producer.do(NoteSecretsRead(str(self.author), (subject,), 1, "keys", "twinfold connection-string"))


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[OpenedLog]:
    log = open_log(settings.redis_url, allow_volatile=True)
    vault = LazyVault(RedisSecretStore(log.client), settings.effective_key_file)
    waker = Waker(Redis.from_url(settings.effective_queue_url), partitions=log.partitions)
    with contextlib.closing(log.client):
        author = author_of(log, settings)
        yield OpenedLog(log, vault, Producer(log, by=author, waker=waker, take_secrets=vault.take_out), author)


@command(example="twinfold connection-string --policy service")
def connection_string(
    *,
    policy: Annotated[str, typer.Option(help="A shared access policy.")] = OWNER,
    device: Annotated[
        str | None, typer.Option(help="A device, or a module as device/module, instead of a policy.")
    ] = None,
    data: DataDir = None,
) -> None:
    """Print a connection string for clients. It contains a key."""
    settings = log_settings(data_dir=data)
    local = require_local_api(settings.data_dir)
    with _opened(settings) as opened:
        if device is None:
            key = policy_key(opened.log, opened.vault, policy)
            opened.note_read(POLICY + policy)
            _print_connection_string(local, f"SharedAccessKeyName={policy};SharedAccessKey={key}")
            return
        device_id, _, module_id = device.partition("/")
        key = device_key(opened.log, opened.vault, device_id, module_id or None)
        opened.note_read(device)
        module = f";ModuleId={module_id}" if module_id else ""
        _print_connection_string(local, f"DeviceId={device_id}{module};SharedAccessKey={key}")


def _print_connection_string(local: LocalApi, credentials: str) -> None:
    # IoT Hub's libraries for Node and Java reject a port, and connect to 443.
    host_name = local.host_name.removesuffix(f":{_HTTPS_PORT}")
    print_lines(f"HostName={host_name};{credentials}")
    if host_name == local.host_name:
        complain(_OTHER_PORT)


@command(example="twinfold ca --data ./twinfold-data")
def ca(*, data: DataDir = None) -> None:
    """Print the path of the certificate that clients must trust."""
    settings = read_settings(data_dir=data)
    local = require_local_api(settings.data_dir)
    if not local.ca:
        raise NoAuthority(settings.data_dir)
    print_lines(local.ca)


@token.command(example="twinfold token issue ada --role operate --expires 90d")
def issue(
    name: Annotated[
        str, typer.Argument(help="Name of the person or program; its changes are recorded as by user:<name>.")
    ],
    *,
    role: Annotated[str, typer.Option(help="read, operate or admin.")] = "read",
    expires: Annotated[
        str | None, typer.Option(help="How long it is valid, as in 30m, 12h or 90d. The default is no limit.")
    ] = None,
    scope: Annotated[str, typer.Option(help="A target condition: the token is for these devices only.")] = "",
    data: DataDir = None,
) -> None:
    """Issue a token and print it. It is not stored, so it cannot be shown again."""
    with _opened(log_settings(data_dir=data)) as opened:
        print_lines(issue_token(opened.producer, name=name, role=role, expires_at=_time(expires), scope=scope))


@token.command("list", example="twinfold token list")
def list_tokens(*, data: DataDir = None) -> None:
    """List the valid tokens."""
    table = Table("id", "name", "role", "expires", "scope")
    with _opened(log_settings(data_dir=data)) as opened:
        for token_id, document in tokens(opened.log):
            until = iso_text(document.expires_at) if document.expires_at else "never"
            table.add_row(token_id, document.name, document.role, until, document.scope)
    console().print(table)


@token.command(example="twinfold token revoke 0a1b2c3d4e5f6071")
def revoke(
    token_id: Annotated[str, typer.Argument(help="The id of the token, from `twinfold token list`.")],
    *,
    data: DataDir = None,
) -> None:
    """Revoke a token. It is refused from a second later."""
    with _opened(log_settings(data_dir=data)) as opened:
        opened.producer.do(RevokeToken(token_id))
    print_lines(f"{token_id} is revoked")


@policy.command("list", example="twinfold policy list")
def list_policies(*, data: DataDir = None) -> None:
    """List the policies and their permissions."""
    table = Table("policy", "permissions")
    with _opened(log_settings(data_dir=data)) as opened:
        for name, document in policies(opened.log):
            table.add_row(name, ", ".join(document.permissions))
    console().print(table)


@policy.command(example="twinfold policy create dashboards RegistryRead ServiceConnect")
def create(
    name: Name,
    permissions: Annotated[
        list[str], typer.Argument(help="Any of RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect.")
    ],
    *,
    data: DataDir = None,
) -> None:
    """Create a policy with new keys."""
    with _opened(log_settings(data_dir=data)) as opened:
        opened.producer.do(DefinePolicy(name, tuple(permissions), new_key(), new_key(), new=True))
    print_lines(f"{name} is created")


@policy.command(example="twinfold policy rotate service")
def rotate(name: Name, *, data: DataDir = None) -> None:
    """Give a policy a new primary key. The old primary key becomes the secondary, so clients that use it keep working."""
    with _opened(log_settings(data_dir=data)) as opened:
        current = policy_of(opened.log, name)
        opened.producer.do(DefinePolicy(name, current.permissions, new_key(), current.primary_key))
    print_lines(f"{name} has a new primary key")


@policy.command(example="twinfold policy delete dashboards")
def delete(name: Name, *, data: DataDir = None) -> None:
    """Delete a policy that you created."""
    with _opened(log_settings(data_dir=data)) as opened:
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
