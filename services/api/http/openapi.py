"""How routes describe what their answers' types do not say: headers, answers without a body, and the ways of refusing."""

from typing import Any

Responses = dict[int | str, dict[str, Any]]
"""Entries of a route by status, as FastAPI takes them."""


def header(text: str, *, required: bool = True) -> dict[str, Any]:
    """A header of an answer."""
    return {"description": text, "required": required, "schema": {"type": "string"}}


ETAG = {"ETag": header("What If-Match takes, in quotes.")}


PAGED = {
    "x-ms-item-type": header("Twin, Raw or DeviceJob."),
    "x-ms-continuation": header("Asks for the next page; not there on the last one.", required=False),
}


def with_headers(headers: dict[str, Any], *, status: int = 200) -> Responses:
    """The entry of an answer with headers of its own."""
    return {status: {"headers": headers}}


def refusals() -> Responses:
    """How every path of a router refuses."""
    responses = {
        400: "The request breaks a rule; the message names the element and the rule.",
        401: "Nobody knows who the request is from, or it is not for them.",
        403: "With open access: it comes from a web page of another origin, or the host is not that of loopback.",
        404: "There is no such thing.",
        409: "There is one already, or it does not go together with what stands.",
        408: "The body did not come in time; send it again.",
        412: "The etag is not the one that stands, a delete came without, or the assignment change is not what the preview showed.",
        413: "It does not fit into one event, or into one request (docs/reference/api.md, Limits).",
        415: "With open access: its body is not declared as JSON.",
        422: "Its Idempotency-Key came with another request before.",
        428: "It affects so many devices that it needs the token of a preview (docs/guides/preview.md).",
        429: "It is too much at once; the message says how long to wait, or that an answer has to come first.",
        503: "Redis does not answer; ask again after `Retry-After` seconds.",
    }
    return {status: {"description": text} for status, text in responses.items()}
