"""A process that ends is started again, later each time; one that ends at once every time is given up with its reason."""

import signal
import sys
import time

import pytest

from events.processes.child import STOPPED_SECONDS_MAX, Child
from events.processes.supervised import ATTEMPTS_MAX, BACK_OFF_SECONDS_MIN, Continued, GivenUp, ProcessEnded, Supervised
from events.processes.wake import Wake
from tests import waiting
from tests.servers import eventually

Told = list[ProcessEnded | Continued]


def supervised(code: int, told: Told, *, gives_up: bool = True) -> Supervised:
    def make() -> Child:
        return Child([sys.executable, "-S", "-E", "-c", f"import os; os._exit({code})"], {})

    return Supervised("api", make, tell=told.append, gives_up=gives_up, reason=lambda _: "it says why")


def sleeping(told: Told) -> Supervised:
    def make() -> Child:
        return Child([sys.executable, "-S", "-E", "-c", "import time; time.sleep(600)"], {})

    return Supervised("api", make, tell=told.append, gives_up=True)


def tend_until_told(process: Supervised, told: Told, count: int) -> None:
    def is_told() -> bool:
        process.tend()
        return len(told) >= count

    eventually(is_told, what=f"it ended {count} times")


@pytest.mark.parametrize("code", [1, *(pytest.param(code, marks=pytest.mark.full) for code in (0, 2, 137))])
def test_one_that_ends_at_once_every_time_is_given_up_with_its_reason(code: int) -> None:
    told: Told = []
    process = supervised(code, told)
    with pytest.raises(GivenUp, match=rf"api ended 5 times in a row .* code {code}: it says why"):
        tend_until_told(process, told, ATTEMPTS_MAX)
    pauses = [change.again_in_seconds for change in told if isinstance(change, ProcessEnded)]
    assert pauses == [BACK_OFF_SECONDS_MIN * 2**count for count in range(ATTEMPTS_MAX - 1)]


@pytest.mark.full
def test_one_that_finds_something_unavailable_is_tried_on() -> None:
    told: Told = []
    process = supervised(3, told)
    tend_until_told(process, told, ATTEMPTS_MAX + 1)


@pytest.mark.full
def test_one_that_is_never_given_up_is_tried_on() -> None:
    told: Told = []
    process = supervised(1, told, gives_up=False)
    tend_until_told(process, told, ATTEMPTS_MAX + 1)


@pytest.mark.full
def test_one_that_is_killed_again_and_again_is_not_given_up() -> None:
    told: Told = []
    process = sleeping(told)
    for count in range(ATTEMPTS_MAX + 1):
        eventually(lambda: process.tend() or process.is_running, what="it runs")
        process.child.process.kill()
        tend_until_told(process, told, count + 1)
    assert all(isinstance(change, ProcessEnded) and change.code == -signal.SIGKILL for change in told)


def test_one_that_is_stopped_is_continued_and_it_is_said() -> None:
    told: Told = []
    process = sleeping(told)
    process.child.process.send_signal(signal.SIGSTOP)
    tend_until_told(process, told, 1)
    assert told == [Continued(process.child.process.pid)]
    process.terminate()
    process.end(60)


def test_the_end_of_a_process_wakes_its_parent_and_only_then_is_there_something_to_do() -> None:
    told: Told = []
    wake = Wake()
    process = Supervised(
        "api",
        lambda: Child([sys.executable, "-S", "-E", "-c", "import time; time.sleep(600)"], {}),
        tell=told.append,
        on_end=wake.wake,
    )
    assert process.tend_in_seconds == STOPPED_SECONDS_MAX
    process.child.process.kill()
    began, seconds_max = time.monotonic(), waiting.seconds()
    wake.wait(seconds_max)
    assert time.monotonic() - began < seconds_max
    process.tend()
    assert [type(change) for change in told] == [ProcessEnded]
    assert 0 < process.tend_in_seconds <= BACK_OFF_SECONDS_MIN
    process.end(0)


def test_a_call_that_comes_before_the_wait_ends_it_and_counts_once() -> None:
    wake = Wake()
    for _ in range(3):
        wake.wake()
    seconds_max, began = waiting.seconds(), time.monotonic()
    wake.wait(seconds_max)
    assert time.monotonic() - began < seconds_max
    began = time.monotonic()
    wake.wait(0.05)
    assert time.monotonic() - began >= 0.05
