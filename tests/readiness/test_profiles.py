"""Profiles, labels and waivers: who says how much a finding weighs."""

import datetime as dt
from typing import Any

import pytest

from events.manifest.problem import Severity
from events.readiness.catalogue import BY_ID, RULES
from events.readiness.check import check, fixes
from events.readiness.profile import CONSTRAINED, DEVELOPMENT, PRODUCTION, PROFILES, Profile, labelled
from events.readiness.rule import Inspects
from events.readiness.waiver import Waiver
from tests.readiness.manifests import DAY, NOW, checked, create_options, host_config, hub_env, image, manifest, subject

LATEST = image("registry.example.com/temp:latest")
TODAY = dt.datetime.fromtimestamp(NOW / 1000, dt.UTC).date()


def weights(document: object, profile: str, rule: str) -> list[Severity]:
    report = checked(subject(document), PROFILES[profile])
    return [finding.severity for finding in report.findings if finding.rule == rule]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_a_profile_changes_rules_that_exist(profile: Profile) -> None:
    assert set(profile.changes) <= set(BY_ID)


def test_development_is_told_of_fewer_things_and_more_gently() -> None:
    assert weights(LATEST, "production", "tag-latest") == [Severity.WARNING]
    assert weights(LATEST, "development", "tag-latest") == [Severity.INFO]
    assert weights(create_options(""), "development", "log-config") == []
    assert weights(image(" "), "development", "image-empty") == [Severity.ERROR]


def test_small_devices_have_rules_of_their_own() -> None:
    wasteful = hub_env(OptimizeForPerformance="true")
    assert weights(wasteful, "production", "hub-optimize") == []
    assert weights(wasteful, "constrained", "hub-optimize") == [Severity.WARNING]


def test_no_profile_silences_an_error() -> None:
    silenced = {rule.id for rule in RULES if rule.severity is Severity.ERROR and rule.inspects is not Inspects.NOTHING}
    for profile in (PRODUCTION, DEVELOPMENT, CONSTRAINED):
        assert all(profile.severity_of(rule) is Severity.ERROR for rule in silenced)


def test_labels_choose_a_profile_and_change_rules() -> None:
    labels = {
        "readiness.profile": "development",
        "readiness.tag-latest": "error",
        "readiness.res-cpu": "info",
        "team": "x",
    }
    report = checked(subject({"id": "a", "content": LATEST, "labels": labels}), PRODUCTION)
    assert report.profile == "development"
    assert [(one.rule, one.severity) for one in report.findings] == [("tag-latest", Severity.ERROR)]
    off = {"content": LATEST, "labels": {"readiness.tag-latest": "off"}}
    assert checked(subject(off), PRODUCTION).findings == ()


def test_labels_that_say_nothing_known_are_shown_and_change_nothing() -> None:
    labels = {"readiness.profile": "prod", "readiness.nothing": "off", "readiness.tag-latest": "loud"}
    profile, unknown = labelled(PRODUCTION, labels)
    assert (profile, set(unknown)) == (PRODUCTION, set(labels))
    assert checked(subject({"content": LATEST, "labels": labels}), PRODUCTION).unknown_labels == unknown


def test_the_worst_comes_first() -> None:
    spoiled = manifest(
        ("agent/modules/temp/settings/image", " "),
        ("agent/modules/alarm/settings/image", "x:latest"),
        ("agent/modules/alarm/restartPolicy", "on-unhealthy"),
    )
    ranks = [finding.severity for finding in checked(subject(spoiled)).findings]
    assert ranks == [Severity.ERROR, Severity.WARNING, Severity.INFO]


def waiver(**members: object) -> Waiver:
    given: dict[str, Any] = {
        "rule": "tag-latest",
        "who": "ada",
        "why": "the vendor has no other",
        "until": TODAY,
        **members,
    }
    return Waiver(**given)


def test_a_waiver_holds_through_its_last_day_and_is_shown_afterwards() -> None:
    asked = subject(LATEST)
    today = check(asked, PRODUCTION, now=NOW, waivers=[waiver()])
    assert (today.findings, len(today.waived), today.expired) == ((), 1, ())
    assert today.waived[0].waiver.who == "ada"
    tomorrow = check(asked, PRODUCTION, now=NOW + DAY, waivers=[waiver()])
    assert ([one.rule for one in tomorrow.findings], tomorrow.waived) == (["tag-latest"], ())
    assert tomorrow.expired == (waiver(),)
    assert check(subject({}), PRODUCTION, now=NOW + DAY, waivers=[waiver()]).expired == (waiver(),)


@pytest.mark.parametrize(
    ("members", "applies"),
    [
        ({}, True),
        ({"module": "temp"}, True),
        ({"module": "alarm"}, False),
        ({"deployment": "0.json"}, True),
        ({"deployment": "1.json"}, False),
        ({"rule": "tag-missing"}, False),
    ],
)
def test_a_waiver_is_for_a_rule_a_module_and_a_deployment(members: dict[str, object], applies: bool) -> None:  # noqa: FBT001
    report = check(subject(LATEST), PRODUCTION, now=NOW, waivers=[waiver(**members)])
    assert (report.findings == ()) is applies


def test_what_is_waived_is_not_fixed() -> None:
    asked = subject(host_config(RestartPolicy={"Name": "always"}))
    assert fixes(asked, PRODUCTION, now=NOW) != ()
    assert fixes(asked, PRODUCTION, now=NOW, waivers=[waiver(rule="create-options-restart")]) == ()
