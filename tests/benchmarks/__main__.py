"""`python -m tests.benchmarks [--devices N] [--deployments N] [--json]`."""

import argparse

import msgspec

from events.garbage_collection import rare_collection
from tests.benchmarks import (
    archive,
    audit,
    beside,
    clusters,
    compare,
    explain,
    history,
    http,
    idle,
    large_fleet,
    metrics,
    one_partition,
    preview,
    queries,
    readiness,
    replay,
    rollouts,
    ten_million,
)
from tests.benchmarks.measuring import show
from tests.benchmarks.scale import Scale

_PARTS = {
    "one": one_partition.run,
    "large": large_fleet.run,
    "workers": large_fleet.run_small,
    "queries": queries.run,
    "http": http.run,
    "beside": beside.run,
    "idle": idle.run,
    "metrics": metrics.run,
    "readiness": readiness.run,
    "rollouts": rollouts.run,
    "archive": archive.run,
    "audit": audit.run,
    "explain": explain.run,
    "history": history.run,
    "replay": replay.run,
    "preview": preview.run,
    "cluster": clusters.run,
}
# What takes hours, or needs more than the package has: only when it is named.
_ALONE = {"compare": compare.run, "ten_million": ten_million.run}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description="Measure twinfold on this machine, on a real Redis.")
    parser.add_argument("--devices", type=int, help="devices of the large fleet; the default is 1,000,000")
    parser.add_argument("--deployments", type=int, default=1_000, help="deployments of the fleets")
    parser.add_argument("--only", choices=sorted([*_PARTS, *_ALONE]), help="the rows of a part alone")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of a table")
    arguments = parser.parse_args()
    devices = arguments.devices or (ten_million.DEVICES if arguments.only == "ten_million" else 1_000_000)
    parts = {arguments.only: {**_PARTS, **_ALONE}[arguments.only]} if arguments.only else _PARTS
    scale = Scale(
        devices=devices,
        deployments=arguments.deployments,
        partition_devices=max(100, devices // 16),
        events=min(100_000, max(1000, devices // 10)),
        probes=min(500, max(20, devices // 100)),
    )
    # As the processes of workers and the API do. A full collection takes as long as applying 5,000 events (50 to 66 ms); with
    # Python's own thresholds one fell into one half of a ratio or the other, and the ratio was anything from 0.1 to 1.8.
    with rare_collection():
        figures = [figure for part in parts.values() for figure in part(scale)]
    if arguments.json:
        print(msgspec.json.encode(figures).decode())
    else:
        show(figures)


if __name__ == "__main__":
    main()
