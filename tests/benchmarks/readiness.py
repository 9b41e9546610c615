"""What a check of manifests costs whoever waits for it: the program's start, and a manifest of fifty modules."""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from events.manifest.routes import parse_route
from events.readiness.check import check
from events.readiness.profile import PRODUCTION
from events.readiness.subject import ReadinessSubject, read_document
from tests.benchmarks.measuring import Figure, at_most, seconds_of
from tests.benchmarks.scale import Scale, print_lines
from tests.manifest import contents

MODULES = 50
ROUNDS = 15


def run(_scale: Scale) -> Iterator[Figure]:
    """Check a manifest of one module and one of fifty, in turns, each in a process of its own."""
    print_lines(f"readiness: {ROUNDS} rounds")
    with tempfile.TemporaryDirectory() as directory:
        small, large = (_file(Path(directory), modules) for modules in (1, MODULES))
        bare, one, fifty = [], [], []
        for _ in range(ROUNDS):
            bare.append(_run("--version"))
            one.append(_run("check", str(small)))
            fifty.append(_run("check", str(large)))
    version, first, whole = (_milliseconds(runs) for runs in (bare, one, fifty))
    for what, wall, processor, aim in (
        ("one module: start to end", first[0], first[1], 400),
        (f"{MODULES} modules instead of one", whole[0] - first[0], whole[1] - first[1], 50),
    ):
        beside = f"{processor:.0f} ms of the processor; twinfold --version {version[0]:.0f} ms"
        yield at_most(f"twinfold check, {what}", f"fastest of {ROUNDS}", wall, "ms", aim=aim, beside=beside)
    document = _manifest(MODULES)
    findings = len(_check(document))
    pure = [1000 * seconds_of(lambda: _check(document)) for _ in range(ROUNDS)]
    yield at_most(
        f"the check of {MODULES} modules alone",
        f"fastest of {ROUNDS}, in a process that goes on",
        min(pure),
        "ms",
        aim=50,
        beside=f"{findings} findings",
    )


def _milliseconds(runs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    # The fastest: whatever else the machine does only adds to it.
    walls, processors = zip(*runs, strict=True)
    return 1000 * min(walls), 1000 * min(processors)


def _check(document: Any) -> Any:
    # Routes that were read before are known; here they are new each time.
    parse_route.cache_clear()
    return check(ReadinessSubject((read_document(document, name="x"),)), PRODUCTION, now=0).findings


def _run(*words: str) -> tuple[float, float]:
    """Seconds of the wall clock, and of processors."""
    command = [sys.executable, "-m", "services.cli", *words]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = seconds_of(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=False))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _file(directory: Path, modules: int) -> Path:
    path = directory / f"{modules}.json"
    path.write_text(json.dumps(_manifest(modules), indent=2))
    return path


def _manifest(modules: int) -> dict[str, Any]:
    """Modules with variables, ports and binds, and a route with a condition for each."""
    host_config = {"Binds": ["data:/data"], "Memory": 10_000_000, "LogConfig": {"Type": "local"}}
    options = json.dumps({"HostConfig": host_config, "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"]})
    made = {
        f"module{number}": contents.module(
            f"registry.example.com/module:1.{number}.0",
            env={f"VARIABLE_{name}": {"value": "x" * 20} for name in range(4)},
            settings={"image": f"registry.example.com/module:1.{number}.0", "createOptions": options},
        )
        for number in range(modules)
    }
    routes = {
        name: f"FROM /messages/modules/{name}/outputs/* WHERE temperature > {number} INTO $upstream"
        for number, name in enumerate(made)
    }
    return contents.content(agent=contents.agent(modules=made), hub=contents.hub(routes=routes))
