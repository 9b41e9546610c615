"""What the rules of readiness say of a new deployment, and whether that keeps it out."""

from collections.abc import Sequence

import msgspec

from events.deployment.commands import CreateDeployment
from events.manifest.problem import Severity
from events.producer.secrecy import in_references
from events.readiness.check import RANK, Report, check
from events.readiness.errors import NotReady
from events.readiness.profile import Profile
from events.readiness.subject import Subject, read_document
from events.readiness.waiver import Waiver


class Bar(msgspec.Struct, frozen=True):
    """What a new deployment has to pass: findings of this severity or worse keep it out, unless they are waived."""

    profile: Profile
    refuse: Severity

    def insist(self, command: CreateDeployment, *, waivers: Sequence[Waiver], now: int) -> None:
        """Let a deployment in at a time in milliseconds.

        Raises:
            NotReady: lists the findings that keep it out.
        """
        report = report_on(command, self.profile, waivers=waivers, now=now)
        found = [one for one in report.findings if RANK[one.severity] <= RANK[self.refuse]]
        if found:
            raise NotReady(command.deployment_id, found)


def report_on(command: CreateDeployment, profile: Profile, *, waivers: Sequence[Waiver], now: int) -> Report:
    """A check of the content of a deployment by itself, as it will stand: with references for the secrets in it.

    The labels that it brings along go before the profile.
    """
    written = {name: getattr(in_references(command), name) for name in ("content", "labels", "priority")}
    document = read_document(written, name=command.deployment_id)
    return check(Subject((document,)), profile, now=now, waivers=waivers)
