"""`twinfold demo`: an edge fleet in half a minute, on a Redis and workers of its own; its processes and its screen."""

import contextlib
import copy
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from events.canonical import JsonObject
from events.rich_console import console
from events.settings import environment_of, read_settings

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from services.demo.story import FleetStatus, ShowStatus

WORKERS = 2
SIMULATORS = 2
_COLUMNS = ("target", "actual", "healthy", "unhealthy", "unknown")
_STOP_SECONDS_MAX = 10.0
_COLUMNS_OF_TEXT = 100


def demo(
    *,
    manifest: Annotated[
        Path | None, typer.Option(help="A deployment manifest of yours instead of the built-in one.")
    ] = None,
    layer: Annotated[Path | None, typer.Option(help="A layered manifest of yours instead of the built-in one.")] = None,
) -> None:
    """Show manifests reaching 1,000 simulated devices through a real Redis and real workers. All data is removed afterwards.

    Example: twinfold demo --manifest base.json
    """
    from events import open_producer
    from events.log.log_factory import open_log
    from events.projection_store.fleet_projection import FleetProjection
    from events.projection_store.redis import RedisProjectionStore
    from services.demo import manifests
    from services.demo.story import DEVICES, FleetStatus, Story
    from services.embedded_redis import EmbeddedRedis

    base = manifests.base("1.0.0") if manifest is None else manifests.read_manifest(manifest, layered=False)
    following = manifests.base("1.1.0") if manifest is None else _next_version(base)
    added = manifests.camera_layer() if layer is None else manifests.read_manifest(layer, layered=True)
    screen = console(width=_COLUMNS_OF_TEXT)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="twinfold-demo-") as name, _interruptible() as check_interrupt:
        directory = Path(name)
        screen.print(f"A Redis of its own (append-only file), {WORKERS} worker processes, {DEVICES} simulated devices.")
        with EmbeddedRedis(directory, server=read_settings().redis_server) as redis, _processes(redis.url, directory):
            log = open_log(redis.url)
            fleet_projection = FleetProjection(RedisProjectionStore(log.client), partitions=log.partitions)
            key_file = directory / "master.key"
            with open_producer(redis.url, by="user:demo", key_file=key_file) as producer, _screen(screen) as show:

                def show_status(step: str, status: FleetStatus) -> None:
                    check_interrupt()
                    show(step, status)

                story = Story(producer, fleet_projection, show_status)
                story.run(base, following, added)
            events = sum(log.heads().values())
            log.client.close()
    screen.print("\nWhat happened:\n")
    for sentence in story.sentences:
        screen.print(f" • {sentence}")
    screen.print(
        f"\n{events:,} events were appended and applied in {time.monotonic() - started:.0f} s. Every number above was read back"
        " from the projections of these events. Nothing of it is left on this machine."
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Let SIGTERM end the demo like Ctrl-C, so that it cleans up. Yields a function that raises if a signal was lost."""
    # Python drops exceptions that are raised in a destructor or a collector callback, a KeyboardInterrupt included.
    signals: list[int] = []

    def interrupt(signum: int, _frame: object) -> None:
        signals.append(signum)
        raise KeyboardInterrupt

    def check_interrupt() -> None:
        if signals:
            raise KeyboardInterrupt

    previous_handlers = {signum: signal.signal(signum, interrupt) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check_interrupt
    finally:
        for signum, handler in previous_handlers.items():
            signal.signal(signum, handler)


def _next_version(base: JsonObject) -> JsonObject:
    """The user's manifest with other module versions: the next version of the story."""
    following: JsonObject = copy.deepcopy(base)
    agent = following["modulesContent"]["$edgeAgent"]["properties.desired"]
    for module in (agent.get("modules") or {}).values():
        module["version"] = f"{module.get('version', '')}-next"
    return following


class ChildDied(Exception):
    """A process of the demo ended too early; the message has the last lines of its output."""

    def __init__(self, command: str, code: int, output: str) -> None:
        super().__init__(f"{command} ended with {code}: {output}")
        self.command, self.code = command, code


@contextlib.contextmanager
def _processes(url: str, directory: Path) -> Iterator[None]:
    """Make the log, and run workers and simulated devices on it until the end of the block; a file gets their output.

    Raises:
        ChildDied: a process ended too early.
    """
    from events.log.log_factory import initialise
    from events.processes.child import Child
    from services.demo.story import SILENT_DEVICE

    initialise(url).client.close()
    environment = environment_of(read_settings(redis_url=url, queue_url=url, workers=WORKERS))
    silent = ["--silent", SILENT_DEVICE]
    commands = [["workers.pool"]]
    commands += [["services.simulator", "--share", f"{n}/{SIMULATORS}", *silent] for n in range(SIMULATORS)]
    children: list[Child] = []
    output = directory / "processes.log"
    try:
        with output.open("wb") as file:
            children.extend(
                Child([sys.executable, "-m", *command], environment, stdout=file, stderr=file) for command in commands
            )
        yield
        for child, command in zip(children, commands, strict=True):
            if (code := child.process.poll()) is not None:
                raise ChildDied(command[0], code, " | ".join(output.read_text(errors="replace").splitlines()[-3:]))
    finally:
        # All are asked to end before the first is waited for, so that they end at the same time.
        for child in children:
            child.terminate()
        for child in children:
            child.end(_STOP_SECONDS_MAX)


@contextlib.contextmanager
def _screen(console: "Console") -> "Iterator[ShowStatus]":
    """Yield what shows a step and its status: a live table on a terminal; otherwise a table per step."""
    from rich.console import RenderableType
    from rich.live import Live

    from services.demo.story import FleetStatus

    if console.is_terminal:
        with Live(console=console, refresh_per_second=8) as live:
            yield lambda step, status: live.update(_table(step, status))
        return
    tables: dict[str, RenderableType] = {}

    def show(step: str, status: FleetStatus) -> None:
        if tables and step not in tables:
            console.print(tables.popitem()[1])
        tables[step] = _table(step, status)

    yield show
    for table in tables.values():
        console.print(table)


def _table(step: str, status: "FleetStatus") -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table("deployment", *_COLUMNS)
    for name, counts in sorted(status.items()):
        table.add_row(name, *(str(counts[column]) for column in _COLUMNS))
    return Group(Text(f"\n{step}", style="bold"), table)
