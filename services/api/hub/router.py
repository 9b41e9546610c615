"""What all paths of the hub have in common: their versions, their errors, and the header `If-Match`."""

from typing import Annotated

from fastapi import Depends, Header, Query

from services.api.http.access import Access
from services.api.http.errors import BodyInvalid, HubErrorAnswer
from services.api.http.router import DeclaringRouter

IDENTITY_SERVICE_VERSION = "2017-11-08-preview"
"""The version that only the IoT identity service of an edge device sends (contract/device.md §2)."""

API_VERSIONS = (
    "2024-03-31",
    "2021-04-12",
    "2020-09-30",
    "2020-06-30-preview",
    "2020-05-31-preview",
    "2020-03-13",
    "2019-10-01",
    "2018-08-30-preview",
    "2018-06-30",
    IDENTITY_SERVICE_VERSION,
)
"""The versions that clients send (contract/hub.md §1, §5). All of them get the same answers."""


# A coroutine, because FastAPI would run a plain function in a thread, and this one runs for every request.
async def check_version(
    version: Annotated[
        str, Query(alias="api-version", examples=[API_VERSIONS[0]], json_schema_extra={"enum": list(API_VERSIONS)})
    ],
) -> None:
    """Refuse a request with an unknown version of the contract."""
    if version not in API_VERSIONS:
        raise BodyInvalid(f"api-version must be one of {', '.join(API_VERSIONS)}, not {version[:40]!r}")


def hub_router(*, read: Access | None = None, write: Access | None = None) -> DeclaringRouter:
    """A router for paths of the hub. `read` and `write` are the access of its routes that declare none of their own."""
    checks = [Depends(check_version)]
    return DeclaringRouter(read=read, write=write, tags=["hub"], error=HubErrorAnswer, dependencies=checks)


IfMatch = Annotated[str | None, Header()]
# With an example of its own: the tests run every example of the description, and a DELETE without a condition is refused.
IfMatchToDelete = Annotated[str | None, Header(examples=["*"])]
