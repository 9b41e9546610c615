"""`twinfold explain`, as an operator reads it."""

import json
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest

from events import CreateDeployment, PatchTags, RegisterDevice
from services.cli.__main__ import main
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import served
from tests.workers.system import System, answer, base, layer

pytestmark = pytest.mark.redis_server

Run = Callable[..., str]


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as (system, http):
        system.do(
            RegisterDevice("edge-7"),
            PatchTags("edge-7", {"site": "south"}),
            CreateDeployment("base-2", base("cam"), "*", priority=10),
            CreateDeployment("gpu-layer", layer("cam", fps=3), "*", priority=20),
            CreateDeployment("prod-9", base("cam"), "tags.site = 'north' AND NOT tags.ring != 'late'", priority=30),
            CreateDeployment("old", base("cam"), "*", priority=3),
        )
        system.settle()
        system.do(answer(system, "edge-7", cam="running"))
        system.settle()
        yield system, http


@pytest.fixture
def twinfold(
    serving: tuple[System, httpx.Client], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    def run(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["twinfold", *words, "--api-url", str(serving[1].base_url)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        assert (left.value.code or 0) == code, said.err
        return said.out if code == 0 else said.err

    return run


def lines_of(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_the_answer_comes_first_and_each_deployment_has_its_reason(twinfold: Run) -> None:
    first, *rest = lines_of(twinfold("explain", "edge-7"))
    assert first.startswith("edge-7 runs base-2 + gpu-layer since 20")
    assert "; it does not get old: base-2 wins, with priority 10 over 3" in first
    assert [line for line in rest if line[:2] in {"+ ", "~ ", "- "}] == [
        "+ base-2 applies as the base, with priority 10",
        "+ gpu-layer applies as layer 1 of 1, with priority 20",
        "~ old: base-2 wins, with priority 10 over 3",
        "- prod-9: tags.site is 'south', wanted 'north', and tags.ring is missing, wanted 'late'",
    ]
    assert any("modules.cam.settings.image" in line and "base-2: example.com/a:1.0.0" in line for line in rest)
    assert any("all modules are as desired" in line for line in rest)


def test_one_deployment_is_told_in_full_with_each_leaf_and_the_events_that_made_it_so(twinfold: Run) -> None:
    said = lines_of(twinfold("explain", "edge-7", "--deployment", "prod-9"))
    assert "tags.site = 'north' false it is 'south'" in said
    assert "tags.ring != 'late' unknown it is missing" in said
    assert any(line.startswith("user:ada set tags.site as 'south' on 20") and line.endswith("(p02:2)") for line in said)
    assert any(line.startswith("user:ada created deployment prod-9 for ") for line in said)
    assert not any("gpu-layer applies" in line for line in said)


def test_a_point_in_time_of_the_past_is_asked_for_with_at(twinfold: Run) -> None:
    assert "it does not get prod-9: tags.site is missing, wanted 'north'" in " ".join(
        twinfold("explain", "edge-7", "-d", "prod-9", "--at", "p02:1,fleet:5").split()
    )


def test_programs_get_json_and_a_wrong_name_the_right_one(twinfold: Run) -> None:
    found = json.loads(twinfold("explain", "edge-7", "--json"))
    assert [deployment["verdict"] for deployment in found["deployments"]] == [
        "base",
        "layer",
        "not targeted",
        "not applied",
    ]
    assert "did you mean 'edge-7'?" in twinfold("explain", "edge-8", code=1)
    assert "no deployment 'prod-8'" in twinfold("explain", "edge-7", "--deployment", "prod-8", code=1)
