"""A message names what its reader typed: flags on the command line, members of the body over HTTP, members of commands in Python."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from events.deployment.commands import CreateDeployment
from events.deployment.decider import check
from events.deployment.errors import ScheduleInvalid
from events.deployment.events import Schedule
from events.member_names import in_body_names
from services.cli.app import COMMANDS, app
from services.cli.flag_names import FLAGS, in_flags
from tests.manifest.contents import content

START = 1_811_800_800_000  # 2027-06-01 00:00 in Berlin
END_FIRST = CreateDeployment("camera", content(), "*", schedule=Schedule(START, START - 1, "Europe/Berlin"))


def test_an_end_before_the_start_is_told_by_the_names_that_each_reader_knows() -> None:
    with pytest.raises(ScheduleInvalid) as caught:
        check(END_FIRST)
    message = str(caught.value)
    time = "(2027-06-01 00:00 Europe/Berlin)"
    assert message == f"camera: `schedule.end_at` must be after `schedule.start_at` {time}"
    in_body = in_body_names(message)
    assert in_body == f"camera: `schedule.end` must be after `schedule.start` {time}"
    assert in_flags(in_body) == in_flags(message) == f"camera: --end must be after --start {time}"


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        ("`phases[1].count` is not less", "--phase number 2 is not less"),
        ("`phases[0].gate.soak_seconds` is", "--soak is"),
        ("`windows[2].cron` is", "--window number 3 is"),
        ("`rollback_to` is another deployment", "--rollback-to is another deployment"),
        ("p03:17: `reason` is required", "p03:17: --reason is required"),
        ("`plan.phases[0]` has one of `percent` and `count`", "`plan.phases[0]` has one of `percent` and `count`"),
        ("is `twinfold up` running?", "is `twinfold up` running?"),
        ("tags.site: an array holds no null", "tags.site: an array holds no null"),
    ],
)
def test_members_that_have_a_flag_are_named_by_it_and_others_as_they_are(message: str, flags: str) -> None:
    assert in_flags(message) == flags


def options(command: Any) -> Iterator[str]:
    for inner in getattr(command, "commands", {}).values():
        yield from options(inner)
    for parameter in command.params:
        yield from parameter.opts


def test_every_flag_that_stands_for_a_member_is_one_of_a_command() -> None:
    group: Any = typer.main.get_command(app)
    known = {option for name in COMMANDS for option in options(group.commands[name])}
    assert set(FLAGS.values()) <= known
