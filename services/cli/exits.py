"""What `twinfold` leaves with.

0    it did what was asked
1    refused: what was asked may not happen, or the log stopped at something
2    usage: a flag, an argument or a TWINFOLD_* variable is not right
3    unavailable: Redis does not answer, or would lose facts; ask again when that is mended
130  interrupted from the keyboard
"""

from events.log.errors import LogError, LogNotInitialised, LogUnavailable, UnsafeRedis
from events.settings import SettingsInvalid

REFUSED = 1
USAGE = 2
UNAVAILABLE = 3

EXPECTED = (LogError, SettingsInvalid)


def code_of(error: LogError | SettingsInvalid) -> int:
    """The exit code that an error stands for."""
    match error:
        case SettingsInvalid():
            return USAGE
        case LogUnavailable() | LogNotInitialised() | UnsafeRedis():
            return UNAVAILABLE
        case LogError():
            return REFUSED
