"""`python -m tests.benchmarks [--devices N] [--deployments N] [--json]`."""

import argparse

import msgspec

from tests.benchmarks import (
    archive,
    audit,
    explain,
    history,
    http,
    large_fleet,
    metrics,
    one_partition,
    preview,
    queries,
    readiness,
    replay,
    rollouts,
)
from tests.benchmarks.measuring import show
from tests.benchmarks.scale import Scale

_ROOMS = {
    "one": one_partition.run,
    "large": large_fleet.run,
    "queries": queries.run,
    "http": http.run,
    "metrics": metrics.run,
    "readiness": readiness.run,
    "rollouts": rollouts.run,
    "archive": archive.run,
    "audit": audit.run,
    "explain": explain.run,
    "history": history.run,
    "replay": replay.run,
    "preview": preview.run,
}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description="Measure twinfold on this machine, on a real Redis.")
    parser.add_argument("--devices", type=int, default=1_000_000, help="devices of the large fleet")
    parser.add_argument("--deployments", type=int, default=1_000, help="deployments of the fleets")
    parser.add_argument(
        "--only",
        choices=sorted(_ROOMS),
        help="the rows of a part alone",
    )
    parser.add_argument("--json", action="store_true", help="one JSON array instead of a table")
    given = parser.parse_args()
    scale = Scale(
        devices=given.devices,
        deployments=given.deployments,
        partition_devices=max(100, given.devices // 16),
        events=min(100_000, max(1000, given.devices // 10)),
        probes=min(500, max(20, given.devices // 100)),
    )
    figures = [figure for name in _ROOMS if given.only in (None, name) for figure in _ROOMS[name](scale)]
    if given.json:
        print(msgspec.json.encode(figures).decode())
    else:
        show(figures)


if __name__ == "__main__":
    main()
