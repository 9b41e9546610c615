"""`twinfold document`: what the log has of a device, a module, or a subject of the fleet's stream, without replaying events."""

import contextlib
from typing import Annotated

import msgspec
import typer

from events.canonical import Json
from events.secrets.references import mask
from services.cli.client import show_json
from services.cli.commands import argument, command, flag
from services.cli.exits import REFUSED
from services.cli.flags import LogSettings


@command(example="document 'edge-1/$edgeAgent'")
def document(
    subjects: Annotated[
        list[str], argument("DEVICE or DEVICE/MODULE; with --fleet, DEPLOYMENT or rollout:DEPLOYMENT.")
    ],
    *,
    fleet: Annotated[bool, flag("Subjects of the fleet's stream.", "--fleet")] = False,
    settings: LogSettings,
) -> None:
    """Show stored documents, which are compressed in Redis, with their versions: JSON, by subject.

    Exits with 1 if a subject is unknown.
    """
    from events.log.log_factory import open_log

    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    with contextlib.closing(log.client):
        stored = log.load(subjects, fleet=fleet)
    show_json(
        {
            subject: {
                "version": entry.head.version,
                "generation": entry.head.generation,
                "document": None if entry.snapshot is None else _masked(entry.snapshot),
            }
            for subject, entry in zip(subjects, stored, strict=True)
        }
    )
    if any(entry.head.version == 0 for entry in stored):
        raise typer.Exit(REFUSED)


def _masked(snapshot: bytes) -> Json:
    try:
        return mask(msgspec.json.decode(snapshot))
    except msgspec.DecodeError as error:
        return f"damaged: {error}; see `twinfold blocked documents`"
