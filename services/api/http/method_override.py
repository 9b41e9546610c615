"""`X-HTTP-Method-Override`: the Java service client cannot send PATCH, and sends POST with this header instead."""

from starlette.datastructures import Headers

from services.api.http.errors import BodyInvalid

HEADER = "X-HTTP-Method-Override"
_METHODS = ("PATCH", "PUT", "DELETE")


def method_of(method: str, headers: Headers) -> str:
    """The method of a request: for a POST that of the header, else its own.

    Raises:
        BodyInvalid: the header has another value, or comes with another method than POST.
    """
    override = headers.get(HEADER)
    if override is None or override.upper() == method:
        return method
    if method != "POST" or override.upper() not in _METHODS:
        raise BodyInvalid(
            f"{HEADER} takes {', '.join(_METHODS)} and goes with POST alone, not {override[:20]!r} with {method}"
        )
    return override.upper()
