"""The description of the API, and the page /docs that shows it: Swagger UI, with all its files from an installed package."""

from importlib.resources import files

from fastapi import Request
from fastapi.responses import HTMLResponse, Response

from services.api.http.access import Access, Open
from services.api.http.errors import NotFound
from services.api.http.router import DeclaringRouter

_SCRIPT = "text/javascript"
_TYPES = {"swagger-ui-bundle.js": _SCRIPT, "swagger-ui.css": "text/css", "favicon.png": "image/png"}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>twinfold: the API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon.png">
</head>
<body>
<div id="reference"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#reference", deepLinking: true, validatorUrl: null});\n'
_HEADERS = {
    # Swagger UI writes style attributes and draws its icons from data URLs. Scripts come from this server only, none inline.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

router = DeclaringRouter(read=Access(Open.ANYBODY, at=False), include_in_schema=False)


@router.get("/openapi.json")
async def description(request: Request) -> Response:
    """The description of every path, as OpenAPI."""
    return Response(request.app.state.description, media_type="application/json", headers=_HEADERS)


@router.get("/docs")
async def page() -> HTMLResponse:
    """The page that shows the description."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


@router.get("/docs/start.js")
async def start() -> Response:
    """What starts Swagger UI on the page."""
    return Response(_START, media_type=_SCRIPT, headers=_HEADERS)


@router.get("/docs/{name}")
def file(name: str) -> Response:
    """A file of Swagger UI."""
    if name not in _TYPES:
        raise NotFound(f"no file {name[:80]!r} belongs to the page /docs")
    content = (files("fastapi_offline") / "static" / name).read_bytes()
    return Response(content, media_type=_TYPES[name], headers=_HEADERS)
