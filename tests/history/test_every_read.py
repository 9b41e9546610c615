"""What is answered for a moment of the past is what was answered then: every read, whole bodies."""

import datetime as dt
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from events import (
    CreateDeployment,
    CreateModule,
    DeleteDeployment,
    PatchTags,
    PatchTwin,
    RegisterDevice,
    ReportProperties,
    RetireDevice,
    UpdateDeployment,
    UpdateDevice,
)
from events.deployment.events import NotStarted
from events.device.commands import SetConfiguration
from events.history.log_at import PastDocuments
from events.history.snapshot_taker import SnapshotTaker
from events.history.snapshots import Snapshots
from events.log.archive.mover import Mover
from events.log.events import LogInitialised
from events.log.keys import FLEET, key
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from events.projection_store.archived_assignments import AssignmentChangeKeeper
from events.readiness.commands import GrantWaiver, WithdrawWaiver
from events.rollout.commands import CreateRollout, StartRollout
from events.rollout.plan import Gate, Phase, RolloutPlan
from events.update.commands import CancelUpdateDeployment, DefineGroup, DeployUpdate, ImportUpdate
from events.update.names import UpdateId
from events.webhook.commands import DefineWebhook, PauseWebhook
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.history.past_reads import Answered, look, paths, vector
from tests.shortening import shortened
from tests.workers.system import System, answer, base, deploy, fresh_system, join, layer

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

CAMERA = UpdateId("contoso", "camera", "1.0")


def chapters(system: System) -> Iterator[None]:
    """A story in which everything happens that reads tell of; each part ends at a quiet moment."""
    system.do(*join("a", site="north", floor=1), *join("b", site="south"), *join("c", site="north", ADUGroup="north"))
    yield
    system.do(
        deploy("base", base("temp"), "tags.site = 'north'", 1),
        deploy("extra", layer("extra", interval=5), "tags.floor = 1", 5),
        CreateModule("a", "byhand"),
        GrantWaiver("w1", "privileged", "so be it", dt.date(2036, 1, 1)),
        DefineWebhook("siem", "https://h.example/", {"$secret": "0"}, devices=("a",)),
    )
    yield
    system.do(answer(system, "a", temp="running", extra="running"), answer(system, "c", code=500))
    system.do(PatchTags("b", {"site": "north"}), PatchTwin("a", desired={"x": {"y": 1}}))
    system.do(ReportProperties("b", {"os": {"name": "linux"}, "n": 3}), *join("gone", site="north"))
    yield
    # A path is named that nothing had indexed; the reports came before.
    system.do(deploy("later", base("late"), "properties.reported.os.name = 'linux'", 9))
    system.do(UpdateDeployment("extra", "tags.floor = 2", labels={"team": "x"}), RetireDevice("gone"))
    system.do(PatchTwin("a", "byhand", desired={"k": 1}), ReportProperties("a", {"v": 1}, module_id="byhand"))
    yield
    plan = RolloutPlan((Phase(percent=50.0, gate=Gate(success_percent=50)), Phase(percent=100.0, approval=True)))
    system.do(deploy("phased", base("phased"), "tags.site = 'north'", 20))
    system.do(DeleteDeployment("phased"))
    system.do(CreateDeployment("phased", base("p"), "tags.site = 'north'", 20, admission=NotStarted()))
    system.do(CreateRollout("phased", plan), RegisterDevice("gone"), PatchTags("gone", {"site": "north"}))
    system.do(SetConfiguration("b", base("hand")), StartRollout("phased"))
    yield
    system.do(ImportUpdate(CAMERA, base("camera"), ({"deviceType": "x"},)), DefineGroup("mine", "tags.floor = 1", 3))
    system.do(DeployUpdate("north", "one", CAMERA))
    system.do(PauseWebhook("siem", "lunch"), WithdrawWaiver("w1"), UpdateDevice("c", enabled=False))
    yield
    system.do(*join("d", floor=1, ADUGroup="north"), PatchTags("a", {"site": "south", "floor": None}))
    system.do(CancelUpdateDeployment("north", "one", "enough"), DeleteDeployment("base"))
    yield


def archive_all(system: System, location: str) -> None:
    """Move all entries but the newest of each stream to the archive, although a paused webhook has not received them."""
    initialisation = LogInitialised(system.log.epoch, system.log.partitions)
    keeper = AssignmentChangeKeeper(system.log.client, system.projections)
    moving = Mover(system.log.client, ObjectStore(location), initialisation=initialisation, keepers=(keeper.keep,))
    moving.settle()
    for stream in moving.streams:
        moving.write(stream, overdue_at=2**53)
        moving.trim(stream, before_at=2**53)
    assert system.log.client.xlen(key(FLEET, "log")) == 1


@pytest.fixture(scope="module")
def recording(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("history")
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        api(system, TWINFOLD_DATA_DIR=str(directory)) as http,
    ):
        asked = [*paths(http.get("/openapi.json").json())]
        snapshots = Snapshots(
            ObjectStore(str(directory / "archive")), RawStreams(system.log.client), epoch=system.log.epoch
        )
        documents = PastDocuments(system.log, RawStreams(system.log.client), snapshots)
        taking = SnapshotTaker(system.log, system.projections, snapshots, documents, every_events=1)
        recorded: list[tuple[str, dict[str, Answered]]] = []
        for number, _ in enumerate(chapters(system)):
            system.settle()
            recorded.append(quiet_moment(system, http, asked))
            if number % 2:
                for partition in taking.due():
                    assert taking.take(partition) is not None
        yield http, asked, recorded, directory, system


def quiet_moment(system: System, http: Any, asked: list[str]) -> tuple[str, dict[str, Answered]]:
    """The vector of a moment, and what each read answers then: again if a sample was taken between the two."""
    series = [path for path in asked if path.endswith("/series")]
    while True:
        before = look(http, series)
        now = time.time_ns() // 1_000_000
        answers = look(http, asked)
        if all(answers[path] == answer for path, answer in before.items()):
            return vector(system, now), answers


def differences(now: dict[str, Answered], then: dict[str, Answered]) -> list[Any]:
    return [(path, then[path], now[path]) for path in then if now[path] != then[path]]


@pytest.mark.parametrize("snapshots", shortened(["from snapshots", "from the events alone", "from the archive"]))
def test_every_read_at_a_recorded_point_in_time_is_what_it_was_then(recording: Any, snapshots: str) -> None:
    http, asked, recorded, directory, system = recording
    if snapshots == "from the events alone":
        shutil.rmtree(directory / "archive")
    elif snapshots == "from the archive":
        archive_all(system, str(directory / "archive"))
    differences_by_time = {
        point_in_time: differences(look(http, asked, at=point_in_time), then) for point_in_time, then in recorded
    }
    assert not {point_in_time: different for point_in_time, different in differences_by_time.items() if different}
