"""The exit codes of `twinfold`.

0    done
1    refused: the change is not allowed, or something it needs stopped on the way
2    usage: a flag, an argument, a file or a TWINFOLD_* variable is invalid
3    unavailable: Redis or the archive does not answer or does not exist, or Redis would lose events; a port, an address or a
     certificate cannot be used; a role of `up` ends at once every time. The same command can succeed once that is repaired.
4    done but incomplete: the log misses entries, or partitions are stopped; each is named (`backup`, `restore`)
130  interrupted from the keyboard
"""

REFUSED = 1
USAGE = 2
UNAVAILABLE = 3
INCOMPLETE = 4


class RestoreFailed(Exception):
    """A restore failed midway. What it wrote is no usable system; the next `twinfold restore` empties it."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; run `twinfold restore` again, it starts from the beginning")
        self.why = why


class StillBlocked(Exception):
    """A decision is recorded, but partitions are still stopped at the location."""

    def __init__(self, location: str, why: str) -> None:
        super().__init__(f"still stopped at {location}: {why}")
        self.location, self.why = location, why


API_REFUSED = "services.cli.client:ApiRefused"

# By name, because a command needs the modules of few of them. To import them all takes longer than most commands.
_USAGE = (
    "events.settings:SettingsInvalid",
    "services.cli.client:ApiMisaddressed",
    "services.local_api:NotServed",
    "services.demo.manifests:ManifestUnreadable",
    "services.cli.inputs:InputUnreadable",
    "services.logins:LoginsUnreadable",
)
_UNAVAILABLE = (
    "events.log.errors:LogUnavailable",
    "events.log.errors:ObjectStoreUnavailable",
    "events.log.errors:LogNotInitialised",
    "events.log.errors:UnsafeRedis",
    "services.embedded_redis:NoRedisServer",
    "services.embedded_redis:RedisDidNotStart",
    "events.secrets.errors:SecretsUnavailable",
    "events.log.wake:WakeFailed",
    "services.cli.client:ApiUnavailable",
    "services.up.directory:DirectoryHeld",
    "services.up.directory:PredecessorRuns",
    "services.append_only_file:LogFileDamaged",
    "services.sockets:CannotListen",
    "services.certificates:CertificateUnusable",
    "events.processes.supervised:GivenUp",
)
_REFUSED = (
    "events.log.errors:LogError",
    "events.backup.errors:BackupError",
    "services.cli.exits:RestoreFailed",
    "services.cli.exits:StillBlocked",
    "services.local_api:NoAuthority",
    "services.logins:NotLoggedIn",
    "services.authors:TokenNotAccepted",
    "events.manifest.errors:ManifestInvalid",
    "services.demo.manifests:ManifestRefused",
    "events.producer.errors:ProducerError",
    "events.secrets.errors:SecretsError",
    "events.access.errors:AccessError",
    "events.device.errors:DeviceError",
    "services.credentials:NoKey",
    API_REFUSED,
    "services.demo.story:DemoStalled",
    "services.demo.run:ChildDied",
    "services.up.directory:LayoutTooNew",
    "services.up.directory:DirectoryUnusable",
)

EXPECTED = (*_USAGE, *_UNAVAILABLE, *_REFUSED)
"""The classes of errors that are shown as one line, as module and name."""


def is_any(error: BaseException, *classes: str) -> bool:
    """Whether an error is of one of the classes, named as in `EXPECTED`, or of a subclass of one."""
    return any(f"{base.__module__}:{base.__qualname__}" in classes for base in type(error).__mro__)


def code_of(error: BaseException) -> int:
    """The exit code of an expected error."""
    # In this order: `ApiMisaddressed` is an `ApiUnavailable` that only another flag can repair, and most of `_UNAVAILABLE`
    # are a `LogError`, which is a refusal otherwise.
    if is_any(error, *_USAGE):
        return USAGE
    return UNAVAILABLE if is_any(error, *_UNAVAILABLE) else REFUSED
