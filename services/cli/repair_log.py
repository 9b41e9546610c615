"""`twinfold repair-log`: cuts a damaged append-only file of the embedded Redis at the damage."""

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from events.number_text import counted
from events.settings import read_settings
from events.terminal import print_lines
from services.append_only_file import Damage, LogFileDamaged, commands, cut, files, find_damage
from services.cli.commands import command, flag
from services.cli.flags import DataDir
from services.local_api import NotServed
from services.up.directory import held

_EVENTS_SHOWN_MAX = 20


@command(example="repair-log --data ./twinfold-data")
def repair_log(*, data: DataDir = None, yes: Annotated[bool, flag("Do not ask.", "--yes")] = False) -> None:
    """Show where the file of the embedded Redis is damaged and what follows the damage, and cut it there after you confirm.

    The part that is cut off is saved in another file. A backup that has all events is better: see `twinfold restore`.
    """
    from services.embedded_redis import FOLDER, find_server, server_log

    settings = read_settings(data_dir=data)
    directory = settings.data_dir / FOLDER
    if not files(directory):
        raise NotServed(settings.data_dir)
    # Held, because a running `up` would append to the file that is being cut.
    with held(settings.data_dir):
        server = find_server(settings.redis_server)
        damage = find_damage(server, directory, server_log=server_log(directory))
        if damage is None:
            print_lines(f"no damage in {', '.join(str(path) for path in files(directory))}")
            return
        if not damage.can_be_cut:
            raise LogFileDamaged(damage)
        print_lines(*_described(damage))
        cut_off_path = damage.path.with_name(f"{damage.path.name}.cut-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        if not yes:
            typer.confirm(f"Cut the file at byte {damage.position}? The rest is saved in {cut_off_path}.", abort=True)
        cut(damage, into=cut_off_path)
        # The server checks the result: the part before the cut may be damaged as well.
        remaining = find_damage(server, directory)
        if remaining is not None:
            raise LogFileDamaged(remaining)
    print_lines(
        f"{damage.path} is cut at byte {damage.position}; the rest is saved in {cut_off_path}",
        "start `twinfold up`, then check the log with `twinfold replay` and `twinfold audit verify`",
    )


def _described(damage: Damage) -> Iterator[str]:
    assert damage.position is not None
    events, command_count = list[str](), 0
    for behind in commands(damage.path, damage.position):
        command_count += 1
        if (event := behind.event) is not None:
            events.append(event)
    yield f"{damage.path} is damaged at byte {damage.position} of {damage.size}: {damage.why}"
    size = counted(damage.size - damage.position, "byte")
    yield (
        f"cutting it there removes {size}, with {counted(command_count, 'whole command')} and"
        f" {counted(len(events), 'whole event')}"
    )
    yield from (f"  {event}" for event in events[:_EVENTS_SHOWN_MAX])
    if len(events) > _EVENTS_SHOWN_MAX:
        yield f"  … and {len(events) - _EVENTS_SHOWN_MAX} more"
