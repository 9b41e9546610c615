"""Waivers: what may happen to them, what stands afterwards, and what they let stand."""

import datetime as dt
from typing import Any

import pytest

from events.canonical import encode
from events.decider import CommandAuthor
from events.readiness.commands import GrantWaiver, WaiverCommand, WithdrawWaiver
from events.readiness.decider import DECIDER, check, decide
from events.readiness.errors import WaiverInvalid, WaiverNotFound
from events.readiness.events import WaiverEvent, WaiverGranted, WaiverWithdrawn
from events.readiness.state import WaiverDocument, decode, evolve
from events.readiness.waiver import Waiver

END = dt.date(2027, 3, 31)
GRANTED = WaiverGranted("privileged", "until the next release", END)
LONGER = WaiverGranted("privileged", "the release is late", END.replace(month=12), "driver", "line-3")


def grant(**members: Any) -> GrantWaiver:
    return GrantWaiver(
        **{"waiver_id": "press", "rule": "privileged", "reason": "until the next release", "until": END, **members}
    )


def after(*events: WaiverEvent) -> WaiverDocument | None:
    document = None
    for number, event in enumerate(events, start=1):
        document = evolve(event, version=number, at=1000 * number, by=f"user:u{number}")
    return document


def decided(command: WaiverCommand, *previous_events: WaiverEvent) -> WaiverEvent:
    check(command)
    (subject,) = DECIDER.subjects(command)
    (change,) = decide(command, {subject: after(*previous_events)}, CommandAuthor())
    assert change.subject == subject
    return change.event


@pytest.mark.parametrize(
    ("given", "when", "then"),
    [
        ((), grant(), GRANTED),
        ((GRANTED,), WithdrawWaiver("press"), WaiverWithdrawn()),
        ((GRANTED, WaiverWithdrawn()), grant(), GRANTED),
        ((GRANTED,), grant(reason=LONGER.reason, until=LONGER.until, module="driver", deployment="line-3"), LONGER),
    ],
)
def test_a_waiver_is_granted_granted_on_other_terms_and_withdrawn(
    given: tuple[WaiverEvent, ...], when: WaiverCommand, then: WaiverEvent
) -> None:
    assert decided(when, *given) == then


@pytest.mark.parametrize("given", [(), (GRANTED, WaiverWithdrawn())])
def test_what_does_not_stand_is_not_withdrawn(given: tuple[WaiverEvent, ...]) -> None:
    with pytest.raises(WaiverNotFound, match="press"):
        decided(WithdrawWaiver("press"), *given)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (grant(waiver_id=""), "64"),
        (grant(waiver_id="a:b"), "64"),
        (grant(waiver_id=".."), "must not be . or .."),
        (WithdrawWaiver("a/b"), "64"),
        (grant(rule="privilege"), "no rule"),
        (grant(rule="device-management-plan"), "no rule"),
        (grant(reason=" "), "reason"),
        (grant(reason="x" * 1001), "reason"),
        (grant(module=""), "module"),
        (grant(deployment="x" * 129), "deployment"),
    ],
)
def test_a_waiver_names_a_rule_that_is_there_and_a_reason(command: WaiverCommand, why: str) -> None:
    with pytest.raises(WaiverInvalid, match=why):
        check(command)


def test_whoever_granted_it_last_is_who_decided() -> None:
    document = after(GRANTED, LONGER)
    assert document is not None
    assert document.waiver == Waiver("privileged", "user:u2", "the release is late", LONGER.until, "driver", "line-3")
    assert (document.version, document.granted_at) == (2, 2000)
    assert decode(encode(document)) == document
    assert after(GRANTED, WaiverWithdrawn()) is None


def test_a_waiver_is_a_subject_of_its_own_and_no_deployment() -> None:
    assert DECIDER.subjects(grant()) == DECIDER.subjects(WithdrawWaiver("press")) == ("waiver:press",)


def test_the_last_day_is_a_date_and_not_a_time() -> None:
    assert b'"until":"2027-03-31"' in encode(GRANTED)
