"""`twinfold connection-string`, `ca`, `token` and `policy`: what clients show, and who may have it."""

import contextlib
import datetime as dt
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer
from redis import Redis
from rich.table import Table

from events.access.commands import DefinePolicy, DeletePolicy, NoteSecretsRead, RevokeToken
from events.access.permissions import OWNER
from events.access.state import POLICY
from events.envelope import Principal
from events.log.log_factory import open_log
from events.log.redis import RedisLog
from events.log.wake import Waker
from events.producer.producer import Producer
from events.producer.secrecy import LazyVault
from events.rich_console import console
from events.secrets.redis import RedisSecretStore
from events.secrets.secret_fields import new_key
from events.settings import Settings, read_settings
from events.terminal import complain, print_lines
from services.authors import author_of
from services.cli.flags import DataDir
from services.cli.log_location import log_settings
from services.credentials import device_key, issue_token, policies, policy_key, policy_of, tokens
from services.serving import NoAuthority, Serving, served

token = typer.Typer(no_args_is_help=True, help="Bearer tokens: who may do what, until when.")
policy = typer.Typer(no_args_is_help=True, help="Shared access policies and their keys.")

_UNITS = {"m": 60, "h": 3600, "d": 86_400}

_HTTPS_PORT = 443
_OTHER_PORT = (
    "note: IoT Hub's libraries for Node and Java accept no port in a connection string and connect to port 443. For them,"
    " start `twinfold up --port 443`; docs/guides/operating.md says what that needs. Python's library and az use the port as printed."
)

Name = Annotated[str, typer.Argument(help="The policy's name.")]


class OpenedLog(msgspec.Struct, frozen=True):
    """The log of a data directory, or of the settings."""

    log: RedisLog
    vault: LazyVault
    producer: Producer
    author: Principal

    def note_read(self, subject: str) -> None:
        """Have it in the log that a key is about to be printed.

        Raises:
            LogUnavailable: it is not noted, and must not be printed.
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


def connection_string(
    *,
    policy: Annotated[str, typer.Option(help="Of a shared access policy.")] = OWNER,
    device: Annotated[str | None, typer.Option(help="Of a device instead, or of a module as device/module.")] = None,
    data: DataDir = None,
) -> None:
    """Print what clients take to connect; it holds a key.

    Example: twinfold connection-string --policy service
    """
    settings = log_settings(data_dir=data)
    location = served(settings.data_dir)
    with _opened(settings) as opened:
        if device is None:
            key = policy_key(opened.log, opened.vault, policy)
            opened.note_read(POLICY + policy)
            _print_connection_string(location, f"SharedAccessKeyName={policy};SharedAccessKey={key}")
            return
        device_id, _, module_id = device.partition("/")
        key = device_key(opened.log, opened.vault, device_id, module_id or None)
        opened.note_read(device)
        module = f";ModuleId={module_id}" if module_id else ""
        _print_connection_string(location, f"DeviceId={device_id}{module};SharedAccessKey={key}")


def _print_connection_string(location: Serving, credentials: str) -> None:
    """Print it without the port where that is 443, as the hub's clients for Node and Java take no port and use that one."""
    host_name = location.host_name.removesuffix(f":{_HTTPS_PORT}")
    print_lines(f"HostName={host_name};{credentials}")
    if host_name == location.host_name:
        complain(_OTHER_PORT)


def ca(*, data: DataDir = None) -> None:
    """Print the path of the certificate that clients trust.

    Example: twinfold ca --data ./twinfold-data
    """
    settings = read_settings(data_dir=data)
    location = served(settings.data_dir)
    if not location.ca:
        raise NoAuthority(settings.data_dir)
    print_lines(location.ca)


@token.command()
def issue(
    name: Annotated[str, typer.Argument(help="Who gets it; events say that they are by user:<name>.")],
    *,
    role: Annotated[str, typer.Option(help="read, operate or admin.")] = "read",
    expires: Annotated[
        str | None, typer.Option(help="How long it is good, as in 30m, 12h or 90d; for ever if not given.")
    ] = None,
    scope: Annotated[str, typer.Option(help="A target condition: for these devices alone.")] = "",
    data: DataDir = None,
) -> None:
    """Issue a token, and print it once: it is not kept.

    Example: twinfold token issue ada --role operate --expires 90d
    """
    with _opened(log_settings(data_dir=data)) as opened:
        print_lines(issue_token(opened.producer, name=name, role=role, expires_at=_time(expires), scope=scope))


@token.command("list")
def list_tokens(*, data: DataDir = None) -> None:
    """The tokens that stand.

    Example: twinfold token list
    """
    table = Table("id", "name", "role", "expires", "scope")
    with _opened(log_settings(data_dir=data)) as opened:
        for token_id, document in tokens(opened.log):
            until = _text(document.expires_at) if document.expires_at else "never"
            table.add_row(token_id, document.name, document.role, until, document.scope)
    console().print(table)


@token.command()
def revoke(token_id: Annotated[str, typer.Argument(help="As `token list` shows it.")], *, data: DataDir = None) -> None:
    """Take a token back; it opens nothing a second later.

    Example: twinfold token revoke 0a1b2c3d4e5f6071
    """
    with _opened(log_settings(data_dir=data)) as opened:
        opened.producer.do(RevokeToken(token_id))
    print_lines(f"{token_id} is revoked")


@policy.command("list")
def list_policies(*, data: DataDir = None) -> None:
    """The policies, and what they allow.

    Example: twinfold policy list
    """
    table = Table("policy", "permissions")
    with _opened(log_settings(data_dir=data)) as opened:
        for name, document in policies(opened.log):
            table.add_row(name, ", ".join(document.permissions))
    console().print(table)


@policy.command()
def create(
    name: Name,
    permissions: Annotated[
        list[str], typer.Argument(help="RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect.")
    ],
    *,
    data: DataDir = None,
) -> None:
    """Make a policy of your own, with new keys.

    Example: twinfold policy create dashboards RegistryRead ServiceConnect
    """
    with _opened(log_settings(data_dir=data)) as opened:
        opened.producer.do(DefinePolicy(name, tuple(permissions), new_key(), new_key(), new=True))
    print_lines(f"{name} is created")


@policy.command()
def rotate(name: Name, *, data: DataDir = None) -> None:
    """Give a policy a new primary key; the former one goes on as the secondary, so that nobody is cut off.

    Example: twinfold policy rotate service
    """
    with _opened(log_settings(data_dir=data)) as opened:
        former = policy_of(opened.log, name)
        opened.producer.do(DefinePolicy(name, former.permissions, new_key(), former.primary_key))
    print_lines(f"{name} has a new primary key")


@policy.command()
def delete(name: Name, *, data: DataDir = None) -> None:
    """Remove a policy of your own.

    Example: twinfold policy delete dashboards
    """
    with _opened(log_settings(data_dir=data)) as opened:
        opened.producer.do(DeletePolicy(name))
    print_lines(f"{name} is deleted")


def _time(expires: str | None) -> int:
    if expires is None:
        return 0
    number, unit = expires[:-1], expires[-1:]
    if not (number.isascii() and number.isdecimal()) or unit not in _UNITS or not 0 < int(number) <= 10_000:  # noqa: PLR2004 - plenty
        raise typer.BadParameter(f"{expires!r} is no time such as 30m, 12h or 90d", param_hint="--expires")
    return int((dt.datetime.now(dt.UTC).timestamp() + int(number) * _UNITS[unit]) * 1000)


def _text(at: int) -> str:
    return dt.datetime.fromtimestamp(at / 1000, dt.UTC).isoformat(timespec="seconds")
