"""What all paths under `/v1` have in common: their prefix and their errors."""

from services.api.http.access import Access
from services.api.http.errors import ErrorAnswer
from services.api.http.router import DeclaringRouter


def v1_router(below: str = "", *, read: Access | None = None, write: Access | None = None) -> DeclaringRouter:
    """A router for paths under `/v1`. `read` and `write` are the access of its routes that declare none of their own."""
    return DeclaringRouter(read=read, write=write, prefix=f"/v1{below}", tags=["v1"], error=ErrorAnswer)
