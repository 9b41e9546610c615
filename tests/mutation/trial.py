"""Each mutant in a process of its own, before the tests that come by it, until one of them notices."""

import os
import pickle
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.mutation.points import Mutant, Switched
from tests.waiting import Patience

PROCESSES = ("shared_redis", "cluster_url")
"""Fixtures that start programs: what runs there has no switches."""

MEMORY_BYTES_MAX = 4 << 30
SECONDS_MAX_BASE = 20.0


class Passed(msgspec.Struct, frozen=True):
    """A test without any mutant: how long it took, and which places it came by."""

    test: int
    seconds: float
    locations: frozenset[int]


class Trial:
    """A pytest plugin that tries mutants where pytest would run tests."""

    def __init__(self, root: Path, locations: Sequence[str], *, jobs: int, report: Callable[[str], None]) -> None:
        self._switched = Switched(root, locations, self._comes_by)
        self._switched.install()
        self._jobs, self._report = jobs, report
        self._active: int | None = None
        self._seen: set[int] = set()
        self.killed: list[Mutant] = []
        self.survived: list[Mutant] = []
        self.never_reached: list[Mutant] = []

    def _comes_by(self, number: int) -> bool:
        self._seen.add(number)
        return number == self._active

    def pytest_configure(self) -> None:
        """A failure is enough: how small its example can be is of no interest here."""
        steady = settings.get_profile("steady")
        settings.register_profile(
            "mutation", steady, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
        )
        settings.load_profile("mutation")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not set(PROCESSES) & set(getattr(item, "fixturenames", ()))]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running tests."""
        self._report(f"{len(self._switched.mutants)} mutants, {len(session.items)} tests")
        passed, failed = _in_a_process(lambda: self._run_all(session))
        for name in failed:
            self._report(f"left out, as it fails without any mutant: {name}")
        passed.sort(key=lambda one: one.seconds)
        pending = {
            mutant: [one for one in passed if mutant.number in one.locations] for mutant in self._switched.mutants
        }
        self.never_reached = [mutant for mutant, tests in pending.items() if not tests]
        for mutant, is_killed in self._results(session, {m: tests for m, tests in pending.items() if tests}):
            (self.killed if is_killed else self.survived).append(mutant)
            if not is_killed:
                self._report(f"survived, line {mutant.line} of {mutant.name}")
        return True

    def _run_all(self, session: pytest.Session) -> tuple[list[Passed], list[str]]:
        passed, failed = [], []
        for number, item in enumerate(session.items):
            self._seen, began = set(), time.monotonic()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=_next(session.items, number + 1))
            if session.testsfailed:
                session.testsfailed = 0
                failed.append(item.nodeid)
                continue
            passed.append(Passed(number, time.monotonic() - began, frozenset(self._seen)))
        return passed, failed

    def _results(self, session: pytest.Session, pending: dict[Mutant, list[Passed]]) -> Iterator[tuple[Mutant, bool]]:
        running: dict[int, tuple[Mutant, Patience]] = {}
        waiting = list(pending.items())
        while waiting or running:
            while waiting and len(running) < self._jobs:
                mutant, tests = waiting.pop(0)
                limit = SECONDS_MAX_BASE + 5 * sum(one.seconds for one in tests)
                running[_forked(lambda: self._is_noticed(session, mutant, tests))] = (mutant, Patience(limit))  # noqa: B023
            time.sleep(0.005)
            for pid, (mutant, patience) in list(running.items()):
                if patience.is_over():
                    os.kill(pid, signal.SIGKILL)
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    del running[pid]
                    yield mutant, status != 0

    def _is_noticed(self, session: pytest.Session, mutant: Mutant, tests: Sequence[Passed]) -> bool:
        self._active = mutant.number
        items = [session.items[one.test] for one in tests]
        for number, item in enumerate(items):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=_next(items, number + 1))
            if session.testsfailed:
                return True
        return False


def _next(items: Sequence[pytest.Item], at: int) -> pytest.Item | None:
    return items[at] if at < len(items) else None


def _forked(work: Callable[[], bool]) -> int:
    """Begin in a process that says nothing; it exits with 1 for `True`, and with 0 for `False`."""
    pid = os.fork()
    if pid:
        return pid
    code = 2
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        code = int(work())
    finally:
        os._exit(code)


def _in_a_process(work: Callable[[], tuple[list[Passed], list[str]]]) -> tuple[list[Passed], list[str]]:
    """What work answers, without anything that it leaves behind in caches."""
    with tempfile.TemporaryFile() as file:

        def written() -> bool:
            pickle.dump(work(), file)
            file.flush()
            return False

        _, status = os.waitpid(_forked(written), 0)
        assert status == 0, f"the tests end with status {status}"
        file.seek(0)
        return pickle.load(file)  # type: ignore[no-any-return]  # noqa: S301 our own
