"""Times and durations as people write them, and in a sentence where a deployment stands."""

import datetime as dt
import re
import zoneinfo

from events.deployment.facts import Admission, Admitted, Ended, Everyone, Kept, NotStarted
from events.deployment.state import DeploymentDocument
from events.rollout import saying
from events.rollout.plan import Phase
from events.rollout.state import RolloutDocument, State
from events.wording import counted

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_DURATION = re.compile(r"(\d{1,12}) ?(s|min|m|h|d)?", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class TimeUnreadable(Exception):
    """A text is no time, or names one that never comes; `rule` says what is wanted."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class DurationUnreadable(Exception):
    """A text is no duration."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:40]!r} is no duration; write 90s, 15m, 2h or 1d, or a number of seconds")
        self.text = text


def read_duration(text: str) -> int:
    """`90s`, `15m`, `2h`, `1d` or a number of seconds, as seconds.

    Raises:
        DurationUnreadable: it is none of these.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise DurationUnreadable(text)
    return int(found[1]) * _SECONDS[found[2] or "s"]


def read_phase(text: str) -> Phase | None:
    """A phase as `10%` or as `50`, a number of devices; `None` where a text is neither."""
    number, percent, rest = text.strip().partition("%")
    try:
        if not rest:
            return Phase(percent=float(number)) if percent else Phase(count=int(number))
    except ValueError:
        pass
    return None


def read_time(text: str, zone: str) -> int:
    """An RFC 3339 time as milliseconds; one without an offset is read in an IANA time zone.

    Where clocks are put back, such a time comes twice: the first is meant.

    Raises:
        TimeUnreadable: it is no such time, or clocks in the zone jump over it.
    """
    if not _TIME.fullmatch(text):
        raise TimeUnreadable("is a time such as 2026-11-21T08:00:00+01:00; without an offset it is read in the zone")
    try:
        moment = dt.datetime.fromisoformat(text.upper())
        local = moment if moment.tzinfo is not None else moment.replace(tzinfo=zoneinfo.ZoneInfo(zone))
        if local.astimezone(dt.UTC).astimezone(local.tzinfo).replace(tzinfo=None) != moment.replace(tzinfo=None):
            raise TimeUnreadable(f"never comes in {zone}: clocks are put forward over it")
        return (local - _EPOCH) // dt.timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise TimeUnreadable(f"is no time: {error}") from error
    except (zoneinfo.ZoneInfoNotFoundError, OSError):
        raise TimeUnreadable("is in no time zone of the IANA database") from None


def standing(document: DeploymentDocument, rollout: RolloutDocument | None, now: int) -> str:
    """In a sentence, who may receive a deployment as of now (milliseconds), and what changes that."""
    # Whoever changed its admission by hand when the rollout was over has the last word.
    if rollout is not None and isinstance(document.admission, NotStarted):
        return _rolled_out(document, rollout, now)
    match document.admission:
        case NotStarted():
            begins = _starts(document, now)
            return begins or "has not started: it targets nobody until somebody starts it"
        case Everyone():
            return f"is for everybody whom it targets{_until(document, now)}"
        case Admitted(devices):
            return f"is for {counted(len(devices), 'named device')}{_until(document, now)}"
        case Kept():
            return f"is kept by whoever had it when it was canceled{_until(document, now)}"
        case Ended():
            return "has ended: it targets nobody"


def _starts(document: DeploymentDocument, now: int) -> str:
    if not document.start_at:
        return ""
    when = _when(document.start_at, document)
    if document.start_at <= now:
        return f"was to start {when}, {saying.duration(now - document.start_at)} ago: it targets nobody yet"
    return f"starts {when}, in {saying.duration(document.start_at - now)}: until then it targets nobody"


def _until(document: DeploymentDocument, now: int) -> str:
    if not document.end_at:
        return ""
    return f"; ends {_when(document.end_at, document)}, in {saying.duration(document.end_at - now)}"


def _when(at: int, document: DeploymentDocument) -> str:
    assert document.schedule
    return f"{saying.moment(at, document.schedule.zone)} ({document.schedule.zone})"


def _rolled_out(document: DeploymentDocument, rollout: RolloutDocument, now: int) -> str:
    if rollout.state is State.CREATED:
        return _starts(document, now) or "has not started: it targets nobody until its rollout is started"
    moves = rollout.state in {State.RUNNING, State.COMPLETED}
    return progress(rollout, document.admission) + (_until(document, now) if moves else "")


def progress(rollout: RolloutDocument, admission: Admission | Kept = saying.NOT_STARTED) -> str:
    """How far a rollout is, without a look at its devices; `admission` is what its deployment says of itself."""
    phases = len(rollout.plan.phases)
    if rollout.state is not State.RUNNING:
        return saying.standing(rollout, admission)
    if rollout.phase < 0:
        return f"phase 1 of {phases} opens next"
    return f"phase {rollout.phase + 1} of {phases} {'is open' if rollout.is_open else 'has passed'}"
