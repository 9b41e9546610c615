"""The exit codes of `twinfold`.

0    done
1    refused: the change is not allowed, or something it needs stopped on the way
2    usage: a flag, an argument, a file or a TWINFOLD_* variable is invalid
3    unavailable: Redis or the archive does not answer or does not exist, or Redis would lose events; a port, an address or a
     certificate cannot be used; a role of `up` ends at once every time. The same command can succeed once that is repaired.
4    done but incomplete: the log misses entries, or partitions are stopped; each is named (`backup`, `restore`)
130  interrupted from the keyboard
"""

from events.access.errors import AccessError
from events.backup.errors import BackupError
from events.device.errors import DeviceError
from events.log.errors import LogError, LogNotInitialised, LogUnavailable, ObjectStoreUnavailable, UnsafeRedis
from events.log.wake import WakeFailed
from events.manifest.errors import ManifestInvalid
from events.processes.supervised import GivenUp
from events.producer.errors import ProducerError
from events.secrets.errors import SecretsError, SecretsUnavailable
from events.settings import SettingsInvalid
from services.append_only_file import LogFileDamaged
from services.authors import TokenNotAccepted
from services.certificates import CertificateUnusable
from services.cli.client import ApiMisaddressed, ApiRefused, ApiUnavailable
from services.cli.inputs import InputUnreadable
from services.credentials import NoKey
from services.demo.manifests import ManifestRefused, ManifestUnreadable
from services.demo.run import ChildDied
from services.demo.story import DemoStalled
from services.embedded_redis import NoRedisServer, RedisDidNotStart
from services.local_api import NoAuthority, NotServed
from services.logins import LoginsUnreadable, NotLoggedIn
from services.sockets import CannotListen
from services.up.directory import DirectoryHeld, DirectoryUnusable, LayoutTooNew, PredecessorRuns

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


_USAGE = (SettingsInvalid, ApiMisaddressed, NotServed, ManifestUnreadable, InputUnreadable, LoginsUnreadable)
_UNAVAILABLE = (
    LogUnavailable,
    ObjectStoreUnavailable,
    LogNotInitialised,
    UnsafeRedis,
    NoRedisServer,
    RedisDidNotStart,
    SecretsUnavailable,
    WakeFailed,
    ApiUnavailable,
    DirectoryHeld,
    PredecessorRuns,
    LogFileDamaged,
    CannotListen,
    CertificateUnusable,
    GivenUp,
)
_REFUSED = (
    LogError,
    BackupError,
    RestoreFailed,
    StillBlocked,
    NoAuthority,
    NotLoggedIn,
    TokenNotAccepted,
    ManifestInvalid,
    ManifestRefused,
    ProducerError,
    SecretsError,
    AccessError,
    DeviceError,
    NoKey,
    ApiRefused,
    DemoStalled,
    ChildDied,
    LayoutTooNew,
    DirectoryUnusable,
)

EXPECTED = (*_USAGE, *_UNAVAILABLE, *_REFUSED)


def code_of(error: Exception) -> int:
    """The exit code of an expected error."""
    # In this order: `ApiMisaddressed` is an `ApiUnavailable` that only another flag can repair, and most of `_UNAVAILABLE`
    # are a `LogError`, which is a refusal otherwise.
    if isinstance(error, _USAGE):
        return USAGE
    return UNAVAILABLE if isinstance(error, _UNAVAILABLE) else REFUSED
