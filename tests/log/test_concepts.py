"""The table of concepts has every command and every event once."""

from collections import Counter
from typing import get_args

from events.log.concepts import BY_COMMAND, BY_EVENT, DECIDERS
from events.log.events import LogEvent
from events.log.port import Event
from events.producer.errors import Command


def test_every_command_has_one_decider() -> None:
    assert set(BY_COMMAND) == set(get_args(Command))
    assert set(Counter(command for decider in DECIDERS for command in decider.commands).values()) == {1}


def test_every_event_is_of_one_concept_or_of_the_log_itself() -> None:
    assert set(BY_EVENT) == set(get_args(Event)) - set(get_args(LogEvent))
    assert set(Counter(event for decider in DECIDERS for event in decider.events).values()) == {1}


def test_a_subject_of_the_fleet_is_of_the_concept_of_its_prefix() -> None:
    prefixes = [prefix for decider in DECIDERS if decider.is_of_fleet for prefix in decider.prefixes]
    assert len(prefixes) == len(set(prefixes))
