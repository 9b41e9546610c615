"""What the rules of readiness say of a new deployment, and whether that keeps it out."""

from collections.abc import Mapping, Sequence

import msgspec

from events.canonical import JsonObject
from events.deployment.commands import CreateDeployment
from events.deployment.facts import DeploymentCreated
from events.manifest.problem import Severity
from events.producer.secrecy import in_references
from events.readiness.check import RANK, Report, check
from events.readiness.errors import NotReady
from events.readiness.profile import Profile
from events.readiness.subject import Document, Subject, read_document
from events.readiness.waiver import Waiver


class Bar(msgspec.Struct, frozen=True):
    """What a new deployment has to pass: findings of this severity or worse keep it out, unless they are waived."""

    profile: Profile
    refuse: Severity

    def insist(self, deployment_id: str, created: DeploymentCreated, *, waivers: Sequence[Waiver], now: int) -> None:
        """Let a deployment in at a time in milliseconds.

        Raises:
            NotReady: lists the findings that keep it out.
        """
        document = document_of(deployment_id, created.content, created.labels, created.priority)
        report = check(Subject((document,)), self.profile, now=now, waivers=waivers)
        found = [one for one in report.findings if RANK[one.severity] <= RANK[self.refuse]]
        if found:
            raise NotReady(deployment_id, found)


def document_of(deployment_id: str, content: JsonObject, labels: Mapping[str, str], priority: int) -> Document:
    """A deployment as a check takes it, with references for the secrets in it; its labels go before the profile."""
    return read_document({"content": content, "labels": labels, "priority": priority}, name=deployment_id)


def report_on(command: CreateDeployment, profile: Profile, *, waivers: Sequence[Waiver], now: int) -> Report:
    """A check of the content of a deployment by itself, as it will stand."""
    taken = in_references(command)
    assert isinstance(taken, CreateDeployment)
    document = document_of(taken.deployment_id, taken.content, taken.labels, taken.priority)
    return check(Subject((document,)), profile, now=now, waivers=waivers)
