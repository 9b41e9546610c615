"""`X-HTTP-Method-Override`: the Java service client cannot send PATCH, and sends POST with this header instead."""

from starlette.datastructures import Headers

from services.api.http.errors import BodyInvalid

HEADER = "X-HTTP-Method-Override"
_METHODS = ("PATCH", "PUT", "DELETE")


def method_asked(method: str, headers: Headers) -> str:
    """The method that a request is about: that of the header for a POST, else its own.

    Raises:
        BodyInvalid: the header asks for something else, or does not go with the method.
    """
    given = headers.get(HEADER)
    if given is None or given.upper() == method:
        return method
    if method != "POST" or given.upper() not in _METHODS:
        raise BodyInvalid(
            f"{HEADER} takes {', '.join(_METHODS)} and goes with POST alone, not {given[:20]!r} with {method}"
        )
    return given.upper()
