"""What all paths of the update service have in common: the permissions that deployments require."""

from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.request_costs import CONTENT
from services.api.http.router import DeclaringRouter


def device_update_router(below: str = "") -> DeclaringRouter:
    """A router for paths below those of one instance of the service."""
    read, write = Access(REGISTRY_READ, at=False), Access(REGISTRY_WRITE, at=False, cost=CONTENT)
    return DeclaringRouter(read=read, write=write, prefix=below)
