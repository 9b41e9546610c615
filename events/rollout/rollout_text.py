"""Sentences about rollouts with their counts, and about the devices that a deployment admits."""

from collections.abc import Sequence

from events.deployment.events import Admission, Admitted, Ended, Everyone, Kept, NotStarted
from events.deployment.state import DeploymentDocument
from events.number_text import counted
from events.rollout.events import RecordedCounts
from events.rollout.plan import Window
from events.rollout.state import RolloutDocument, RolloutState
from events.rollout.times import duration, local_time, opens_at

NOT_STARTED = NotStarted()
"""The admission of a deployment while its rollout determines the admitted devices."""


def phase(document: RolloutDocument, required_percent: float, counts: RecordedCounts, *additions: str) -> str:
    """`phase 2 of 4: 37 of 40 healthy (92 %), gate 95 % of 40, 3 pending`, and the additions."""
    well = counts.healthy + counts.already
    share = f" ({100 * well // counts.counted} %)" if counts.counted else ""
    parts = [
        f"phase {document.phase + 1} of {len(document.plan.phases)}: {well} of {counts.counted} healthy{share}",
        f"gate {required_percent:g} % of {counts.counted}",
    ]
    for name, count in (
        ("already there", counts.already),
        ("failed", counts.failed),
        ("pending", counts.pending),
        (f"silent, {_SILENT[document.plan.offline.value]}", counts.silent),
        ("outranked", counts.outranked),
        ("not applied", counts.not_applied),
    ):
        if count:
            parts.append(f"{count} {name}")
    return ", ".join([*parts, *filter(None, additions)])


_SILENT = {"wait": "waited for", "exclude": "not counted", "unknown": "counted as unknown"}


def progress(document: RolloutDocument, admission: Admission | Kept = NOT_STARTED) -> str:
    """The progress of a rollout without counts of devices; `admission` is its deployment's current admission."""
    because = f": {document.reason}" if document.reason else ""
    match document.state:
        case RolloutState.CREATED:
            return "waits to be started"
        case RolloutState.COMPLETED:
            return f"completed{because}{_since(document, admission, 'a device that is targeted later gets it, too')}"
        case RolloutState.ABORTED:
            keep = "devices that were admitted keep it, and no other device gets it"
            return f"aborted{because}{_since(document, admission, keep if document.batches else 'no device got it')}"
        case RolloutState.ROLLING_BACK:
            return f"rolling back to {back_to(document)}{because}"
        case RolloutState.ROLLED_BACK:
            return f"rolled back to {back_to(document)}: {document.why}"
        case RolloutState.HALTED:
            return f"halted: {document.why}; an operator has to decide"
        case RolloutState.RUNNING:
            phases = len(document.plan.phases)
            if document.phase < 0:
                return f"phase 1 of {phases} opens next"
            return f"phase {document.phase + 1} of {phases} {'is open' if document.is_open else 'has passed'}"
        case RolloutState.PAUSED:
            return f"paused{because}"


def _since(document: RolloutDocument, admission: Admission | Kept, otherwise: str) -> str:
    """What holds for the devices of a rollout that is over; an operator can have ended or opened its deployment since."""
    match admission:
        case Ended():
            # A device that nothing else targets is unmanaged from now on, and keeps what it had (DESIGN §9).
            return (
                "; its deployment has ended, and each device gets what else targets it, or keeps its configuration"
                if document.batches
                else "; no device got it"
            )
        case Kept():
            return "; devices that had it keep it, and no other device gets it"
        case Everyone() | Admitted():
            return "; an operator has opened its deployment since"
        case NotStarted():
            return f"; {otherwise}"


def back_to(document: RolloutDocument) -> str:
    """The target of a rollback."""
    if document.rollback:
        return document.rollback
    return "what each device had before" if document.plan.restore else "what else targets each device"


def silent(counts: RecordedCounts) -> str:
    """`, 3 silent` if there are any."""
    return f", {counts.silent} silent" if counts.silent else ""


def next_window(windows: Sequence[Window], now: int) -> str:
    """When the next maintenance window opens."""
    opens = opens_at(windows, now)
    return f"the next window opens {local_time(opens, windows[0].zone)}, in {duration(opens - now)}"


# -- deployments


def admission_text(document: DeploymentDocument, rollout: RolloutDocument | None, now: int) -> str:
    """The devices that a deployment admits as of now (milliseconds), and what changes that, in a sentence."""
    # After the rollout an operator can change the admission, which then takes precedence.
    if rollout is not None and isinstance(document.admission, NotStarted):
        if rollout.state is RolloutState.CREATED:
            return _starts(document, now) or "has not started: it targets no device until its rollout is started"
        moves = rollout.state in {RolloutState.RUNNING, RolloutState.COMPLETED}
        return progress(rollout, document.admission) + (_until(document, now) if moves else "")
    match document.admission:
        case NotStarted():
            return _starts(document, now) or "has not started: it targets no device until an operator starts it"
        case Everyone():
            return f"is for all devices that it targets{_until(document, now)}"
        case Admitted(devices):
            return f"is for {counted(len(devices), 'named device')}{_until(document, now)}"
        case Kept():
            return f"is kept by the devices that had it when it was canceled{_until(document, now)}"
        case Ended():
            return "has ended: it targets no device"


def _starts(document: DeploymentDocument, now: int) -> str:
    if not document.start_at:
        return ""
    when = _when(document.start_at, document)
    if document.start_at <= now:
        return f"was to start {when}, {duration(now - document.start_at)} ago: it targets no device yet"
    return f"starts {when}, in {duration(document.start_at - now)}: until then it targets no device"


def _until(document: DeploymentDocument, now: int) -> str:
    if not document.end_at:
        return ""
    return f"; ends {_when(document.end_at, document)}, in {duration(document.end_at - now)}"


def _when(at: int, document: DeploymentDocument) -> str:
    assert document.schedule
    return f"{local_time(at, document.schedule.zone)} ({document.schedule.zone})"
