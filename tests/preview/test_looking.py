"""Producers that write only what was shown, while somebody else writes on the same."""

import itertools
from collections.abc import Iterator

import pytest
from redis import Redis

from events import PatchTags, RegisterDevice
from events.log.keys import partition_of
from events.preview.errors import PreviewDiffers
from events.producer.errors import Command
from events.producer.producer import Producer
from events.settings import read_settings
from events.view_store.querying import Querying
from services.api.callers import Asked, Author
from services.api.continuations import Continuations
from services.api.previewing import Looking
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


def looking_at(stand: Stand, continuations: Continuations) -> Looking:
    querying = Querying(stand.log, stand.views)
    return Looking(
        stand.previewer, querying, continuations, read_settings(), log=stand.log, bar=None, clock=lambda: 1000
    )


def token_of(looking: Looking, *commands: Command) -> str:
    glance = looking.glance(Author(BY))
    Producer(glance.log, by=BY, clock=lambda: 1000, take_secrets=glance.take_out).submit(commands).raise_if_refused()
    return glance.preview(commands).token


def held_to(looking: Looking, token: str, *commands: Command) -> Producer:
    author = Author(BY, None, Asked(looks=False, token=token, page=None))
    guard = looking.guard(author, lambda command: command)
    guard.look(commands)
    mine: Producer = producer(
        looking.log,
        take_secrets=guard.take_out,
        guard=lambda proposed: guard(proposed, written=mine.written),
    )
    return mine


def test_once_some_is_written_the_rest_is_kept_out_where_others_wrote_and_the_error_says_so(
    continuations: Continuations,
) -> None:
    log = RacingLog(partitions=PARTITIONS)
    stand = Stand(RegisterDevice(ONE), RegisterDevice(OTHER), log=log)
    looking = looking_at(stand, continuations)
    mine = held_to(looking, token_of(looking, *TAGS), *TAGS)
    log.rivals.append(lambda: stand.do(PatchTags(OTHER, {"b": 2})))
    with pytest.raises(PreviewDiffers) as raised:
        mine.submit(TAGS)
    assert str(raised.value).startswith("1 fact is written and no more, ")
    assert f"somebody else wrote on {OTHER} meanwhile" in str(raised.value)
    assert mine.written == raised.value.written == 1
    (one, other) = log.load([ONE, OTHER])
    assert (one.head.version, other.head.version) == (2, 2)


def test_while_nothing_is_written_it_is_looked_at_again_and_done_if_the_same_follows(
    continuations: Continuations,
) -> None:
    log = RacingLog(partitions=PARTITIONS)
    stand = Stand(RegisterDevice(ONE), RegisterDevice(OTHER), log=log)
    looking = looking_at(stand, continuations)
    mine = held_to(looking, token_of(looking, *TAGS), *TAGS)
    log.rivals.append(lambda: stand.do(*(PatchTags(name, {"b": 2}) for name in (ONE, OTHER))))
    assert mine.submit(TAGS).written == 2
    assert mine.conflicts == 1
