"""The router of the update service's paths (docs/guides/updates.md)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from services.api.device_update import deployments, devices, updates
from services.api.device_update.lists import PREFIX
from services.api.http.errors import BodyInvalid

API_VERSIONS = ("2022-10-01", "2022-07-01-preview", "2026-06-01")
"""The versions that clients send; all get the same answers."""


def known_version(api_version: Annotated[str, Query(alias="api-version")]) -> None:
    """Reject a request without `api-version`, or with an unknown one."""
    if api_version not in API_VERSIONS:
        raise BodyInvalid(f"api-version is one of {', '.join(API_VERSIONS)}, not {api_version[:40]!r}")


router = APIRouter(prefix=f"{PREFIX}/{{instance}}", dependencies=[Depends(known_version)], include_in_schema=False)
for part in (updates.router, devices.router, deployments.router):
    router.include_router(part)
