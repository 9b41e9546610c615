"""Every event has a text, and none of them shows a value."""

import json
from pathlib import Path
from typing import get_args

import pytest

from events.event_text import EVENT_TEXTS, event_text, text_of
from events.log.codec import decode_entry
from events.log.port import Event
from events.secrets.references import mask

GOLDEN = Path(__file__).parent.parent / "log" / "golden"
LINES = [line for path in sorted(GOLDEN.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_every_event_has_a_text_of_its_own() -> None:
    assert {event.__name__ for event in get_args(Event)} == set(EVENT_TEXTS)


@pytest.mark.parametrize("line", LINES)
def test_a_sentence_names_its_author_and_reads_as_one(line: str) -> None:
    entry = json.loads(line)
    data = mask(json.loads(entry["data"]))
    said = event_text(entry["type"], subject=entry["subject"], by=entry["by"], data=data)
    assert said.startswith(f"{entry['by']} ")
    assert "None" not in said
    assert "\n" not in said
    assert "{" not in said.replace("{device_id}", "")
    assert entry["type"] not in said


@pytest.mark.parametrize("line", LINES)
def test_an_event_that_was_read_says_the_same_as_its_entry(line: str) -> None:
    entry = json.loads(line)
    envelope = decode_entry("p00", 7, {name.encode(): value.encode() for name, value in entry.items()})
    data = mask(json.loads(entry["data"]))
    assert text_of(envelope) == event_text(entry["type"], subject=entry["subject"], by=entry["by"], data=data)


@pytest.mark.parametrize(("count", "said"), [(1, "1 device"), (2, "2 devices"), (0, "0 devices")])
def test_numbers_are_said_as_people_say_them(count: int, said: str) -> None:
    admitted = event_text("DevicesAdmitted", subject="rollout:r", by="user:ada", data={"count": count, "phase": 0})
    assert admitted == f"user:ada admitted {said} in phase 1 of the rollout of r"
    retried = event_text("DevicesRetried", subject="rollout:r", by="user:ada", data={"count": count})
    assert retried == f"user:ada had {said} of r retry"
    named = {"admission": {"type": "Admitted", "device_ids": [str(one) for one in range(count)]}}
    opened = event_text("AdmissionChanged", subject="r", by="user:ada", data=named)
    assert opened == f"user:ada opened deployment r to {said.replace(' ', ' named ')}"


@pytest.mark.parametrize("line", LINES)
def test_no_sentence_leaves_it_open_how_many_there_are(line: str) -> None:
    entry = json.loads(line)
    said = event_text(entry["type"], subject=entry["subject"], by=entry["by"], data=mask(json.loads(entry["data"])))
    assert "(s)" not in said


def test_a_long_text_is_cut() -> None:
    said = event_text("RolloutPaused", subject="rollout:prod", by="user:ada", data={"reason": "x" * 10_000})
    assert len(said) < 300


@pytest.mark.parametrize("kind", ["DeviceRegistered", "DeviceUpdated"])
def test_the_parent_of_a_device_is_said(kind: str) -> None:
    data = {"edge": False, "enabled": True, "parent_scope": "ms-azure-iot-edge://edge-7-1"}
    said = event_text(kind, subject="sensor-9", by="user:ada", data=data)
    assert said.endswith(", with the parent ms-azure-iot-edge://edge-7-1")
    assert "parent" not in event_text(kind, subject="sensor-9", by="user:ada", data={"edge": False, "enabled": True})
