"""Names of a fixed set, read in any case on the hub's paths: its clients for Java and Node write `Enabled` and `Create`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from events.device.authentication import MODULE_TYPES

STATUSES = ("enabled", "disabled")
IMPORT_MODES = (
    "create",
    "update",
    "updateIfMatchETag",
    "delete",
    "deleteIfMatchETag",
    "updateTwin",
    "updateTwinIfMatchETag",
)


def _in_any_case(*names: str) -> BeforeValidator:
    """Reads one of these names in any case as the name; any other value stays, so that its own check can name it."""
    by_lower_case = {name.lower(): name for name in names}

    def read(given: Any) -> Any:
        return by_lower_case.get(given.lower(), given) if isinstance(given, str) else given

    return BeforeValidator(read)


IdentityStatus = Annotated[str, _in_any_case(*STATUSES), Field(json_schema_extra={"enum": [*STATUSES]})]
ImportMode = Annotated[str, _in_any_case(*IMPORT_MODES)]
AuthenticationType = Annotated[str, _in_any_case(*MODULE_TYPES)]
