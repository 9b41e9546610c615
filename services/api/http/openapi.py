"""What routes describe besides the types of their answers: headers, answers without a body, and errors."""

from typing import Any

Responses = dict[int | str, dict[str, Any]]
"""Entries of a route by status, as FastAPI takes them."""


def header(text: str, *, required: bool = True) -> dict[str, Any]:
    """The description of a header of an answer."""
    return {"description": text, "required": required, "schema": {"type": "string"}}


ETAG: Responses = {200: {"headers": {"ETag": header("What If-Match takes, in quotes.")}}}
"""An answer with the etag of a resource."""

PAGED: Responses = {
    200: {
        "headers": {
            "x-ms-item-type": header("Twin, Raw or DeviceJob."),
            "x-ms-continuation": header("Continuation of the next page; missing on the last page.", required=False),
        }
    }
}
"""An answer with a page of a query."""

ERRORS: Responses = {
    status: {"description": text}
    for status, text in {
        400: "The request breaks a rule; the message names the element and the rule.",
        401: "The credentials are missing, wrong or expired, or do not allow the request.",
        403: "With open access: the request comes from a web page of another origin, or its host is not loopback.",
        404: "What the path names does not exist.",
        409: "It exists already, or its state does not allow the request.",
        408: "The body did not arrive in time; send the request again.",
        412: "The etag is not the current one, a delete came without an etag, or the result differs from the preview.",
        413: "The request is too large, or does not fit into one event (docs/reference/api.md, Limits).",
        415: "With open access: the body is not declared as JSON.",
        422: "The Idempotency-Key was used for another request before.",
        428: "The write affects more devices than the settings allow without a preview; send the token of a preview"
        " (docs/guides/preview.md).",
        429: "The caller sends too many requests; the message says how long to wait, or to wait for an answer.",
        503: "Redis does not answer; retry after `Retry-After` seconds.",
    }.items()
}
"""The errors that every path of a router may answer."""
