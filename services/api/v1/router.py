"""What all paths under `/v1` have in common: their prefix, and how they refuse."""

from fastapi import APIRouter

from services.api.http.openapi import ErrorAnswer, refusals


def v1_router(below: str = "") -> APIRouter:
    """A router for paths under `/v1`, or below one of them."""
    return APIRouter(prefix=f"/v1{below}", tags=["v1"], responses=refusals(ErrorAnswer))
