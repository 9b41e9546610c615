"""Producers that write only what was shown, while somebody else writes on the same."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from events import PatchTags, RegisterDevice, RetireDevice
from events.device.errors import DeviceExists, DeviceNotFound
from events.device.tags import personal_paths
from events.log.keys import partition_of
from events.preview.errors import PreviewBehind, PreviewDiffers
from events.preview.previewer import Previewer, Trial
from events.producer.errors import Command
from events.producer.producer import Producer
from events.projection_store.query_engine import QueryEngine
from events.secrets.personal import Personal
from events.settings import read_settings
from services.api.context.callers import Author, PreviewRequest
from services.api.context.dry_run import DryRuns, PreviewCheck
from services.api.http.continuation_tokens import Continuations
from services.embedded_redis import EmbeddedRedis
from tests.preview.test_stories import BY, PARTITIONS, Stand
from tests.producer.logs import RacingLog, producer

pytestmark = pytest.mark.redis_server

ONE, OTHER = (
    next(name for name in map("d{}".format, itertools.count()) if partition_of(name, PARTITIONS) == number)
    for number in range(PARTITIONS)
)
TAGS = tuple(PatchTags(name, {"a": 1}) for name in (ONE, OTHER))


@pytest.fixture
def continuations(shared_redis: EmbeddedRedis) -> Iterator[Continuations]:
    with Redis.from_url(shared_redis.url) as client:
        yield Continuations(client)


def looking_at(stand: Stand, continuations: Continuations, **how: Any) -> DryRuns:
    previewer = Previewer(stand.log, stand.projections, **{"clock": lambda: 0, "pause": lambda _: None, **how})
    query_engine = QueryEngine(stand.log, stand.projections)
    return DryRuns(
        previewer,
        query_engine,
        continuations,
        read_settings(),
        log=stand.log,
        readiness_policy=None,
        clock=lambda: 1000,
    )


def glanced(dry_runs: DryRuns, *commands: Command) -> Trial:
    """Commands decided by somebody who looks, and has not looked yet at what follows."""
    trial = dry_runs.trial(Author(BY))
    trial.producer.submit(commands).raise_if_refused()
    return trial


def token_of(dry_runs: DryRuns, *commands: Command) -> str:
    return dry_runs.preview(Author(BY), glanced(dry_runs, *commands), commands).token


def held_to(dry_runs: DryRuns, token: str, *commands: Command) -> Producer:
    author = Author(BY, None, PreviewRequest(is_dry_run=False, token=token, page=None))
    preview_check = PreviewCheck(dry_runs, author, lambda command: command)
    preview_check.check(commands)
    mine: Producer = producer(
        dry_runs.log,
        take_secrets=preview_check.take_out,
        before_append=lambda proposed: preview_check.check_batch(proposed, written=mine.written),
    )
    return mine


def racing(continuations: Continuations) -> tuple[RacingLog, Stand, Producer]:
    """A log on which others come in between, and a producer held to a preview of `TAGS`."""
    log = RacingLog(partitions=PARTITIONS)
    stand = Stand(RegisterDevice(ONE), RegisterDevice(OTHER), log=log)
    dry_runs = looking_at(stand, continuations)
    return log, stand, held_to(dry_runs, token_of(dry_runs, *TAGS), *TAGS)


def test_once_some_is_written_the_rest_is_kept_out_where_others_wrote_and_the_error_says_so(
    continuations: Continuations,
) -> None:
    log, stand, mine = racing(continuations)
    log.rivals.append(lambda: stand.do(PatchTags(OTHER, {"b": 2})))
    with pytest.raises(PreviewDiffers) as raised:
        mine.submit(TAGS)
    assert str(raised.value).startswith("only 1 event written, ")
    assert f"another author wrote on {OTHER} meanwhile" in str(raised.value)
    assert mine.written == raised.value.written == 1
    (one, other) = log.load([ONE, OTHER])
    assert (one.head.version, other.head.version) == (2, 2)


def test_while_nothing_is_written_it_is_looked_at_again_and_done_if_the_same_follows(
    continuations: Continuations,
) -> None:
    log, stand, mine = racing(continuations)
    log.rivals.append(lambda: stand.do(*(PatchTags(name, {"b": 2}) for name in (ONE, OTHER))))
    assert mine.submit(TAGS).written == 2
    assert mine.conflicts == 1


def test_personal_values_are_taken_out_of_what_is_shown_as_of_what_is_written(continuations: Continuations) -> None:
    stand = Stand(RegisterDevice(ONE))
    dry_runs = looking_at(stand, continuations, personal=Personal(personal_paths("owner")))
    command = PatchTags(ONE, {"owner": "Ada"})
    preview = dry_runs.preview(Author(BY), glanced(dry_runs, command), (command,))
    assert "Ada" not in str(preview.events.of(0))
    held_to(dry_runs, preview.token, command)


# -- others register and retire what is looked at


def test_a_look_that_others_overtake_is_decided_once_more_as_it_stands_then(continuations: Continuations) -> None:
    stand = Stand(RegisterDevice(ONE))
    dry_runs = looking_at(stand, continuations)
    comes, goes = RegisterDevice(OTHER), PatchTags(ONE, {"a": 1})
    single, several = glanced(dry_runs, comes), glanced(dry_runs, comes, goes)
    stand.do(comes)
    with pytest.raises(DeviceExists):
        dry_runs.preview(Author(BY), single, (comes,))
    shown = dry_runs.preview(Author(BY), several, (comes, goes), ())
    assert [refused.index for refused in shown.refused] == [0]
    assert [str(refused.error) for refused in shown.refused] == [str(DeviceExists(OTHER))]
    assert not shown.result.count("registered")


def test_what_is_held_to_a_token_and_overtaken_is_decided_once_more_and_twice_says_to_try_again(
    continuations: Continuations,
) -> None:
    stand = Stand(RegisterDevice(ONE))
    races: list[Callable[[], object]] = []
    dry_runs = looking_at(stand, continuations, pause=lambda _: races.pop(0)())
    new = next(name for name in map("n{}".format, itertools.count()) if partition_of(name, PARTITIONS) == 0)
    commands = (PatchTags(ONE, {"a": 1}), RegisterDevice(new))
    token = token_of(dry_runs, *commands)

    def unseen() -> None:
        # With an event that workers have not come to a look waits, and others get in.
        stand.producer.do(PatchTags(ONE, {"b": len(races)}))

    def comes() -> None:
        stand.do(RegisterDevice(new))
        unseen()

    unseen()
    races += [comes, lambda: stand.do(RetireDevice(ONE))]
    with pytest.raises(PreviewBehind, match="another write changed the same subjects; try again"):
        held_to(dry_runs, token, *commands)
    assert not races
    # With everything seen it is as any other: what was shown does not happen any more.
    mine = held_to(dry_runs, token, *commands)
    assert [type(one.error) for one in mine.submit(commands).refused] == [DeviceNotFound, DeviceExists]
