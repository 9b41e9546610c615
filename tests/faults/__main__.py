"""Kill and stop every process of a twinfold for a while: `python -m tests.faults --seconds 600 [--seed 1]`."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.faults.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long faults go on")
    parser.add_argument("--seed", type=int, default=1, help="of the order of faults")
    asked = parser.parse_args()

    def print_lines(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        course = run(Path(directory) / "data", seconds=asked.seconds, seed=asked.seed, print_lines=print_lines)
    for name, seconds in sorted(course.seconds.items()):
        print_lines(f"{name}: {course.struck[name]} times, back after {max(seconds):.1f} s at most")
    print_lines(f"{course.acknowledged} writes were acknowledged; {len(course.wrong)} things are not as they should be")
    for line in course.wrong:
        print_lines(line)
    return 1 if course.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
