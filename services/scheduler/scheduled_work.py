"""The work of the scheduler: deployments with times, and rollouts that are not over. A projection of the fleet's events."""

from collections.abc import Iterable

from events.deployment.events import NotStarted
from events.deployment.state import DeploymentDocument
from events.log.fleet_documents import deployments_of, rollouts_of
from events.log.keys import FLEET
from events.log.port import Log
from events.rollout.state import ROLLOUT, RolloutDocument

_BATCH = 1000


class ScheduledWork:
    """The documents at the position that was read last."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._position = -1
        self.at = 0
        """The time of the newest event of the fleet (milliseconds); the scheduler never decides at an earlier time."""
        self.timed: dict[str, DeploymentDocument] = {}
        """Deployments with a start or an end time that is not used up."""
        self.rollouts: dict[str, RolloutDocument] = {}
        """Rollouts by deployment. A rollout with nothing left to do is here only if its deployment has a time."""
        self.strays: dict[str, DeploymentDocument | None] = {}
        """Deployments that contradict their rollout: they have an admission of their own, or are deleted (`None`)."""

    def refresh(self) -> None:
        """Read the events up to the head.

        Raises:
            LogUnavailable: Redis did not answer.
            UnreadableEvent, LogLostItsTail: the fleet's stream cannot be read beyond an event.
        """
        if self._position < 0:
            # The first time it reads all documents, not all events. The head is read before them, so that what is written
            # meanwhile is read again below instead of being missed.
            position = self._log.head(FLEET)
            self._read(self._log.subjects(FLEET))
            newest = self._log.read(FLEET, after=position - 1, limit=1) if position else []
            self.at = newest[0].at if newest else 0
            self._position = position
        while events := self._log.read(FLEET, after=self._position, limit=_BATCH):
            self._read(envelope.subject for envelope in events)
            self._position, self.at = events[-1].position, max(self.at, events[-1].at)

    def _read(self, subjects: Iterable[str]) -> None:
        # A deployment and its rollout are read together: what is due depends on both. Subjects with another prefix, such as
        # those of policies, have a colon as well.
        names = {subject.removeprefix(ROLLOUT) for subject in subjects}
        deployment_ids = sorted(name for name in names if ":" not in name)
        deployments, rollouts = deployments_of(self._log, deployment_ids), rollouts_of(self._log, deployment_ids)
        for name in deployment_ids:
            for documents in (self.timed, self.rollouts, self.strays):
                documents.pop(name, None)
            deployment, document = deployments.get(name), rollouts.get(name)
            if deployment is not None and (deployment.start_at or deployment.end_at):
                self.timed[name] = deployment
            if document is not None:
                # A rollout that is over stays while its deployment has a time. Without it, the start would admit all
                # targeted devices, although the rollout had been aborted or rolled back.
                if document.is_active or not document.is_over or name in self.timed:
                    self.rollouts[name] = document
                if deployment is None or (document.admits and not isinstance(deployment.admission, NotStarted)):
                    self.strays[name] = deployment
