"""How long tests wait: so many seconds of a quiet machine, and longer where this one is slower at the moment.

Every time limit of a test comes from here. A limit only ends what hangs: no test takes longer because one is generous.
"""

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

SECONDS_MAX = 60.0
"""What anything that a test waits for takes at most, on a quiet machine."""

SLOWNESS_MAX = 20.0
"""A machine that is slower than this is not waited for: no wait is endless."""

_LOOP, _LOOP_SECONDS = range(500_000), 0.04
"""A loop longer than the scheduler's time slice, and what it takes on a quiet machine (2026, about 3 GHz)."""

_START_SECONDS = 0.01
"""What the start of a bare Python takes there."""

_STEP_SECONDS = 5.0
"""Between two measurements of who waits; one takes about 0.05 s."""

_FRESH_SECONDS = 30.0
"""How long a measurement is good enough for who only begins something."""

_measured: tuple[float, float] = (float("-inf"), 1.0)


def slowness(fresh_seconds: float = _STEP_SECONDS) -> float:
    """How many times slower this machine is than a quiet one, 1 to `SLOWNESS_MAX`; measured anew if this is too old."""
    global _measured  # noqa: PLW0603 one machine, one measurement
    at, factor = _measured
    if time.monotonic() - at >= fresh_seconds:
        factor = min(SLOWNESS_MAX, max(1.0, _loop_seconds() / _LOOP_SECONDS, _start_seconds() / _START_SECONDS))
        _measured = (time.monotonic(), factor)
    return factor


def _loop_seconds() -> float:
    began, total = time.perf_counter(), 0
    for number in _LOOP:
        total += number & 7
    return time.perf_counter() - began


def _start_seconds() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
    return time.perf_counter() - began


def seconds(quiet: float = SECONDS_MAX) -> float:
    """A limit for what takes no other, such as a socket: as slow as the machine is now."""
    return quiet * slowness(_FRESH_SECONDS)


class Patience:
    """Seconds of a quiet machine, used up the slower the slower the machine is while they pass."""

    def __init__(
        self,
        quiet_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        slowness: Callable[[], float] = slowness,
    ) -> None:
        self._left, self._factor = quiet_seconds, 1.0
        self._clock, self._slowness = clock, slowness
        self._looked = clock()

    def is_over(self) -> bool:
        """Whether they have passed; called often."""
        passed = self._clock() - self._looked
        if passed < self.step():
            return False
        self._factor = self._slowness()
        self._left -= passed / self._factor
        self._looked = self._clock()
        return self._left <= 0

    def step(self) -> float:
        """How long the machine's speed is taken to be steady, in seconds: the slower it is, the less it is measured."""
        return max(1.0, min(_STEP_SECONDS * self._factor, self._left * self._factor, _FRESH_SECONDS))


def eventually(holds: Callable[[], object], *, what: str, seconds_max: float = SECONDS_MAX) -> None:
    """Wait for a condition; looks again every few milliseconds, less often the longer it takes."""
    began, patience = time.monotonic(), Patience(seconds_max)
    while not holds():
        waited = time.monotonic() - began
        assert not patience.is_over(), f"not within {waited:.0f} s ({seconds_max:.0f} s of a quiet machine): {what}"
        time.sleep(max(0.005, min(0.05, waited / 20)))


def exit_code(process: subprocess.Popen[Any], seconds_max: float = SECONDS_MAX) -> int:
    """What a process exits with; one that does not end is killed, and the test fails."""
    return _at_its_end(process, process.wait, Patience(seconds_max))


def last_output(process: subprocess.Popen[Any], seconds_max: float = SECONDS_MAX) -> tuple[Any, Any]:
    """What a process still says to its standard output and error until it ends; one that does not is killed."""
    return _at_its_end(process, process.communicate, Patience(seconds_max))


def _at_its_end(process: subprocess.Popen[Any], wait: Callable[..., Any], patience: Patience) -> Any:
    while True:
        try:
            return wait(timeout=patience.step())
        except subprocess.TimeoutExpired:
            if patience.is_over():
                process.kill()
                process.wait()
                raise


@contextlib.contextmanager
def started(
    command: Sequence[str | Path], *, seconds_max: float = 5 * SECONDS_MAX, **how: Any
) -> Iterator[subprocess.Popen[Any]]:
    """Start a program and wait for its end at the end of the block; it is killed where all that takes too long."""
    process: subprocess.Popen[Any] = subprocess.Popen(command, **how)
    with limited(process, seconds_max), process:
        yield process


@contextlib.contextmanager
def limited(process: subprocess.Popen[Any], seconds_max: float = SECONDS_MAX) -> Iterator[None]:
    """Kill a process that does not get through the block in time: so whoever reads what it says comes to an end."""
    patience, done = Patience(seconds_max), threading.Event()

    def watch() -> None:
        while not done.wait(patience.step()):
            if patience.is_over():
                process.kill()
                return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()


def run(
    command: Sequence[str | Path],
    *,
    seconds_max: float = SECONDS_MAX,
    input: str = "",  # noqa: A002 as subprocess.run calls it
    check: bool = False,
    **how: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a program to its end; answers its exit code and, as text, what it said.

    Raises:
        subprocess.CalledProcessError: With `check`, where the program exits with another code than 0.
        subprocess.TimeoutExpired: It did not end; it was killed.
    """
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **how}
    with tempfile.TemporaryFile() as given:  # a pipe cannot be waited for twice
        given.write(input.encode())
        given.seek(0)
        with subprocess.Popen(command, stdin=given, **how) as process:
            try:
                stdout, stderr = last_output(process, seconds_max)
            except BaseException:
                process.kill()
                raise
    done = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
    if check:
        done.check_returncode()
    return done
