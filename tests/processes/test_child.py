"""Children end with their parent, whatever it dies of; those that are stopped are continued."""

import os
import signal
import subprocess
import sys

import pytest

from events.processes.child import Child
from tests.process_tree import is_stopped, is_there
from tests.servers import eventually

HOLDING = "import time; from events.processes import lifeline; line = lifeline.hold(); print('holds', flush=True)\n"
SLEEPING = f"{HOLDING}time.sleep(600)"
PARENT = f"""
import subprocess, sys, time
from events.processes.child import Child
child = Child([sys.executable, "-c", {SLEEPING!r}], {{}}, stdout=subprocess.PIPE)
child.process.stdout.readline()
print(child.process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
@pytest.mark.parametrize("stopped", [False, True], ids=["", "while the child is stopped"])
def test_a_child_ends_with_its_parent_whatever_that_dies_of(number: signal.Signals, *, stopped: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if stopped:
            os.kill(pid, signal.SIGSTOP)
            eventually(lambda: is_stopped(pid), what="it is stopped")
        parent.send_signal(number)
    eventually(lambda: not is_there(pid), what="the child has ended")


def test_a_process_that_nobody_supervises_goes_on_without_a_parent() -> None:
    program = f"{HOLDING}print(line, flush=True)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("holds\n")


def test_a_child_of_a_child_is_not_told_of_a_line_that_is_not_its_own() -> None:
    program = f"{HOLDING}import os; print(sorted(one for one in os.environ if 'LIFELINE' in one), flush=True)"
    child = Child([sys.executable, "-c", program], {}, stdout=subprocess.PIPE)
    assert child.process.communicate()[0] == b"holds\n[]\n"
    child.end(0)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("line.last_output('the port is taken'); raise SystemExit(3)", "the port is taken"),
        ("raise ValueError('nobody catches this')", "ValueError: nobody catches this"),
        ("pass", ""),
    ],
)
def test_why_a_child_ended_reaches_its_parent(program: str, words: str) -> None:
    child = Child([sys.executable, "-c", HOLDING + program], {}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    child.process.wait()
    assert child.last_output() == words
    child.end(0)


def test_a_child_that_was_stopped_is_continued_and_one_that_goes_on_by_itself_is_left_alone() -> None:
    child = Child([sys.executable, "-c", SLEEPING], {}, stdout=subprocess.PIPE)
    assert child.process.stdout is not None
    child.process.stdout.readline()
    child.process.send_signal(signal.SIGSTOP)
    eventually(child.continue_if_stopped, what="it is continued")
    eventually(lambda: not child.continue_if_stopped(), what="that is done once")
    child.terminate()
    assert child.end(60) == -signal.SIGTERM
    child.process.stdout.close()
