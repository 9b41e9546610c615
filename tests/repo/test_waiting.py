"""Time limits of tests are those of a quiet machine, and scale with how slow this one is."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests import waiting
from tests.servers import eventually

TALKS = "import sys, time; print(sys.stdin.read(), flush=True); time.sleep(float(sys.argv[1]))"


class Machine:
    """A clock that is turned by hand, on a machine that is as slow as it is said to be."""

    def __init__(self) -> None:
        self.now, self.slow = 0.0, 1.0

    def patience(self, seconds: float) -> waiting.Patience:
        return waiting.Patience(seconds, clock=lambda: self.now, slowness=lambda: self.slow)

    def wait(self, patience: waiting.Patience) -> float:
        """Look every tenth of a second until it is over; answers after how many seconds."""
        began = self.now
        while not patience.is_over():
            self.now += 0.1
        return self.now - began


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.mark.parametrize("seconds", [1, 4, 60])
def test_on_a_quiet_machine_a_limit_is_what_it_says(machine: Machine, seconds: float) -> None:
    assert seconds <= machine.wait(machine.patience(seconds)) < seconds + 1


@pytest.mark.parametrize("slow", [3, 7.5, waiting.SLOWNESS_MAX])
def test_a_limit_is_so_many_times_longer_as_the_machine_is_slower(machine: Machine, slow: float) -> None:
    machine.slow = slow
    assert 60 * slow <= machine.wait(machine.patience(60)) < 60 * slow + 5


def test_load_that_comes_and_goes_while_somebody_waits_counts_while_it_is_there(machine: Machine) -> None:
    patience = machine.patience(60)
    for slow in (1, 10, 10):
        machine.slow = slow
        for _ in range(200):
            machine.now += 0.1
            assert not patience.is_over()
    machine.slow = 1
    assert 30 <= machine.wait(patience) <= 40  # 20 s, and 40 s that were worth 4


def test_this_machine_is_at_least_as_slow_as_a_quiet_one_and_no_wait_is_endless() -> None:
    assert 1 <= waiting.slowness() <= waiting.SLOWNESS_MAX
    assert 2 <= waiting.seconds(2) <= 2 * waiting.SLOWNESS_MAX


def test_what_does_not_become_true_is_named_with_the_limit() -> None:
    with pytest.raises(AssertionError, match=r"not within \d+ s \(0 s of a quiet machine\): pigs fly"):
        eventually(lambda: False, what="pigs fly", seconds_max=0.1)


def test_a_program_is_given_its_input_and_its_words_come_back() -> None:
    done = waiting.run([sys.executable, "-c", TALKS, "0"], input="grüße")
    assert (done.returncode, done.stdout, done.stderr) == (0, "grüße\n", "")
    with pytest.raises(subprocess.CalledProcessError):
        waiting.run([sys.executable, "-c", "raise SystemExit(3)"], check=True)


def hangs(command: list[str]) -> None:
    waiting.run(command, seconds_max=0.1)


def is_waited_for(command: list[str]) -> None:
    with waiting.started(command, stdin=subprocess.DEVNULL) as process:
        waiting.exit_code(process, 0.1)


@pytest.mark.parametrize("wait", [hangs, is_waited_for])
def test_a_program_that_hangs_is_killed(wait: Callable[[list[str]], None]) -> None:
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        wait([sys.executable, "-c", TALKS, "600"])
    assert time.monotonic() - began < 300


def test_whoever_reads_from_a_program_that_says_nothing_comes_to_an_end() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with waiting.started(command, stdout=subprocess.PIPE, seconds_max=0.1) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert process.returncode == -signal.SIGKILL
