"""What all paths of the hub have in common: their versions, how they refuse, and conditions on etags."""

from typing import Annotated

from fastapi import Depends, Header, Query

from services.api.http.access import Access
from services.api.http.errors import BodyInvalid, HubErrorAnswer
from services.api.http.router import DeclaringRouter

IDENTITY_SERVICE_VERSION = "2017-11-08-preview"
"""What the IoT identity service of an edge device sends, and no other client (contract/device.md §2)."""

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
"""What clients send (contract/hub.md §1, §5); all of them get the same answers."""


async def known_version(
    version: Annotated[
        str, Query(alias="api-version", examples=[API_VERSIONS[0]], json_schema_extra={"enum": list(API_VERSIONS)})
    ],
) -> None:
    """Refuse a request that does not say which version of the contract it speaks, or an unknown one.

    Raises:
        BodyInvalid: names the versions.
    """
    if version not in API_VERSIONS:
        raise BodyInvalid(f"api-version is one of {', '.join(API_VERSIONS)}, not {version[:40]!r}")


def hub_router(*, read: Access | None = None, write: Access | None = None) -> DeclaringRouter:
    """A router for paths of the hub, and what its routes declare unless they say otherwise."""
    return DeclaringRouter(
        read=read,
        write=write,
        tags=["hub"],
        error=HubErrorAnswer,
        dependencies=[Depends(known_version)],
    )


IfMatch = Annotated[str | None, Header()]
IfMatchToDelete = Annotated[str | None, Header(examples=["*"])]
