"""The decider of waivers: it turns a command into an event, or refuses it."""

import re
from collections.abc import Iterator
from typing import get_args

from events.decider import CommandAuthor, Decider, Documents, SubjectChange
from events.readiness.catalogue import BY_ID
from events.readiness.commands import GrantWaiver, WaiverCommand, WithdrawWaiver
from events.readiness.errors import WaiverInvalid, WaiverNotFound
from events.readiness.events import WaiverEvent, WaiverGranted, WaiverWithdrawn
from events.readiness.rule import Inspects
from events.readiness.state import WAIVER, decode, evolve

_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._@+-]{1,64}")
_REASON_CHARACTERS_MAX = 1000
_NAME_CHARACTERS_MAX = 128


def check(command: WaiverCommand) -> None:
    """Refuse a command that is invalid in every state.

    Raises:
        WaiverInvalid: names the broken rule.
    """
    name = command.waiver_id
    if not _ID.fullmatch(name):
        why = "the name must have 1 to 64 ASCII letters, digits and . _ @ + -, and must not be . or .."
        raise WaiverInvalid(name, why)
    if isinstance(command, WithdrawWaiver):
        return
    rule = BY_ID.get(command.rule)
    if rule is None or rule.inspects is Inspects.NOTHING:
        raise WaiverInvalid(name, f"`rule`: there is no rule {command.rule[:80]!r} that can have findings")
    if not command.reason.strip() or len(command.reason) > _REASON_CHARACTERS_MAX:
        raise WaiverInvalid(name, f"`reason` must have 1 to {_REASON_CHARACTERS_MAX} characters")
    for member, value in (("module", command.module), ("deployment", command.deployment)):
        if value is not None and not 0 < len(value) <= _NAME_CHARACTERS_MAX:
            raise WaiverInvalid(name, f"`{member}` is optional and must have 1 to {_NAME_CHARACTERS_MAX} characters")


def decide(command: WaiverCommand, documents: Documents, _: CommandAuthor) -> Iterator[SubjectChange]:
    """Return the event for a checked command.

    Raises:
        WaiverNotFound: there is no waiver to withdraw.
    """
    subject = WAIVER + command.waiver_id
    if isinstance(command, GrantWaiver):
        terms = (command.rule, command.reason, command.until, command.module, command.deployment)
        yield SubjectChange(subject, WaiverGranted(*terms))
    elif documents[subject] is None:
        raise WaiverNotFound(command.waiver_id)
    else:
        yield SubjectChange(subject, WaiverWithdrawn())


DECIDER = Decider(
    get_args(WaiverCommand),
    get_args(WaiverEvent),
    subjects=lambda command: (WAIVER + command.waiver_id,),
    check=check,
    decide=decide,
    evolve=lambda _, event, version, at, by: evolve(event, version=version, at=at, by=by),
    decode=lambda _, data: decode(data),
    prefixes=(WAIVER,),
)
