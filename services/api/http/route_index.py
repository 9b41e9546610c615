"""The route of a request, found before its body is read, without trying all routes one by one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access, access_of
from services.api.http.handler_call import HandlerCall
from services.api.http.request_costs import READ, WRITE, Cost
from services.api.http.turns import RequestKind

_READ_METHODS = {"GET", "HEAD", "OPTIONS"}


class RoutesUndeclared(Exception):
    """Routes lack a declaration of access, or have one that does not fit their paths; the message names them."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(f"every route declares its access (services/api/http/access.py): {'; '.join(problems)}")


class RouteHandler(msgspec.Struct, frozen=True):
    """The framework's route, and what runs its dependencies and its handler."""

    route: BaseRoute
    app: ASGIApp


class RouteMatch(msgspec.Struct, frozen=True):
    """A request's route, and the variables of its path.

    `exists` is false if no route has the path and the method: the request is authorized, and answered with 405 if
    `path_exists`, or 404.
    """

    method: str
    path: str
    access: Access
    device_id: str | None = None
    module_id: str | None = None
    path_exists: bool = True
    path_params: Mapping[str, Any] = {}
    handler: RouteHandler | None = None

    @property
    def exists(self) -> bool:
        """Whether a route has the path and the method."""
        return self.handler is not None

    def cost(self, query: bytes) -> Cost:
        """The limits of the request."""
        cost = self.access.cost or (READ if self.method in _READ_METHODS else WRITE)
        # A replay and a preview take up to seconds of a processor on every route.
        if b"at=" in query or b"preview=" in query:
            return msgspec.structs.replace(cost, work=RequestKind.LONG)
        return cost


class _Route(msgspec.Struct, frozen=True):
    methods: frozenset[str]
    path: re.Pattern[str]
    access: Access
    handler: RouteHandler


class RouteIndex:
    """The routes of an application by the first segment of their paths, or the first two under `/v1`.

    Finds the same route as the framework: the first whose path and method fit.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        """Index all routes, those of included routers too; RoutesUndeclared if an access is missing or does not fit."""
        self._routes: dict[str, list[_Route]] = {}
        problems: list[str] = []
        for context in iter_route_contexts(routes):
            path, methods = context.path or "", frozenset(context.methods or ())
            access = access_of(context.original_route)
            problems += (f"{' '.join(sorted(methods))} {path} {problem}" for problem in _problems(context, access))
            if access is not None:
                app = HandlerCall(context) if isinstance(context.original_route, APIRoute) else context.app
                handler = RouteHandler(context.original_route, app)
                self._routes.setdefault(_head(path), []).append(_Route(methods, context.path_regex, access, handler))
        if problems:
            raise RoutesUndeclared(problems)

    def match(self, method: str, path: str) -> RouteMatch:
        """The route of a request; `path` is decoded, and `method` is as the client sent it.

        An unknown method of a path requires the permissions of another of its methods, preferably one that reads or writes as
        well. An unknown path requires the permission to read or write the registry.
        """
        # Without permission, a caller cannot find out which paths and methods exist: they get 401, not 404 or 405.
        reads, fitting = method in _READ_METHODS, list[tuple[bool, RouteMatch]]()
        for route in self._routes.get(_head(path), ()):
            fields = route.path.match(path)
            if fields is None:
                continue
            names = fields.groupdict()
            device_id, module_id = names.get("device_id"), names.get("module_id")
            if method in route.methods:
                return RouteMatch(
                    method, path, route.access, device_id, module_id, path_params=names, handler=route.handler
                )
            match = RouteMatch(method, path, route.access, device_id, module_id)
            fitting.append((("GET" in route.methods) is reads, match))
        if not fitting:
            return RouteMatch(method, path, Access(REGISTRY_READ if reads else REGISTRY_WRITE), path_exists=False)
        return next((match for is_alike, match in fitting if is_alike), fitting[0][1])

    def methods(self, path: str) -> list[str]:
        """The methods of a path, sorted; of two paths that fit, those of the path with fewer variables."""
        fitting = [route for route in self._routes.get(_head(path), ()) if route.path.match(path)]
        fewest = min((route.path.groups for route in fitting), default=0)
        return sorted({method for route in fitting if route.path.groups == fewest for method in route.methods})


def _head(path: str) -> str:
    """The part of a path in which no route has a variable."""
    segments = path.split("/", 3)[1:3]
    return "/".join(segments if segments[:1] == ["v1"] else segments[:1])


def _problems(route: RouteContext, access: Access | None) -> Iterator[str]:
    if access is None:
        yield "declares nothing"
        return
    path = route.path or ""
    if "{" in _head(path):
        yield "begins with a variable"
    names_device = "{device_id}" in path
    if (access.own or access.scope in {"device", "new device"}) and not names_device:
        yield "declares something of a device, and its path names none"
    if access.scope == "handler" and names_device:
        yield "leaves the device of its path to the handler"
