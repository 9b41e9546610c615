"""What the scheduler looks after: deployments with times, and rollouts that are not over. A projection, kept up by the fleet's events."""

from collections.abc import Iterable

from events.deployment.events import NotStarted
from events.deployment.state import DeploymentDocument
from events.log.fleet_documents import deployments_of, rollouts_of
from events.log.keys import FLEET
from events.log.port import Log
from events.rollout.state import ROLLOUT, RolloutDocument

_BATCH = 1000


class ScheduledWork:
    """The documents as of the position that was read last."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._position = -1
        self.at = 0
        """The time of the newest event of the fleet; nothing happens before it."""
        self.timed: dict[str, DeploymentDocument] = {}
        """Deployments that are to start or to end at a time."""
        self.rollouts: dict[str, RolloutDocument] = {}
        """Rollouts by deployment; of those with which nothing is left to do, those of timed deployments alone."""
        self.strays: dict[str, DeploymentDocument | None] = {}
        """Deployments that say themselves who may receive them, or are gone (`None`), beside a rollout that would."""

    def refresh(self) -> None:
        """Read on to the head.

        Raises:
            LogUnavailable: Redis did not answer.
            UnreadableEvent, LogLostItsTail: the fleet's stream stops there.
        """
        if self._position < 0:
            position = self._log.head(FLEET)
            self._read(self._log.subjects(FLEET))
            newest = self._log.read(FLEET, after=position - 1, limit=1) if position else []
            self.at = newest[0].at if newest else 0
            self._position = position
        while events := self._log.read(FLEET, after=self._position, limit=_BATCH):
            self._read(envelope.subject for envelope in events)
            self._position, self.at = events[-1].position, max(self.at, events[-1].at)

    def _read(self, subjects: Iterable[str]) -> None:
        # A deployment's times and its rollout are looked at together; policies and the like have other colons.
        names = {subject.removeprefix(ROLLOUT) for subject in subjects}
        deployment_ids = sorted(name for name in names if ":" not in name)
        deployments, rollouts = deployments_of(self._log, deployment_ids), rollouts_of(self._log, deployment_ids)
        for name in deployment_ids:
            self.timed.pop(name, None)
            self.rollouts.pop(name, None)
            self.strays.pop(name, None)
            deployment, document = deployments.get(name), rollouts.get(name)
            if deployment is not None and is_timed(deployment):
                self.timed[name] = deployment
            if document is not None:
                # What was rolled out, however it went, is not opened to everybody at the deployment's time.
                if document.is_active or not document.is_over or name in self.timed:
                    self.rollouts[name] = document
                if deployment is None or (document.admits and not isinstance(deployment.admission, NotStarted)):
                    self.strays[name] = deployment


def is_timed(document: DeploymentDocument) -> bool:
    """Whether the clock has something to do with a deployment yet."""
    return bool(document.start_at or document.end_at)
