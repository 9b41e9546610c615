"""What a check of manifests costs whoever waits for it: the program's start, and a manifest of fifty modules."""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from events.readiness.check import check
from events.readiness.profile import PRODUCTION
from events.readiness.subject import Subject, read_document
from tests.benchmarks.measuring import Figure, at_most, seconds_of
from tests.benchmarks.scale import Scale, say
from tests.manifest import contents

MODULES = 50
ROUNDS = 15


def run(_scale: Scale) -> Iterator[Figure]:
    """Check a manifest of one module and one of fifty, in turns, each in a process of its own."""
    say(f"readiness: {ROUNDS} rounds")
    with tempfile.TemporaryDirectory() as directory:
        small, large = (_file(Path(directory), modules) for modules in (1, MODULES))
        bare, one, fifty = [], [], []
        for _ in range(ROUNDS):
            bare.append(_run("--version"))
            one.append(_run("check", str(small)))
            fifty.append(_run("check", str(large)))
    beyond = [(more[0] - less[0], more[1] - less[1]) for less, more in zip(one, fifty, strict=True)]
    version, _ = _median(bare)
    for what, these, aim in (("one module: start to end", one, 400), (f"{MODULES} modules instead of one", beyond, 50)):
        wall, processor = _median(these)
        beside = f"{processor:.0f} ms of the processor; twinfold --version {version:.0f} ms"
        yield at_most(f"twinfold check, {what}", f"median of {ROUNDS}", wall, "ms", aim=aim, beside=beside)
    document = _manifest(MODULES)
    findings = len(_check(document))
    pure = [1000 * seconds_of(lambda: _check(document)) for _ in range(ROUNDS)]
    yield at_most(
        f"the check of {MODULES} modules alone",
        "in a process that goes on",
        statistics.median(pure),
        "ms",
        aim=50,
        beside=f"{findings} findings",
    )


def _median(runs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    walls, processors = zip(*runs, strict=True)
    return 1000 * statistics.median(walls), 1000 * statistics.median(processors)


def _check(document: Any) -> Any:
    return check(Subject((read_document(document, name="x"),)), PRODUCTION, now=0).findings


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
