"""Queries of devices, modules and jobs, page by page (contract/hub.md §1.8)."""

from typing import Annotated

from fastapi import Header, Request

from events.projection_store.query_engine import PAGE_DEFAULT, PAGE_MAX
from events.query import tree
from events.query.evaluate import QueryRow
from events.query.parse import parse as parse_query
from services.api.context.request import caller_of, context_of
from services.api.http.access import TWIN_READ, Access
from services.api.http.body_examples import example
from services.api.http.json_answer import JsonAnswer
from services.api.http.openapi import PAGED
from services.api.http.request_costs import QUERY
from services.api.hub.bodies import HubBody
from services.api.hub.router import hub_router

router = hub_router()


class QueryBody(HubBody):
    """A query to run."""

    model_config = example({"query": "SELECT deviceId, tags.site FROM devices WHERE tags.site = 'north'"})

    query: str


@router.post("/devices/query", responses=PAGED)
@Access(TWIN_READ, scope="handler", at=True, cost=QUERY)
def run_query(
    request: Request,
    body: QueryBody,
    size: Annotated[int, Header(alias="x-ms-max-item-count", ge=1)] = PAGE_DEFAULT,
    continuation: Annotated[str | None, Header(alias="x-ms-continuation")] = None,
) -> JsonAnswer[list[QueryRow]]:
    """One page of a query. The header `x-ms-continuation` of the answer asks for the next page; the last page has none."""
    context, query = context_of(request), parse_query(body.query)
    # A query could find a personal tag's value by trying one value after the other.
    context.vault.personal.check_query(body.query)
    position = context.continuations.open(continuation)
    page = context.query_engine.page(
        query, size=min(size, PAGE_MAX), continuation=position, scope=caller_of(request).limit
    )
    is_of_jobs = query.source is tree.QuerySource.JOBS
    headers = {"x-ms-item-type": "DeviceJob" if is_of_jobs else "Raw" if query.select else "Twin"}
    if page.continuation is not None:
        headers["x-ms-continuation"] = context.continuations.seal(page.continuation)
    return JsonAnswer(page.rows, headers=headers)
