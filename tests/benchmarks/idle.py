"""The rows of a `twinfold up` that has nothing to do: its processor time and memory, with deployments and with waiting rollouts."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec

from events.settings import read_settings
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, at_most
from tests.benchmarks.scale import Scale, print_lines
from tests.cli.running import up
from tests.process_tree import command_of, descendants
from tests.servers import eventually

DEVICES, DEPLOYMENTS, ROLLOUTS = 50, 100, 100
SECONDS = 20.0
"""How long an idle system is measured; the kernel counts processor time in steps of 10 ms, 0.05 % of that."""
SETTLE_SECONDS = 8.0
"""Wake-ups of the last writes, samples of the counts and the like are over by then."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENT = {"percent": 50, "gate": {"successPercent": 100, "soakSeconds": 7 * 86_400}}
_ROLLOUT = {"phases": [_PATIENT, {"percent": 100}], "failure": {"percent": 100}}


class Usage(msgspec.Struct, frozen=True):
    """The processor time in seconds of each process with its ended children, and their proportional memory in MB."""

    seconds: dict[int, float]
    megabytes: dict[int, float]

    @property
    def total_seconds(self) -> float:
        """The processor time of all processes."""
        return sum(self.seconds.values())


def run(_scale: Scale) -> Iterator[Figure]:
    """Start everything on one machine, and measure it while nothing happens."""
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        workers = str(read_settings().workers)
        with up(Path(directory) / "data", "--workers", workers) as (process, http, _):
            yield _idle(process.pid, f"nothing in it, {workers} workers", aim=1)
            for number in range(DEVICES):
                http.put(f"/devices/e{number}", json={"deviceId": f"e{number}", "capabilities": {"iotEdge": True}})
            for number in range(DEPLOYMENTS):
                _deploy(http, f"fixed-{number}", number)
            yield _idle(process.pid, f"{DEVICES} devices, {DEPLOYMENTS} deployments", aim=2)
            yield _started(process.pid, http)
            yield _idle(process.pid, f"and {ROLLOUTS} running rollouts", aim=5)
            yield at_most("memory of all processes", "at the end", _megabytes(process.pid), "MB", aim=300)


def _deploy(http: httpx.Client, name: str, priority: int, **members: Any) -> None:
    content = fleets.content(name, layered=True)
    body = {"content": content, "targetCondition": "*", "priority": priority, **members}
    http.post(f"/v1/deployments/{name}", json=body).raise_for_status()


def _started(pid: int, http: httpx.Client) -> Figure:
    """What it takes to create rollouts and to start them, until the scheduler has opened their first phase."""
    before, began = usage(pid), time.monotonic()
    for number in range(ROLLOUTS):
        name = f"rolling-{number}"
        _deploy(http, name, 1000 + number, rollout=_ROLLOUT)
        http.post(f"/v1/deployments/{name}/rollout/start").raise_for_status()
    seconds = time.monotonic() - began
    _settle(pid)
    used = {process: after - before.seconds.get(process, 0.0) for process, after in usage(pid).seconds.items()}
    # Asked only now: each answer judges all rollouts, and would be most of what is measured.
    assert {line["phase"] for line in http.get("/v1/rollouts").json()} == {1}
    return at_most(
        "rollouts created and started",
        f"{ROLLOUTS} rollouts",
        sum(used.values()),
        "s of processor time",
        aim=5,
        beside=f"{seconds:.1f} s by the clock; {_by_name(used, 's')}",
    )


def _idle(pid: int, setting: str, *, aim: float) -> Figure:
    _settle(pid)
    print_lines(f"idle: {setting}")
    before = usage(pid)
    time.sleep(SECONDS)
    after = usage(pid)
    shares = {
        process: 100 * (used - before.seconds.get(process, 0.0)) / SECONDS for process, used in after.seconds.items()
    }
    beside = f"{_by_name(shares, '%')}; {sum(after.megabytes.values()):.0f} MB: {_by_name(after.megabytes, 'MB')}"
    return at_most("idle", setting, sum(shares.values()), "% of a core", aim=aim, beside=beside)


def _settle(pid: int) -> None:
    """Wait until all processes together have used little processor time for a while."""

    def is_quiet() -> bool:
        before = usage(pid).total_seconds
        time.sleep(SETTLE_SECONDS / 4)
        return usage(pid).total_seconds - before < SETTLE_SECONDS / 4

    eventually(is_quiet, what="the processes settle")
    time.sleep(SETTLE_SECONDS)


def _megabytes(pid: int) -> float:
    return sum(usage(pid).megabytes.values())


def usage(pid: int) -> Usage:
    """The resources of a process and of all that it has started."""
    seconds, megabytes = {}, {}
    for process in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            seconds[process] = sum(map(int, fields[11:15])) / _TICKS
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            megabytes[process] = next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return Usage(seconds, megabytes)


def _by_name(values: dict[int, float], unit: str) -> str:
    totals: dict[str, float] = {}
    for process, value in values.items():
        name = _name_of(process)
        totals[name] = totals.get(name, 0.0) + value
    return ", ".join(f"{name} {value:.1f} {unit}" for name, value in totals.items())


def _name_of(pid: int) -> str:
    for part in ("services.api", "services.scheduler", "workers.pool", "services.cli", "-server", "-m\0workers"):
        if part in command_of(pid):
            return part.rpartition(".")[2].rpartition("\0")[2].strip("-") if part != "services.cli" else "up"
    return "other"
