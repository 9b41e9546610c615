"""What devices and callers wrote is shown on a terminal and acts on none: every command, over a fleet that tries."""

import contextlib
import csv
import datetime as dt
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from events import CreateDeployment, PatchTags, RegisterDevice, ReportProperties, UpdateDevice
from events.access.commands import DefinePolicy, IssueToken
from events.deployment.events import NotStarted
from events.device.commands import CreateModule
from events.envelope import Principal
from events.producer.producer import Producer
from events.producer.secrecy import LazyVault
from events.readiness.commands import GrantWaiver
from events.rollout.commands import CreateRollout, PauseRollout, StartRollout
from events.rollout.plan import Phase, RolloutPlan
from events.secrets.redis import RedisSecretStore
from events.settings import read_settings
from events.terminal import complain_of
from events.update.commands import DeployUpdate, ImportUpdate
from events.update.names import UpdateId
from events.webhook.commands import DefineWebhook, PauseWebhook
from services.cli.app import COMMANDS, app
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.workers.system import System, base, fresh_system

pytestmark = pytest.mark.redis_server

HOSTILE = "\x1b]0;owned\x07\x9b31m\x7f\u202e\u2066[/x][red]:bomb:\nforged line\r"
IN_CONDITIONS = "\u202e\u2066[/x][red]:bomb:"
"""What a condition may hold; control characters it may not."""

ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


@pytest.fixture(scope="module")
def served(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"), api(system) as http:
        fill(system)
        system.settle()
        yield system, http


def fill(system: System) -> None:
    metrics = {HOSTILE: "SELECT deviceId FROM devices WHERE properties.reported.x = 'y'"}
    hostile = base("m", image="example.com/a:1.0.0", env={"V": {"value": HOSTILE}})
    module = next(iter(hostile["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"].values()))
    layer = {"modulesContent": {"$edgeAgent": {"properties.desired.modules.n": module}}}
    layer["modulesContent"]["m"] = {"properties.desired.x": HOSTILE}
    update = UpdateId("contoso", "camera", "1.0")
    vault = LazyVault(RedisSecretStore(system.log.client), read_settings(data_dir=system.data_dir).effective_key_file)
    producer = Producer(system.log, by=Principal.parse("user:ada"), waker=system.waker, take_secrets=vault.take_out)
    commands = (
        RegisterDevice("d", status_reason=HOSTILE),
        RegisterDevice("e"),
        CreateModule("d", "by-hand", managed_by=HOSTILE),
        UpdateDevice("e", enabled=False, status_reason=HOSTILE),
        PatchTags("d", {"site": HOSTILE, "[/x]": "[/x]", "ADUGroup": "north", "deep": {"[red]": [HOSTILE]}}),
        ReportProperties("d", {"says": HOSTILE}),
        ReportProperties("d", {"lastDesiredStatus": {"code": 500, "description": HOSTILE}}, module_id="$edgeAgent"),
        CreateDeployment("base", hostile, "*", 1, labels={HOSTILE: HOSTILE}, metrics=metrics),
        CreateDeployment("layer", layer, f"tags.site != '{IN_CONDITIONS}'", 2),
        CreateDeployment("another", hostile, "tags.site != 'x'", 3),
        CreateDeployment("slow", hostile, "deviceId = 'd'", 4, admission=NotStarted()),
        CreateRollout("slow", RolloutPlan((Phase(count=1, name=HOSTILE),))),
        StartRollout("slow"),
        PauseRollout("slow", reason=HOSTILE),
        GrantWaiver("w", "privileged", HOSTILE, dt.date(2999, 1, 1)),
        DefineWebhook("hook", "http://127.0.0.1:1/?q=1", "whsec_" + "A" * 43 + "="),
        PauseWebhook("hook", "[/x]"),
        DefinePolicy("reading", ("RegistryRead",), "a" * 43 + "=", "b" * 43 + "=", new=True),
        IssueToken("0123456789abcdef", "ada", "read", "0" * 64),
        ImportUpdate(update, base("u"), ({"condition": f"tags.site != '{IN_CONDITIONS}'"},), description=HOSTILE),
        DeployUpdate("north", "1", update),
    )
    producer.submit(commands).raise_if_refused()


EVERY_COMMAND = """
    device keys d e | device list | device show d | device effective d | device show nobody-[/x]
    device tag d a=[/x] --preview | device update d --status-reason [/x] --preview | device delete d --preview
    deployment list | deployment show base | deployment status base | deployment status base --devices target
    deployment status layer | deployment delete base --preview | deployment update base --priority 9 --preview
    deployment update base --condition tags.[/x]
    rollout list | rollout show slow | rollout pause slow
    explain d | explain d --deployment layer | explain d --all
    diff --from fleet:1 | diff --from fleet:1 --device d | diff --from fleet:1 --deployment base
    audit search | audit search --device d | audit show fleet:3 | audit causes fleet:3
    audit export --format csv | audit export --format ndjson | audit export --format cloudevents | audit verify
    log | document d d/$edgeAgent | document base webhook:hook --fleet | size | size --partition p[/x]
    archive --dry-run | archive list | archive verify | archive --keep-days 0
    blocked | blocked show p00:1 | blocked documents
    readiness | readiness d | readiness --rule privileged | waiver list
    webhook list | webhook show hook | webhook deliveries hook | webhook test hook
    update list | update show contoso/camera/1.0 | update status north | update status north 1 --devices Failed
    group list | group show north
    whoami | token list | policy list | connection-string --device nobody | ca
    check MANIFEST | check MANIFEST --format json | check MANIFEST --format sarif | check MANIFEST --format junit
    erase deployment base --reason x | erase device nobody --reason x --yes | backtest | backup --to BACKUP
    restore --from BACKUP --list | init
"""
NOT_WALKED = {"up", "api", "worker", "scheduler", "demo", "replay", "rebuild", "login", "logout", "repair-log"}
"""Commands that start processes of their own or work on files of this machine; they print through the same calls."""


def test_no_command_lets_a_value_act_on_the_terminal(served: tuple[System, httpx.Client], tmp_path: Path) -> None:
    manifest = tmp_path / "m.json"
    manifest.write_text(json.dumps({HOSTILE: 1, **base("m", image=f"a:{HOSTILE}", HOSTILE=HOSTILE)}))
    locations = {"MANIFEST": str(manifest), "BACKUP": str(tmp_path / "backup")}
    walked = set()
    for line in re.split(r"[|\n]", EVERY_COMMAND):
        words = [locations.get(word, word) for word in line.split()]
        if words:
            walked.add(words[0])
            for more in ([], ["--json"]):
                shown = run(served, *words, *more)
                assert not ACTS.search(shown), (words, ACTS.search(shown), shown[:2000])
                if more == [] and words[0] not in {"audit", "check"}:
                    assert not any(one.startswith("forged line") for one in shown.splitlines()), words
    assert walked | NOT_WALKED >= set(COMMANDS)


def test_a_tag_that_reads_as_markup_is_shown_as_it_is(served: tuple[System, httpx.Client]) -> None:
    shown = run(served, "device", "show", "d")
    assert "tags.[/x]" in shown
    assert "[red]:bomb:" in shown
    assert r"\x1b]0;owned\x07\x9b31m\x7f\u202e\u2066" in shown


def test_json_says_the_very_same_value(served: tuple[System, httpx.Client]) -> None:
    assert json.loads(run(served, "device", "show", "d", "--json"))["tags"]["site"] == HOSTILE
    (line,) = [one for one in run(served, "audit", "search", "--kind", "TwinPatched", "--json").splitlines() if one]
    assert json.loads(line)["data"]["tags"]["site"] == HOSTILE


def test_a_csv_export_has_a_line_for_each_record_and_escapes_in_its_cells(served: tuple[System, httpx.Client]) -> None:
    text = run(served, "audit", "export", "--format", "csv")
    records = list(csv.DictReader(io.StringIO(text)))
    assert len(records) == len(text.splitlines()) - 1
    data = [json.loads(one["data"]) for one in records if one["kind"] == "TwinPatched"]
    assert data[0]["tags"]["site"] == HOSTILE
    (paused,) = [one["sentence"] for one in records if one["kind"] == "RolloutPaused"]
    assert r"\x1b]0;owned" in paused


def run(served: tuple[System, httpx.Client], *words: str) -> str:
    system, http = served
    environment = {**system.environment(), "TWINFOLD_API_URL": str(http.base_url).rstrip("/")}
    done = CliRunner().invoke(app, list(words), env=environment)
    return f"{done.stdout}{done.stderr}{shown_by_main(done.exception)}"


def shown_by_main(error: BaseException | None) -> str:
    if error is None or isinstance(error, SystemExit):
        return ""
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        complain_of(error)  # type: ignore[arg-type]
    return stream.getvalue()
