"""`python -m tests.mutation [package …]`: mutate what decides, and see whether its tests notice.

Exits with 1 where a mutant survives that `equivalent.toml` does not explain, where one is explained that is killed or gone, or
where less than 95 % are killed.
"""

import argparse
import os
import sys
import tomllib
from pathlib import Path

import pytest

from tests.mutation.trial import Trial

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).parent / "equivalent.toml"
KILLED_PERCENT_MIN = 95

TESTS: dict[str, tuple[str, ...]] = {
    "events/rollout": ("tests/rollout",),
    "events/update": ("tests/update",),
    "events/deployment": ("tests/deployment",),
    "events/device": ("tests/device",),
    "events/query": ("tests/query",),
    "events/manifest/merge.py": ("tests/manifest",),
    "events/fleet/resolve.py": ("tests/fleet/test_resolve.py",),
    "events/fleet/answers.py": ("tests/fleet/test_answers.py",),
    "services/api/auth/sas.py": ("tests/api/test_sas.py", "tests/api/test_signatures.py"),
}
"""What decides, and the tests that must notice when it decides otherwise."""


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    asked.add_argument("package", nargs="*", default=[*TESTS], help="as events/query; all of them, if none is named")
    asked.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutants at the same time")
    chosen = asked.parse_args()
    if unknown := set(chosen.package) - TESTS.keys():
        asked.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(TESTS)}")
    explained = {one["mutant"]: one["reason"] for one in tomllib.loads(EQUIVALENT.read_text())["equivalent"]}
    tests = sorted({test for package in chosen.package for test in TESTS[package]})
    trial = Trial(ROOT, chosen.package, jobs=chosen.jobs, report=lambda line: print(line, file=sys.stderr, flush=True))
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # Hypothesis is here before pytest
    os.chdir(ROOT)
    pytest.main(["-q", "-s", "-n", "0", "-m", "not long", "-p", "no:cacheprovider", *quiet, *tests], plugins=[trial])
    return report(trial, explained, chosen.package)


def report(trial: Trial, explained: dict[str, str], packages: list[str]) -> int:
    """Print what came out; answers the exit code."""
    left = {mutant.name: mutant for mutant in (*trial.survived, *trial.never_reached)}
    here = {name for name in explained if name.startswith(tuple(packages))}
    count = len(trial.killed) + len(left)
    percent = 100 * len(trial.killed) / count if count else 0.0
    unexplained = [mutant for name, mutant in left.items() if name not in here]
    for mutant in unexplained:
        print(f"{mutant.name.partition(' ')[0]}:{mutant.line}: not noticed: {mutant.name}")
    stale = sorted(here - left.keys())
    for name in stale:
        print(f"explained, but killed or gone: {name}")
    print(f"{len(trial.killed)} of {count} mutants killed ({percent:.1f} %), {len(left) - len(unexplained)} equivalent")
    return int(bool(unexplained or stale or percent < KILLED_PERCENT_MIN))


if __name__ == "__main__":
    sys.exit(main())
