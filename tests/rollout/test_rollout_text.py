import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from events.deployment.decider import TIME_MAX
from events.deployment.events import Admitted, Ended, Everyone, NotStarted, Schedule
from events.rollout.rollout_text import admission_text
from events.rollout.state import RolloutState
from events.rollout.times import DurationUnreadable, TimeUnreadable, local_time, read_duration, read_time
from tests.rollout.given import deployment, in_state

BERLIN = "Europe/Berlin"
EIGHT = 1_795_244_400_000
"""08:00 in Berlin on 21 November 2026."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("15 min", 900), ("2h", 7200), ("1d", 86_400), ("30", 30), (" 0 ", 0)],
)
def test_a_duration_is_read_with_its_unit_or_in_seconds(text: str, seconds: int) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1.5h", "1h30m", "2 weeks", "٣s", "9" * 13])
def test_what_is_no_duration_says_how_to_write_one(text: str) -> None:
    with pytest.raises(DurationUnreadable, match="15m"):
        read_duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T08:00:00+01:00",
        "2026-11-21T07:00:00Z",
        "2026-11-21t07:00:00.000z",
        "2026-11-21T08:00:00",
        "2026-11-21 08:00",
    ],
)
def test_a_time_is_read_with_its_offset_or_in_the_zone(text: str) -> None:
    assert read_time(text, BERLIN) == EIGHT


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2026-11-21", "2026-W47-6T08:00", "2026-13-01T00:00", "2026-11-21T24:30", "20261121T080000"],
)
def test_what_is_no_time_says_what_one_is(text: str) -> None:
    with pytest.raises(TimeUnreadable, match=r"must be a time such as|is not a time"):
        read_time(text, BERLIN)


def test_a_zone_that_is_not_there_is_said_to_be_none() -> None:
    with pytest.raises(TimeUnreadable, match="time zone"):
        read_time("2026-11-21T08:00", "Europe/Atlantis")


def test_a_time_that_clocks_jump_over_is_refused_and_of_one_that_comes_twice_the_first_is_meant() -> None:
    with pytest.raises(TimeUnreadable, match="does not exist in Europe/Berlin"):
        read_time("2026-03-29T02:30", BERLIN)
    assert read_time("2026-10-25T02:30", BERLIN) == read_time("2026-10-25T02:30+02:00", "UTC")
    assert read_time("2026-03-29T02:30+01:00", BERLIN) == read_time("2026-03-29T01:30Z", BERLIN)


# Until 1972 some offsets had seconds, which RFC 3339 cannot say.
@for_all(st.integers(94_694_400_000, TIME_MAX), st.sampled_from(["UTC", BERLIN, "America/St_Johns", "Pacific/Apia"]))
def test_a_time_is_read_as_it_is_written(at: int, zone: str) -> None:
    assert read_time(local_time(at, zone), "UTC") == at - at % 1000


SCHEDULE = Schedule(EIGHT, EIGHT + 86_400_000, BERLIN)


def test_what_is_to_start_says_when_and_in_how_long_and_that_it_targets_nobody() -> None:
    text = admission_text(deployment(schedule=SCHEDULE), None, EIGHT - 7_800_000)
    assert text == "starts 2026-11-21T08:00:00+01:00 (Europe/Berlin), in 2 h 10 min: until then it targets no device"
    assert admission_text(deployment(schedule=SCHEDULE), in_state(RolloutState.CREATED), EIGHT - 7_800_000) == text


@pytest.mark.parametrize(
    ("admission", "scheduled", "words"),
    [
        (NotStarted(), False, "until an operator starts it"),
        (NotStarted(), True, "was to start 2026-11-21T08:00:00+01:00 (Europe/Berlin), 1 min ago"),
        (Everyone(), True, "ends 2026-11-22T08:00:00+01:00 (Europe/Berlin), in 23 h 59 min"),
        (Everyone(), False, "all devices that it targets"),
        (Admitted(("a", "b")), False, "2 named devices"),
        (Ended(), True, "has ended"),
    ],
)
def test_every_admission_is_said_in_a_sentence(admission: object, scheduled: bool, words: str) -> None:  # noqa: FBT001
    document = deployment(admission=admission, **({"schedule": SCHEDULE} if scheduled else {}))
    assert words in admission_text(document, None, EIGHT + 60_000)


def test_at_its_time_a_deployment_was_to_start_and_just_before_it_starts() -> None:
    document = deployment(schedule=SCHEDULE)
    assert admission_text(document, None, EIGHT - 1).startswith(
        "starts 2026-11-21T08:00:00+01:00 (Europe/Berlin), in 0 s"
    )
    assert admission_text(document, None, EIGHT).startswith(
        "was to start 2026-11-21T08:00:00+01:00 (Europe/Berlin), 0 s ago"
    )


@pytest.mark.parametrize("state", [state for state in RolloutState if state is not RolloutState.CREATED])
def test_a_rollout_that_goes_on_or_has_completed_says_when_its_deployment_ends(state: RolloutState) -> None:
    text = admission_text(deployment(schedule=SCHEDULE), in_state(state), EIGHT + 60_000)
    assert ("; ends 2026-11-22T08:00:00+01:00" in text) is (state in {RolloutState.RUNNING, RolloutState.COMPLETED})


def test_one_named_device_is_said_to_be_one() -> None:
    assert admission_text(deployment(admission=Admitted(("a",))), None, EIGHT).endswith("for 1 named device")


@pytest.mark.parametrize("state", RolloutState)
def test_every_state_of_a_rollout_is_said_in_a_sentence(state: RolloutState) -> None:
    text = admission_text(deployment(), in_state(state), EIGHT)
    expected = {
        RolloutState.CREATED: "until its rollout is started",
        RolloutState.RUNNING: "phase 1 of 2 is open",
        RolloutState.PAUSED: "paused: too hot",
        RolloutState.COMPLETED: "completed; a device that is targeted later gets it, too",
        RolloutState.ABORTED: "aborted: no more",
        RolloutState.ROLLING_BACK: "rolling back",
        RolloutState.ROLLED_BACK: "rolled back",
        RolloutState.HALTED: "halted",
    }
    assert expected[state] in text


def test_what_was_done_by_hand_after_a_rollout_is_what_is_said() -> None:
    assert "has ended" in admission_text(deployment(admission=Ended()), in_state(RolloutState.COMPLETED), EIGHT)
    assert "all devices" in admission_text(deployment(admission=Everyone()), in_state(RolloutState.ABORTED), EIGHT)
