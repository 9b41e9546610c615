"""The data directory: held by one `up` and the processes it started, and its owner's alone."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from services.up.directory import DirectoryHeld, held, restrict_to_owner
from tests.process_tree import is_stopped
from tests.servers import eventually

SLEEPING = (
    "import signal, sys; signal.signal(signal.SIGCONT, lambda *_: sys.exit()); print('.', flush=True); signal.pause()"
)


def test_the_next_one_waits_for_the_last_process_of_the_one_before_and_continues_it_if_it_is_stopped(
    tmp_path: Path,
) -> None:
    with held(tmp_path) as roles:
        child = subprocess.Popen([sys.executable, "-c", SLEEPING], pass_fds=(roles,), stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGSTOP)
        eventually(lambda: is_stopped(child.pid), what="it is stopped")
    with held(tmp_path):
        assert child.wait() == 0
    child.stdout.close()


def test_two_at_once_do_not_hold_it(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(DirectoryHeld), held(tmp_path):
        pass


def test_rights_of_others_are_taken_away_below_and_links_lead_nowhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch(mode=0o644)
    data = tmp_path / "data"
    (data / "redis").mkdir(parents=True, mode=0o755)
    (data / "redis" / "appendonly.aof").touch(mode=0o644)
    (data / "link").symlink_to(elsewhere)
    restrict_to_owner(data)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (data, data / "redis", data / "redis" / "appendonly.aof")]
    assert modes == [0o700, 0o700, 0o600]
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o644
