"""`twinfold blocked`: partitions that stopped at a fact, and the decision to go on without it."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from redis import Redis

from events.envelope import Principal
from events.log import keys
from events.log.opening import open_log
from events.log.wake import Waker
from events.producer.producer import Producer
from events.settings import read_settings
from events.view_store.fleet_view import FleetView
from events.view_store.redis import RedisViewStore
from services.cli.flags import AllowVolatileRedis, RedisUrl


def blocked(
    *,
    redis_url: RedisUrl = None,
    queue_url: Annotated[str | None, typer.Option(help="Where RQ's queue is; the same server if not given.")] = None,
    leave_out: Annotated[
        str | None, typer.Option(help="Go on without this fact, as in p03:17. It stays in the log, and so does this.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why it is left out; recorded in the log.")] = "",
    by: Annotated[str, typer.Option(help="Who decides, as in user:ada.")] = "user:operator",
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Show the partitions that are stopped at a fact they cannot fold; with --leave-out, let them go on without it.

    Example: twinfold blocked --leave-out p03:17 --reason "written by a faulty script"
    """
    settings = read_settings(redis_url=redis_url, queue_url=queue_url, allow_volatile_redis=allow_volatile_redis)
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    stopped = FleetView(RedisViewStore(log.client), partitions=log.partitions).blocked()
    places = {f"{keys.name(one.stream)}:{one.position}": one for one in stopped.values() if one.decidable}
    if leave_out is not None:
        if leave_out not in places:
            known = ", ".join(sorted(places)) or "nothing"
            raise typer.BadParameter(f"nobody is stopped at {leave_out}; stopped at: {known}")
        waker = Waker(Redis.from_url(settings.effective_queue_url), partitions=log.partitions)
        producer = Producer(log, by=Principal.parse(by), waker=waker)
        producer.leave_out(places[leave_out].stream, places[leave_out].position, reason=reason)
        typer.echo(f"{leave_out} is left out from now on")
        return
    for number, one in sorted(stopped.items()):
        since = datetime.fromtimestamp(one.at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        place = f"{keys.name(one.stream)}:{one.position}"
        hint = "" if one.decidable else " (restore the missing facts; it goes on by itself)"
        typer.echo(f"{keys.name(number)} stopped at {place} since {since}: {one.error}{hint}")
    if not stopped:
        typer.echo("no partition is stopped")
