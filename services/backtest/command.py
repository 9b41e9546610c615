"""`twinfold backtest`: what would have happened under other deployments, plans or rollback policies."""

import time
from typing import Annotated

import typer

from events import logs
from events.log.log_factory import open_log
from events.projection_store.redis import RedisProjectionStore
from events.terminal import complain, print_lines
from services.backtest.changes import ChangeInvalid, Changes, deployment_of, plan_of, policy_of
from services.backtest.run import STEP_SECONDS, backtest
from services.cli.client import AsJson, show_json
from services.cli.flags import AllowVolatileRedis, DataDir, RedisUrl, point_in_time
from services.cli.inputs import read_json
from services.cli.log_location import log_settings

_LINE_SECONDS = 5.0


def command(
    *,
    rollback_policy: Annotated[
        str | None, typer.Option(help="A file: when rollouts have failed, and what they do then.")
    ] = None,
    rollout: Annotated[
        list[str] | None, typer.Option(help="Whose rollout the policy is for; again for more. All if not given.")
    ] = None,
    plan: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE: another plan of a rollout; again for more.")
    ] = None,
    deployment: Annotated[
        list[str] | None, typer.Option(help="A file: a deployment in place of that of its id, or a new one.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="A deployment that is not there; again for more.")] = None,
    until: Annotated[str | None, typer.Option(help="Up to a time, as in 2026-01-31T12:00:00Z.")] = None,
    step: Annotated[
        int, typer.Option(min=1, max=3600, help="How often the scheduler looks, in seconds.")
    ] = STEP_SECONDS,
    json: AsJson = False,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Let the recorded devices go through it again in virtual time, and tell what would have been otherwise. Nothing is changed.

    Example: twinfold backtest --rollback-policy policy.json --rollout camera-2
    """
    try:
        changed = [deployment_of(read_json(file)) for file in deployment or []]
        changes = Changes(
            None if rollback_policy is None else policy_of(read_json(rollback_policy)),
            frozenset(rollout or ()),
            {name: plan_of(name, read_json(file)) for name, file in map(_pair, plan or [])},
            {deployed.command.deployment_id: deployed for deployed in changed},
            frozenset(without or ()),
        )
        end = None if until is None else point_in_time(until)
    except ChangeInvalid as error:
        raise typer.BadParameter(str(error)) from None
    settings = log_settings(data_dir=data, redis_url=redis_url, allow_volatile_redis=allow_volatile_redis)
    # What the scheduler decides in virtual time is no news of the system.
    logs.configure("critical")
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    try:
        result = backtest(log, RedisProjectionStore(log.client), changes, until=end, step_seconds=step, tell=_Line())
    except ChangeInvalid as error:
        raise typer.BadParameter(str(error)) from None
    if json:
        show_json(result.as_json())
    else:
        print_lines(*result.as_text().splitlines())


def _pair(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=FILE")
    return name, file


class _Line:
    """Says now and then how far the virtual time is."""

    def __init__(self) -> None:
        self._said, self._first = time.monotonic(), 0

    def __call__(self, now: int, end: int) -> None:
        self._first = self._first or now
        if time.monotonic() - self._said >= _LINE_SECONDS and end > self._first:
            self._said = time.monotonic()
            complain(f"{100 * (now - self._first) / (end - self._first):.0f} % of the time")
