"""Which tests there are, what they are called and in what order they come is the same in every process at any time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import waiting
from tests.repo.tree import ROOT

COLLECTION = """
import sys, time
import pytest
later, clock, clock_ns = int(sys.argv[1]), time.time, time.time_ns
time.time = lambda: clock() + later
time.time_ns = lambda: clock_ns() + later * 1_000_000_000
raise SystemExit(pytest.main(["--collect-only", "-q", "-m", "", "-n", "0", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


def collected(*chosen: str, directory: Path, seed: str, zone: str, later_seconds: int) -> "subprocess.Popen[str]":
    """Begin to collect in a process that has a hash seed, a time and a place of its own."""
    temporary = directory / seed
    temporary.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", COLLECTION, str(later_seconds), *chosen],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def names_of(process: "subprocess.Popen[str]") -> list[str]:
    words, _ = waiting.last_output(process, 5 * waiting.SECONDS_MAX)
    assert process.returncode == 0, words[-2000:]
    return [line for line in words.splitlines() if "::" in line]


@pytest.mark.full
def test_processes_with_other_seeds_clocks_and_places_collect_the_same_tests(tmp_path: Path) -> None:
    first = collected(directory=tmp_path, seed="1", zone="UTC", later_seconds=0)
    second = collected(directory=tmp_path, seed="2", zone="Asia/Kathmandu", later_seconds=100_000_001)
    names = names_of(first)
    assert len(names) > 5000
    assert names == names_of(second)


def test_a_name_that_follows_the_clock_or_the_hash_seed_is_found(tmp_path: Path) -> None:
    """What holds the test above to what it says."""
    (tmp_path / "test_drifting.py").write_text(
        "import time, pytest\n"
        "@pytest.mark.parametrize('second', [int(time.time()) // 1000])\n"
        "def test_time(second): pass\n"
        "@pytest.mark.parametrize('word', {f'w{n}' for n in range(9)})\n"
        "def test_order(word): pass\n"
    )
    chosen = [str(tmp_path / "test_drifting.py"), "--rootdir", str(tmp_path)]
    first = collected(*chosen, directory=tmp_path, seed="1", zone="UTC", later_seconds=0)
    second = collected(*chosen, directory=tmp_path, seed="2", zone="UTC", later_seconds=100_000_001)
    first_names, second_names = names_of(first), names_of(second)
    assert first_names[0] != second_names[0]
    assert first_names[1:] != second_names[1:]
    assert sorted(first_names[1:]) == sorted(second_names[1:])
