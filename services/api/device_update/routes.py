"""The update service's paths, as its clients ask for them (docs/guides/updates.md)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from services.api.device_update import deployments as device_update_deployments
from services.api.device_update import devices as device_update_devices
from services.api.device_update import groups as device_update_groups
from services.api.device_update import updates as device_update_updates
from services.api.device_update.lists import PREFIX
from services.api.http.errors import BodyInvalid

API_VERSIONS = ("2022-10-01", "2022-07-01-preview", "2026-06-01")
"""What clients send; all of them get the same answers."""


def known_version(api_version: Annotated[str, Query(alias="api-version")]) -> None:
    """Refuse a request that does not say which version of the contract it speaks, or an unknown one.

    Raises:
        BodyInvalid: names the versions.
    """
    if api_version not in API_VERSIONS:
        raise BodyInvalid(f"api-version is one of {', '.join(API_VERSIONS)}, not {api_version[:40]!r}")


router = APIRouter(prefix=f"{PREFIX}/{{instance}}", dependencies=[Depends(known_version)], include_in_schema=False)
for part in (
    device_update_updates.importing,
    device_update_updates.router,
    device_update_devices.router,
    device_update_groups.router,
    device_update_deployments.router,
):
    router.include_router(part)
