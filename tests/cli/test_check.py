"""`twinfold check`: what it reads, prints, mends and exits with."""

import copy
import io
import json
import os
import sys
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from events.readiness import check as readiness
from events.readiness.catalogue import RULES
from events.readiness.profile import PROFILES
from events.readiness.subject import ReadinessSubject
from services.cli.app import app
from services.cli.check.check_files import CheckedFile, source_of
from services.cli.check.command import ProfileName
from services.cli.check.reports import CheckResult, show
from tests import waiting
from tests.readiness.examples import EXAMPLES
from tests.readiness.manifests import ABSENT, LIMITS, READY, create_options, host_config, image, layer, manifest, temp
from tests.readiness.test_anything import LEAVES, locations

LATEST = image("registry.example.com/temp:latest")
RESTARTING = create_options({"Labels": {"a": "ä"}, "HostConfig": {**LIMITS, "RestartPolicy": {"Name": "always"}}})


def check(*words: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, words)], input=text)


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a file into a directory of the test's own, which is the current one."""
    monkeypatch.chdir(tmp_path)

    def written(name: str, document: Any, **how: Any) -> Path:
        path = Path(name)
        path.write_text(document if isinstance(document, str) else json.dumps(document, **{"indent": 2, **how}))
        return path

    return written


# What it exits with


@pytest.mark.parametrize(
    ("document", "flags", "code"),
    [
        (READY, [], 0),
        (LATEST, [], 1),
        (LATEST, ["--fail-on", "error"], 0),
        (temp("restartPolicy", "on-unhealthy"), [], 0),
        (temp("restartPolicy", "on-unhealthy"), ["--fail-on", "info"], 1),
        (image(" "), ["--fail-on", "error"], 1),
        (LATEST, ["--profile", "development"], 0),
        ({}, [], 1),
    ],
)
def test_it_exits_with_1_if_a_finding_counts(put: Any, document: Any, flags: list[str], code: int) -> None:
    assert check(put("m.json", document), *flags).exit_code == code


@pytest.mark.parametrize("text", ["{", "", "NaN", '{"a": Infinity}', "[" * 100_000, "9" * 10_000])
def test_what_is_no_json_is_one_line_and_code_2(put: Any, text: str) -> None:
    ran = check(put("m.json", text))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.startswith("twinfold: m.json: ")
    assert len(ran.stderr.splitlines()) == 1


def test_what_can_be_read_is_reported_where_another_file_cannot_be(put: Any) -> None:
    put("m.json", LATEST)
    put("bad.json", "{")
    ran = check("bad.json", "m.json", "none.json")
    assert ran.exit_code == 2
    assert "tag-latest" in ran.stdout
    assert "2 files cannot be read" in ran.stdout
    assert [line.split(":")[1].strip() for line in ran.stderr.splitlines()] == ["bad.json", "none.json"]
    told = json.loads(check("bad.json", "m.json", "--format", "json").stdout)
    assert [one["file"] for one in told["unreadable"]] == ["bad.json"]
    assert "tag-latest" in {one["rule"] for one in told["files"][0]["findings"]}
    (run,) = json.loads(check("bad.json", "m.json", "--format", "sarif").stdout)["runs"]
    (invocation,) = run["invocations"]
    assert not invocation["executionSuccessful"]
    suites = ET.fromstring(check("bad.json", "m.json", "--format", "junit").stdout)  # noqa: S314 - our own
    assert (suites.get("errors"), suites[1].get("name")) == ("1", "bad.json")


def test_a_file_that_cannot_be_read_keeps_all_others_and_the_baseline_from_being_written(put: Any) -> None:
    path = put("m.json", LATEST)
    before = path.read_text()
    ran = check("m.json", "none.json", "--fix", "--write-baseline", "known.json")
    assert (ran.exit_code, path.read_text(), Path("known.json").exists()) == (2, before, False)
    assert "no file and no baseline was written" in ran.stderr


def test_a_name_that_stands_twice_is_a_finding_with_its_line(put: Any) -> None:
    text = json.dumps(READY, indent=2).replace('"status": "running",', '"status": "running",\n"status": "stopped",', 1)
    ran = check(put("m.json", text), "--format", "json")
    (found,) = [one for one in json.loads(ran.stdout)["files"][0]["findings"] if one["rule"] == "duplicate-member"]
    assert "'status' occurs more than once in modulesContent" in found["message"]
    assert text.splitlines()[found["line"] - 1].strip() == '"status": "stopped",'
    assert (found["severity"], ran.exit_code) == ("error", 1)


def test_a_manifest_in_the_old_form_is_checked_as_the_new_one(put: Any) -> None:
    new = check(put("m.json", LATEST), "--format", "json").stdout
    old = check(put("m.json", {"moduleContent": LATEST["modulesContent"]}), "--format", "json").stdout
    rules = [[one["rule"] for one in json.loads(text)["files"][0]["findings"]] for text in (new, old)]
    assert rules[0] == rules[1]
    assert "tag-latest" in rules[0]


@pytest.mark.parametrize(
    "flags",
    [
        ["none.json"],
        ["."],
        ["m.json", "--waivers", "none.toml"],
        ["m.json", "--baseline", "m.json"],
        ["m.json", "--merge-onto", "none.json"],
        ["m.json", "--write-baseline", "no/where.json"],
        ["m.json", "--profile", "other"],
        ["m.json", "--fail-on", "never"],
        [],
    ],
)
def test_what_cannot_be_read_is_code_2(put: Any, flags: list[str]) -> None:
    put("m.json", READY)
    assert check(*flags).exit_code == 2


# What it prints


def test_text_groups_findings_by_rule_with_lines_and_remedy(put: Any) -> None:
    put("m.json", manifest(*((f"agent/modules/{name}/settings/image", "x:latest") for name in ("temp", "alarm"))))
    lines = check("m.json").stdout.splitlines()
    assert lines[0] == "m.json (production)"
    assert lines[1].split() == ["warning", "tag-latest", *("No", "image", "has", "the", "tag", "latest")]
    assert [line.split("  ")[-1] for line in lines[2:4]] == ["line 67", "line 76"]
    assert lines[4].strip().startswith("Remedy: Use a specific tag")
    assert lines[-1] == "1 file: 2 warnings"


def test_text_for_a_pipe_is_not_wrapped(put: Any) -> None:
    put("m.json", image("registry.example.com/" + "long/" * 60 + "temp:latest"))
    assert sum("of temp has the tag latest" in line for line in check("m.json").stdout.splitlines()) == 1


def test_text_for_a_terminal_keeps_its_indentation(put: Any) -> None:
    path = put("m.json", LATEST)
    source = source_of(str(path), path.read_text())
    report = readiness.check(ReadinessSubject((source.document,)), PROFILES["production"], now=0)
    screen = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=40)
    show(screen, CheckResult([CheckedFile(source, {}, report)]))
    assert isinstance(screen.file, io.StringIO)
    lines = [line.rstrip() for line in screen.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= 40
    start = next(number for number, line in enumerate(lines) if "registry.example.com" in line)
    assert all(line.startswith(" " * 9) for line in lines[start : lines.index("")])


def test_a_terminal_without_the_characters_of_a_name_shows_their_numbers(put: Any) -> None:
    put("m.json", image("x:latest\u20ac"))
    clean = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "services.cli", "check", "m.json"]
    ran = waiting.run(command, env=clean)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert r"x:latest\u20ac" in ran.stdout


def test_square_brackets_are_no_markup(put: Any) -> None:
    assert "[bold]x:1:2" in check(put("m.json", image("[bold]x:1:2"))).stdout


def test_several_files_are_summed_up_in_one_line(put: Any) -> None:
    put("a.json", LATEST)
    put("b.json", READY)
    lines = check("a.json", "b.json").stdout.splitlines()
    assert lines[-1] == "2 files: 1 warning"
    assert lines[lines.index("b.json (production)") + 1] == "no new findings"


def test_json_has_findings_with_their_lines(put: Any) -> None:
    put("m.json", LATEST)
    (file,) = json.loads(check("m.json", "--format", "json").stdout)["files"]
    (finding,) = file["findings"]
    assert (finding["rule"], finding["severity"], finding["module"]) == ("tag-latest", "warning", "temp")
    assert (finding["line"], finding["file"], finding["known"]) == (67, "m.json", False)
    assert "latest" in Path("m.json").read_text().splitlines()[66]


# Rules of the SARIF 2.1.0 specification, sections 3.13, 3.14, 3.19, 3.27, 3.28, 3.29, 3.30, 3.35, 3.49.
SARIF: dict[str, Any] = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "properties": {"type": "object"},
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "properties": {
                                                "shortDescription": {"$ref": "#/$defs/text"},
                                                "fullDescription": {"$ref": "#/$defs/text"},
                                                "help": {"$ref": "#/$defs/text"},
                                                "defaultConfiguration": {
                                                    "type": "object",
                                                    "properties": {"level": {"$ref": "#/$defs/level"}},
                                                },
                                            },
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "results": {"type": "array", "items": {"$ref": "#/$defs/result"}},
                    "invocations": {"type": "array", "items": {"$ref": "#/$defs/invocation"}},
                },
            },
        },
    },
    "$defs": {
        "text": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}},
        "invocation": {
            "type": "object",
            "required": ["executionSuccessful"],
            "additionalProperties": False,
            "properties": {
                "executionSuccessful": {"type": "boolean"},
                "toolExecutionNotifications": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["message"],
                        "properties": {"message": {"$ref": "#/$defs/text"}, "level": {"$ref": "#/$defs/level"}},
                    },
                },
            },
        },
        "level": {"enum": ["none", "note", "warning", "error"]},
        "result": {
            "type": "object",
            "required": ["message"],
            "additionalProperties": False,
            "properties": {
                "ruleId": {"type": "string"},
                "ruleIndex": {"type": "integer", "minimum": 0},
                "level": {"$ref": "#/$defs/level"},
                "message": {"$ref": "#/$defs/text"},
                "baselineState": {"enum": ["new", "unchanged", "updated", "absent"]},
                "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
                "suppressions": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["kind"],
                        "properties": {
                            "kind": {"enum": ["inSource", "external"]},
                            "status": {"enum": ["accepted", "underReview", "rejected"]},
                            "justification": {"type": "string"},
                        },
                    },
                },
                "locations": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "physicalLocation": {
                                "type": "object",
                                "required": ["artifactLocation"],
                                "properties": {
                                    "artifactLocation": {
                                        "type": "object",
                                        "properties": {"uri": {"type": "string", "pattern": r"^[!-~]+$"}},
                                    },
                                    "region": {
                                        "type": "object",
                                        "properties": {
                                            "startLine": {"type": "integer", "minimum": 1},
                                            "startColumn": {"type": "integer", "minimum": 1},
                                        },
                                    },
                                },
                            },
                            "logicalLocations": {"type": "array", "items": {"type": "object"}},
                        },
                    },
                },
            },
        },
    },
}


def sarif(*words: str | Path) -> dict[str, Any]:
    import jsonschema  # noqa: PLC0415 - used here alone

    log: dict[str, Any] = json.loads(check(*words, "--format", "sarif").stdout)
    jsonschema.validate(log, SARIF)
    (run,) = log["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    return dict(run)


def test_sarif_has_the_form_of_its_specification(put: Any) -> None:
    put("ä b.json", LATEST)
    put("bad.json", {"modulesContent": {"$edgeAgent": {"properties.desired": []}}})
    run = sarif("ä b.json", "bad.json")
    assert len(run["tool"]["driver"]["rules"]) == len(RULES)
    (result,) = [one for one in run["results"] if one["ruleId"] == "tag-latest"]
    physical = result["locations"][0]["physicalLocation"]
    assert physical == {"artifactLocation": {"uri": "%C3%A4%20b.json"}, "region": {"startLine": 67, "startColumn": 15}}
    assert "baselineState" not in result


def test_sarif_says_what_is_waived_and_what_is_known(put: Any) -> None:
    put("m.json", LATEST)
    put("w.toml", WAIVER)
    check("m.json", "--write-baseline", "b.json")
    (known,) = sarif("m.json", "--baseline", "b.json")["results"]
    assert known["baselineState"] == "unchanged"
    (waived,) = sarif("m.json", "--waivers", "w.toml")["results"]
    assert waived["suppressions"][0]["status"] == "accepted"


def test_junit_is_well_formed_and_counts_right(put: Any) -> None:
    put(
        "m.json",
        manifest(("agent/modules/temp/settings/image", "x:latest"), ("agent/modules/temp/restartPolicy", "\x01<&")),
    )
    put("w.toml", WAIVER)
    suites = ET.fromstring(check("m.json", "--format", "junit").stdout)  # noqa: S314 - our own
    assert {suites.get(name) for name in ("failures", "skipped")} == {"2", "0"}
    failing = [case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None]
    assert failing == ["restart-policy-value", "tag-latest"]
    waived = ET.fromstring(check("m.json", "--format", "junit", "--waivers", "w.toml").stdout)  # noqa: S314
    assert waived.get("skipped") == "1"


# Standard input


def test_a_dash_is_standard_input() -> None:
    ran = check("-", text=json.dumps(LATEST))
    assert (ran.exit_code, ran.stdout.splitlines()[0]) == (1, "- (production)")


def test_a_fixed_standard_input_goes_to_standard_output() -> None:
    ran = check("-", "--fix", text=json.dumps(RESTARTING))
    assert ran.exit_code == 0
    fixed = json.loads(ran.stdout)
    assert "RestartPolicy" not in json.dumps(fixed)
    assert "fixed" in ran.stderr


def test_standard_input_with_nothing_to_fix_comes_out_as_it_is() -> None:
    text = json.dumps(READY, indent=7) + "\n\n"
    assert check("-", "--fix", text=text).stdout == text


@settings(derandomize=True, deadline=None, max_examples=100)
@given(data=st.data())
def test_whatever_is_fixed_comes_out_as_json_that_stays_as_it_is(data: st.DataObject) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from([asked.last.content for asked, _ in EXAMPLES.values()])))
    for _ in range(data.draw(st.integers(0, 2))):
        if candidates := locations(document):
            holder, key = data.draw(st.sampled_from(candidates))
            holder[key] = data.draw(LEAVES.filter(lambda value: "Infinity" not in json.dumps(value)))
    text = json.dumps(document, indent=data.draw(st.sampled_from([None, 1, "\t"])))
    if "NaN" in text or "Infinity" in text:
        return
    once = check("-", "--fix", "--profile", "constrained", text=text)
    assert once.exit_code in (0, 1), once.output
    again = check("-", "--fix", "--profile", "constrained", text=once.stdout)
    assert (again.exit_code, again.stdout) == (once.exit_code, once.stdout)
    if "fixed" not in once.stderr:
        assert once.stdout == text


# Fixes in files


@pytest.mark.parametrize(
    "how", [{"indent": 2}, {"indent": 4}, {"indent": "\t"}, {"indent": None}, {"separators": (",", ":")}]
)
def test_a_fix_leaves_every_other_character_alone(put: Any, how: dict[str, Any]) -> None:
    path = put("m.json", RESTARTING, **{"indent": None, **how})
    before = path.read_text()
    ran = check(path, "--fix")
    assert ran.exit_code == 0
    after = path.read_text()
    options = json.loads(before)["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["temp"]["settings"]
    mended = json.loads(after)["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["temp"]["settings"]
    old, new = (json.dumps(one["createOptions"]) for one in (options, mended))
    assert json.loads(mended["createOptions"])["Labels"] == {"a": "ä"}
    start = before.index(old)
    assert (after[:start], after[len(after) - (len(before) - start - len(old)) :]) == (
        before[:start],
        before[start + len(old) :],
    )
    assert new != old
    assert check(path, "--fix").exit_code == 0
    assert path.read_text() == after


def test_what_is_added_has_the_indentation_of_its_neighbours(put: Any) -> None:
    path = put("m.json", manifest(("hub/storeAndForwardConfiguration", ABSENT)), indent=3)
    before = path.read_text()
    assert check(path, "--fix").exit_code == 0
    whole = manifest(
        ("hub/storeAndForwardConfiguration", ABSENT), ("hub/storeAndForwardConfiguration", {"timeToLiveSecs": 7200})
    )
    assert path.read_text() == json.dumps(whole, indent=3) != before


def test_a_byte_order_mark_and_line_ends_are_kept(put: Any) -> None:
    path = put("m.json", {})
    text = json.dumps(manifest(("hub/storeAndForwardConfiguration", ABSENT)), indent=2).replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert check(path, "--fix").exit_code == 0
    after = path.read_bytes()
    assert after.startswith(b"\xef\xbb\xbf{\r\n")
    assert after.count(b"\n") == after.count(b"\r\n") == text.count("\n") + 3


def test_a_file_with_nothing_to_fix_is_not_written(put: Any) -> None:
    path = put("m.json", LATEST)
    path.chmod(0o444)
    stamp = path.stat().st_mtime_ns
    check(path, "--fix")
    assert path.stat().st_mtime_ns == stamp


def test_nothing_is_fixed_if_something_cannot_be_read(put: Any) -> None:
    path = put("m.json", RESTARTING)
    before = path.read_text()
    assert check("m.json", "none.json", "--fix").exit_code == 2
    assert path.read_text() == before


def test_what_was_fixed_is_said(put: Any) -> None:
    ran = check(put("m.json", RESTARTING), "--fix")
    assert "fixed    create-options-restart: createOptions of temp has the RestartPolicy" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "1 file: no findings; 1 fixed"


# Layers


def test_a_layer_is_merged_onto_bases_in_their_order(put: Any) -> None:
    put("base.json", LATEST)
    put("first.json", layer({"modules.temp.settings.image": "registry.example.com/temp"}))
    put("over.json", layer(hub={"routes.x": "FROM /messages/modules/who/outputs/* INTO $upstream"}))
    assert check("over.json").exit_code == 0
    found = json.loads(
        check("over.json", "--merge-onto", "base.json", "--merge-onto", "first.json", "--format", "json").stdout
    )
    findings = {one["rule"]: one["file"] for one in found["files"][0]["findings"]}
    assert findings == {"tag-missing": "first.json", "route-unknown-module": "over.json"}


def test_a_fix_does_not_touch_a_base(put: Any) -> None:
    base = put("base.json", RESTARTING)
    before = base.read_text()
    put("over.json", layer({"modules.temp.env.A": {"value": "b"}}))
    assert check("over.json", "--merge-onto", "base.json", "--fix").exit_code == 1
    assert base.read_text() == before


# Baselines


def test_a_baseline_lets_known_findings_pass_and_new_ones_fail(put: Any) -> None:
    put("m.json", LATEST)
    assert check("m.json", "--write-baseline", "b.json").exit_code == 0
    assert check("m.json", "--baseline", "b.json").exit_code == 0
    assert "1 known from the baseline" in check("m.json", "--baseline", "b.json").stdout
    worse = host_config(Privileged=True)
    worse["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["temp"]["settings"]["image"] = (
        "registry.example.com/temp:latest"
    )
    put("m.json", dict(reversed(worse.items())), indent=None)
    ran = check("m.json", "--baseline", "b.json")
    assert ran.exit_code == 1
    assert "privileged" in ran.stdout
    assert "tag-latest" not in ran.stdout


def test_a_baseline_is_the_same_for_the_same_findings(put: Any) -> None:
    put("m.json", {**image("x:latest")})
    check("m.json", "--write-baseline", "one.json")
    put("m.json", image("x:latest"), indent=None, sort_keys=True)
    check("m.json", "--write-baseline", "two.json")
    assert Path("one.json").read_text() == Path("two.json").read_text()


def test_every_profile_can_be_asked_for() -> None:
    assert set(get_args(ProfileName)) == set(PROFILES)


# Waivers

WAIVER = """
[[waivers]]
rule = "tag-latest"
module = "temp"
who = "ada"
why = "the vendor has no other"
until = 9999-12-31
"""


@pytest.mark.parametrize("name", ["w.toml", "w.json"])
def test_waivers_come_from_a_file(put: Any, name: str) -> None:
    put("m.json", LATEST)
    one = {"rule": "tag-latest", "who": "ada", "why": "the vendor has no other", "until": "9999-12-31"}
    put(name, WAIVER if name == "w.toml" else {"waivers": [one]})
    ran = check("m.json", "--waivers", name)
    assert ran.exit_code == 0
    assert "waived   'registry.example.com/temp:latest' of temp has the tag latest (ada, for tag-latest" in ran.stdout
    assert "until 9999-12-31: the vendor has no other)" in ran.stdout


def test_a_waiver_whose_time_is_over_does_not_count_and_is_shown(put: Any) -> None:
    put("m.json", LATEST)
    put("w.toml", WAIVER.replace("9999-12-31", "2020-02-29"))
    ran = check("m.json", "--waivers", "w.toml")
    assert ran.exit_code == 1
    assert "expired  the waiver of ada, for tag-latest of temp, until 2020-02-29: the vendor" in ran.stdout
    for name in ("json", "sarif", "junit"):
        assert "2020-02-29" in check("m.json", "--waivers", "w.toml", "--format", name).stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [('who = "ada"', ""), ("tag-latest", "tag-latets"), ("9999-12-31", '"soon"'), ("module", "modul"), ("[[", "[")],
)
def test_a_waiver_that_is_none_is_refused(put: Any, old: str, new: str) -> None:
    put("m.json", READY)
    put("w.toml", WAIVER.replace(old, new, 1))
    assert check("m.json", "--waivers", "w.toml").exit_code == 2


# What it does without


PROBE = """
import sys
from services.cli.__main__ import main
sys.argv = ["twinfold", "check", sys.argv[1]]
try:
    main()
except SystemExit as left:
    assert left.code in (0, None), left.code
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"redis", "rq", "fastapi", "httpx", "uvicorn", "numpy", "prometheus_client"}))
"""


def test_it_needs_neither_redis_nor_a_server(put: Any) -> None:
    put("m.json", READY)
    ran = waiting.run([sys.executable, "-c", PROBE, "m.json"])
    assert ran.stdout.splitlines()[-1:] == ["[]"], ran.stderr
