"""`twinfold backtest`: what would have happened under other deployments, plans or rollback policies."""

import time
from typing import Annotated

import typer

from events.member_names import camel_json
from events.terminal import complain, print_lines
from services.backtest import STEP_SECONDS
from services.cli.client import AsJson, show_json
from services.cli.flags import AllowVolatileRedis, DataDir, RedisUrl, log_settings, point_in_time
from services.cli.inputs import read_json

_LINE_SECONDS = 5.0


def command(
    *,
    rollback_policy: Annotated[
        str | None, typer.Option(help="A JSON file: when rollouts have failed, and what they do then.")
    ] = None,
    rollout: Annotated[
        list[str] | None,
        typer.Option(help="A deployment whose rollout gets the policy; can be repeated. The default is all."),
    ] = None,
    plan: Annotated[
        list[str] | None, typer.Option(help="Another plan for a rollout, as NAME=FILE; can be repeated.")
    ] = None,
    deployment: Annotated[
        list[str] | None,
        typer.Option(help="A JSON file with a deployment. It replaces the one with its id, or is new."),
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="A deployment to remove; can be repeated.")] = None,
    until: Annotated[
        str | None, typer.Option(help="End of the history to run, as in 2026-01-31T12:00:00Z. The default is all.")
    ] = None,
    step: Annotated[
        int, typer.Option(min=1, max=3600, help="Seconds between two rounds of the scheduler.")
    ] = STEP_SECONDS,
    json: AsJson = False,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Run the recorded devices again in virtual time under changes, and show what would have been different.

    Nothing is written to the log.

    Example: twinfold backtest --rollback-policy policy.json --rollout camera-2
    """
    from events import logs
    from events.log.log_factory import open_log
    from events.projection_store.redis import RedisProjectionStore
    from services.backtest.changes import ChangeInvalid, Changes, deployment_of, plan_of, policy_of
    from services.backtest.run import backtest

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
    # The scheduler logs what it decides. In virtual time that would read like decisions of the running system.
    logs.configure("critical")
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    try:
        result = backtest(
            log, RedisProjectionStore(log.client), changes, until=end, step_seconds=step, tell=_ProgressLine()
        )
    except ChangeInvalid as error:
        raise typer.BadParameter(str(error)) from None
    if json:
        show_json(camel_json(result))
    else:
        print_lines(*result.as_text().splitlines())


def _pair(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=FILE", param_hint="--plan")
    return name, file


class _ProgressLine:
    """Writes a line about the progress to standard error, every 5 s."""

    def __init__(self) -> None:
        self._printed_at, self._first = time.monotonic(), 0

    def __call__(self, now: int, end: int) -> None:
        self._first = self._first or now
        if time.monotonic() - self._printed_at >= _LINE_SECONDS and end > self._first:
            self._printed_at = time.monotonic()
            complain(f"{100 * (now - self._first) / (end - self._first):.0f} % of the recorded time")
