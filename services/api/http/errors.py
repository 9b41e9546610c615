"""One table from typed errors to statuses and codes (contract/hub.md §1.10)."""

import datetime as dt

import msgspec

from events.access import errors as access
from events.audit import errors as audit
from events.deployment import errors as deployment
from events.device import errors as device
from events.fleet import errors as fleet
from events.history import errors as history
from events.log import errors as log
from events.manifest.errors import ManifestInvalid
from events.notification.positions import PositionsInvalid
from events.preview import errors as preview
from events.producer import errors as producer
from events.projection_store.query_engine import ContinuationInvalid
from events.query.errors import ConditionInvalid, QueryInvalid
from events.readiness import errors as readiness
from events.rollout import errors as rollout
from events.secrets import errors as secrets
from events.update import errors as update
from events.webhook.errors import WebhookError, WebhookNotFound
from services.api.http.json_answer import AnswerBody

RETRY_AFTER_SECONDS = 1
_TEXT_CHARACTERS_MAX = 4000


class HttpError(msgspec.Struct, frozen=True):
    """The answer to an error over HTTP; with `temporary` it has Retry-After. `number` is 0 if the hub's number is unknown."""

    status: int
    code: str
    temporary: bool = False
    number: int = 0


class Error(AnswerBody):
    """A code, a message, and the id under which the logs have the request."""

    code: str
    message: str
    request_id: str


class ErrorAnswer(AnswerBody):
    """An error of our own paths."""

    error: Error


class HubErrorAnswer(AnswerBody):
    """An error of the hub's paths (contract/hub.md §1.10); the header `iothub-errorcode` has the code alone."""

    message: str = msgspec.field(name="Message")
    exception_message: str = msgspec.field(name="ExceptionMessage")
    error_code: int | msgspec.UnsetType = msgspec.UNSET


class BodyInvalid(Exception):
    """A request does not have the shape that its path requires: usually its body; or its query, a header or the path itself."""


class ContentMissing(Exception):
    """A configuration was sent without its content, which an update cannot change (contract/hub.md §0 item 3)."""

    def __init__(self) -> None:
        super().__init__("content is missing; send it with every request, unchanged")


class EtagMissing(Exception):
    """Deleting an identity requires an etag (contract/hub.md §1.9)."""

    def __init__(self) -> None:
        super().__init__("Etag missing: send If-Match with the etag, or * for any")


class Unauthorized(Exception):
    """The credentials of a request are missing, wrong or expired."""

    def __init__(self) -> None:
        # One text for all problems with credentials: it must not tell which names or keys exist.
        super().__init__(
            "the credentials are missing, wrong or expired; the header Authorization takes a token, or a shared access"
            " signature with a key of a policy, a device or a module that covers the path (docs/reference/api.md)"
        )


class Forbidden(Exception):
    """The caller is authenticated, and lacks permission; `why` ends the sentence."""

    def __init__(self, why: str) -> None:
        super().__init__(f"these credentials do not allow that: {why}")


class RequestNotLocal(Exception):
    """With open access, the request may come from a web page that is open in the operator's browser."""

    def __init__(self, why: str) -> None:
        super().__init__(f"with open access, requests come from programs of this machine: {why}")


class NotJson(Exception):
    """With open access, a body must be declared as JSON: browsers ask before they send that from another origin."""

    def __init__(self, content_type: str | None) -> None:
        received = "missing" if content_type is None else repr(content_type[:80])
        super().__init__(
            f"the header Content-Type is {received}; send application/json, or application/x-ndjson for lines of JSON"
        )


class ModulesOutOfReach(Exception):
    """A policy's signature reaches no modules of a device that is missing or disabled (contract/hub.md §1.5)."""

    def __init__(self, device_id: str) -> None:
        super().__init__(f"device {device_id[:140]!r} is not registered, or is disabled")


class Throttled(Exception):
    """The caller sends too many requests (contract/hub.md §1.10). Clients parse the text, which is the hub's."""

    def __init__(self, what: str, seconds: int) -> None:
        super().__init__(
            f"The request has been throttled. Wait {seconds} seconds and try again. Operation type: {what}"
        )


class TooManyAtOnce(Exception):
    """A caller has the maximum of requests running, and of requests waiting for their turn."""

    def __init__(self, running_max: int, waiting_max: int) -> None:
        super().__init__(
            f"The request has been throttled: of one caller {running_max} requests of this kind run at once and"
            f" {waiting_max} wait. Send the next when one is answered"
        )


class NotInThePast(Exception):
    """The request has `at`, and its route has no past."""

    def __init__(self, why: str) -> None:
        super().__init__(f"`at` cannot be answered here: {why}")


class IdempotencyKeyReused(Exception):
    """The key of a request was used for another request before."""

    def __init__(self) -> None:
        super().__init__(
            "this Idempotency-Key was used for another request in the last 24 hours; repeat that request unchanged,"
            " or use a new key"
        )


class NotFound(Exception):
    """Nothing has that name; the text says of which kind."""


class OutOfDeviceScope(Exception):
    """A gateway asks about a device that is not its child."""

    def __init__(self, gateway: str, device_id: str) -> None:
        super().__init__(f"{gateway[:140]} is not a gateway of {device_id[:140]!r}: set it as the parent first")


class DeviceNotOnline(Exception):
    """A direct method reaches only a device that is connected, and no device can be connected to this version."""

    def __init__(self, subject: str, method: str) -> None:
        super().__init__(
            f"{subject[:300]} is not connected, so that {method[:100]!r} cannot be called; this version has no endpoint"
            " for connections of devices"
        )


class NotOffered(Exception):
    """The contract has the operation, and twinfold does not implement it (docs/guides/updates.md)."""

    def __init__(self, why: str) -> None:
        super().__init__(f"twinfold does not offer this: {why}")


BAD_REQUEST = HttpError(400, "ArgumentInvalid", number=400004)
_CONTENT = HttpError(400, "InvalidConfigurationContent")
_UNAUTHORIZED = HttpError(401, "IotHubUnauthorizedAccess", number=401002)
_NOT_FOUND = HttpError(404, "NotFound")
_ROLLOUT_CONFLICT = HttpError(409, "RolloutStateConflict")
_UPDATE_CONFLICT = HttpError(409, "DeploymentStateConflict")
_PRECONDITION = HttpError(412, "PreconditionFailed", number=412001)
_DIFFERS = HttpError(412, "PreviewDiffers")
_TOO_LARGE = HttpError(413, "MessageTooLarge", number=413001)
_ARCHIVE_DAMAGED = HttpError(500, "ArchiveDamaged")
BUSY = HttpError(503, "ServiceUnavailable", temporary=True)
TOO_MANY = HttpError(429, "ThrottlingException", temporary=True, number=429001)
INTERNAL = HttpError(500, "ServerError")
NOT_FOUND, METHOD_NOT_ALLOWED = 404, 405
BY_STATUS = {
    NOT_FOUND: _NOT_FOUND,
    METHOD_NOT_ALLOWED: HttpError(METHOD_NOT_ALLOWED, "MethodNotAllowed"),
    408: HttpError(408, "RequestTimeout"),
    413: _TOO_LARGE,
}
"""Errors of the web framework."""

DAMAGE = (fleet.CannotApply, log.UnreadableEvent, log.LogLostItsTail, history.HistoryDiffers)
"""An event cannot be applied and blocks its partition until an operator decides on it. These errors name events of any device."""

_all = dict.fromkeys
_TABLE: dict[type[Exception], HttpError] = {
    # What is not there.
    **_all((NotFound, WebhookNotFound, preview.ListMissing), _NOT_FOUND),
    device.DeviceNotFound: HttpError(404, "DeviceNotFound", number=404001),
    device.ModuleNotFound: HttpError(404, "ModuleNotFound", number=404010),
    DeviceNotOnline: HttpError(404, "DeviceNotOnline", number=404103),
    deployment.DeploymentNotFound: HttpError(404, "ConfigurationNotFound"),
    readiness.WaiverNotFound: HttpError(404, "WaiverNotFound"),
    rollout.RolloutNotFound: HttpError(404, "RolloutNotFound"),
    update.UpdateNotFound: HttpError(404, "UpdateNotFound"),
    update.GroupNotFound: HttpError(404, "GroupNotFound"),
    update.GroupDeploymentNotFound: HttpError(404, "DeploymentNotFound"),
    NotOffered: HttpError(501, "NotImplemented"),
    # What the present state does not allow.
    device.DeviceExists: HttpError(409, "DeviceAlreadyExists", number=409001),
    device.ModuleExists: HttpError(409, "ModuleAlreadyExistsOnDevice", number=409301),
    deployment.DeploymentExists: HttpError(409, "ConfigurationAlreadyExists"),
    deployment.ScheduleForbidden: HttpError(409, "ConfigurationStateConflict"),
    rollout.RolloutExists: HttpError(409, "RolloutAlreadyExists"),
    **_all((rollout.NotToBeRolledOut, rollout.RolloutForbidden, rollout.RolloutActive), _ROLLOUT_CONFLICT),
    update.UpdateExists: HttpError(409, "UpdateAlreadyExists"),
    update.GroupDeploymentExists: HttpError(409, "DeploymentAlreadyExists"),
    update.UpdateInUse: HttpError(409, "UpdateInUse"),
    **_all((update.GroupBusy, update.GroupDeploymentForbidden), _UPDATE_CONFLICT),
    **_all((device.EtagMismatch, deployment.DeploymentEtagMismatch, EtagMissing), _PRECONDITION),
    **_all((preview.PreviewDiffers, preview.PreviewTokenInvalid), _DIFFERS),
    preview.PreviewRequired: HttpError(428, "PreviewRequired"),
    IdempotencyKeyReused: HttpError(422, "IdempotencyKeyReused"),
    device.TooManyModules: HttpError(413, "TooManyModulesOnDevice", number=413003),
    deployment.DeploymentsFull: HttpError(413, "ConfigurationCountLimitExceeded"),
    log.EventTooLarge: _TOO_LARGE,
    # What the caller may not do.
    **_all((Unauthorized, Forbidden, ModulesOutOfReach, OutOfDeviceScope), _UNAUTHORIZED),
    access.OutOfScope: HttpError(401, "IotHubUnauthorizedAccess"),
    device.SystemModuleReserved: HttpError(401, "SystemModuleModifyUnauthorizedAccess"),
    RequestNotLocal: HttpError(403, "Forbidden"),
    NotJson: HttpError(415, "UnsupportedMediaType"),
    # Without Retry-After: clients of the hub have their own retry policies (contract/hub.md §1.10).
    Throttled: HttpError(429, "ThrottlingException", number=429001),
    TooManyAtOnce: TOO_MANY,
    # What cannot be answered now, or until an operator repairs it.
    **_all((log.LogUnavailable, log.ObjectStoreUnavailable, secrets.SecretsUnavailable), BUSY),
    **_all((producer.ConflictPersists, preview.PreviewBehind), BUSY),
    **_all(DAMAGE, HttpError(500, "LogDamaged")),
    **_all((log.SegmentMissing, log.SegmentDamaged, log.ManifestDamaged), _ARCHIVE_DAMAGED),
    # What breaks a rule.
    ConditionInvalid: HttpError(400, "InvalidConfigurationTargetCondition"),
    **_all((ManifestInvalid, ContentMissing, readiness.NotReady), _CONTENT),
    deployment.MetricsInvalid: HttpError(400, "InvalidConfigurationCustomMetricsQuery"),
    deployment.ScheduleInvalid: HttpError(400, "InvalidConfigurationSchedule"),
    rollout.PlanInvalid: HttpError(400, "InvalidRolloutPlan"),
    **_all((device.DeviceError, deployment.DeploymentError, rollout.RolloutError, update.UpdateError), BAD_REQUEST),
    **_all((producer.ProducerError, secrets.SecretsError, access.AccessError, WebhookError), BAD_REQUEST),
    **_all((readiness.ReadinessError, audit.SearchInvalid, audit.LocationInvalid, BodyInvalid), BAD_REQUEST),
    **_all((QueryInvalid, ContinuationInvalid, PositionsInvalid, NotInThePast), BAD_REQUEST),
    **_all((history.PointInTimeInvalid, history.PointInTimeAhead, history.PointInTimeTooEarly), BAD_REQUEST),
    history.PastIsFixed: BAD_REQUEST,
}

EXPECTED = tuple(_TABLE)


def answer_of(error: Exception) -> HttpError:
    """The status and code of an expected error: those of its own class, else of the nearest base class in the table."""
    return next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)


def text_of(error: Exception, *, is_limited: bool = False) -> str:
    """The message of an error, shortened to 4000 characters. A caller who `is_limited` to some devices learns of no other's."""
    if is_limited and isinstance(error, DAMAGE):
        return "an event of the log cannot be applied; the operator of twinfold has to decide on it"
    # A manifest can have as many problems as it has members.
    text = str(error)
    return text if len(text) <= _TEXT_CHARACTERS_MAX else f"{text[:_TEXT_CHARACTERS_MAX]} … (shortened)"


def hub_error(answer: HttpError, message: str, *, request_id: str, at: int) -> HubErrorAnswer:
    """An error of the hub's paths; `at` is in milliseconds since 1970."""
    time = dt.datetime.fromtimestamp(at / 1000, dt.UTC).strftime("%m/%d/%Y %H:%M:%S")
    return HubErrorAnswer(
        f"ErrorCode:{answer.code};{message}",
        f"Tracking ID:{request_id}-G:0-TimeStamp:{time}",
        answer.number or msgspec.UNSET,
    )
