"""`twinfold replay` and `rebuild`: replay the history, to compare it with what is stored or to replace projections."""

from typing import Annotated

import msgspec
import typer

from events.log.keys import FLEET, name
from services.cli.client import AsJson
from services.cli.commands import command, flag
from services.cli.flags import LogSettings, point_in_time
from services.cli.roles import become

Partition = Annotated[list[str] | None, flag("A stream: fleet, p00, p01, …; can be repeated. The default is all.")]
Workers = Annotated[int | None, flag("Number of processes. The default is one for each processor.", min=1, max=64)]


@command(example="replay --workers 4")
def replay(
    *,
    partition: Partition = None,
    upto: Annotated[
        str | None, flag("Stop there: a time, as in 2026-01-31T12:00:00Z, or positions, as in fleet:17,p03:120.")
    ] = None,
    workers: Workers = None,
    archive: Annotated[str | None, flag("Replay an archive alone: a directory, or a URL that fsspec supports.")] = None,
    json: AsJson = False,
    settings: LogSettings,
) -> None:
    """Replay the log and compare every assignment change, projection, twin and document with what is stored, bit for bit.

    Exits with 0 if nothing differs, 1 if something differs, 2 if the comparison is impossible.
    """
    request = {
        "streams": [_stream_number(text) for text in partition or []],
        **({} if upto is None else _end(upto)),
        "archive": archive or "",
        "workers": workers or 0,
        "json": json,
    }
    become("workers.replay", settings, msgspec.json.encode(request).decode())


@command(example="rebuild --partition p03")
def rebuild(
    *,
    partition: Annotated[list[str] | None, flag("p00, p01, …; can be repeated. The default is all.")] = None,
    workers: Workers = None,
    json: AsJson = False,
    settings: LogSettings,
) -> None:
    """Compute the projections anew from the log and replace the stored ones, while the system runs.

    Exits with 0 if all are replaced, 2 if a partition could not be rebuilt; its projections then stay as they were.
    """
    streams = [_stream_number(text) for text in partition or []]
    if FLEET in streams:
        raise typer.BadParameter(
            "the fleet's stream has no projections; name a partition, as in p03", param_hint="--partition"
        )
    request = {"streams": streams, "workers": workers or 0, "json": json, "rebuild": True}
    become("workers.replay", settings, msgspec.json.encode(request).decode())


def _stream_number(text: str) -> int:
    """The number of a stream from its name: the fleet's or a partition's.

    Raises:
        typer.BadParameter: there is no such stream, or it is one of assignment changes.
    """
    from events.log.entries import number_of

    try:
        number = number_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if ":" in text:
        raise typer.BadParameter(f"{text}: name the partition instead; its assignment changes are compared with it")
    return number


def _end(text: str) -> dict[str, object]:
    """The members of the request for `--upto`: the last position of each stream, or a time."""
    # A time has colons too, so it is tried when the text is no list of positions.
    try:
        positions = {}
        for part in text.split(","):
            stream, _, position = part.rpartition(":")
            positions[str(_stream_number(stream.strip()))] = int(position)
    except (ValueError, typer.BadParameter):
        try:
            return {"until": point_in_time(text)}
        except typer.BadParameter:
            raise typer.BadParameter(
                f"{text!r} is neither a time, as in 2026-01-31T12:00:00Z,"
                f" nor positions, as in {name(FLEET)}:17,{name(3)}:120"
            ) from None
    return {"upto": positions}
