"""The subject of a check: documents merged in order, and the location in a document of each merged element."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import msgspec

from events.canonical import Json, JsonObject
from events.manifest import create_options, placeholders
from events.manifest.document import (
    AGENT,
    DESIRED,
    DEVICE,
    HUB,
    MODULE,
    ContentKind,
    by_module,
    content_of,
    is_layered,
    kind_of,
)
from events.manifest.errors import CreateOptionsInvalid, RouteInvalid
from events.manifest.merge import merge
from events.manifest.problem import Problem
from events.manifest.routes import Route, parse_route
from events.manifest.validate import problems
from events.readiness.finding import ElementLocation, Hit
from events.readiness.host_facts import HostFacts
from events.readiness.module import Module, object_of
from events.readiness.pointer import Operation, pointer

SYSTEM = {"edgeAgent": AGENT, "edgeHub": HUB}
"""Name of a system module in `systemModules` → name of its twin."""


class Setting(msgspec.Struct, frozen=True):
    """One path that a document sets in a module's desired properties; `pointer` is its location in the document."""

    twin: str
    path: tuple[str, ...]
    pointer: str
    value: Json


class Document(msgspec.Struct, frozen=True):
    """A document to check: a manifest file, a deployment, or the effective configuration of a device.

    `root` is the pointer to the content by module, and `edge` is true for `modulesContent`. In a `template`, placeholders
    and createOptions as objects are allowed. `doubled` are pointers to members whose name occurs again in the same object.
    """

    name: str
    content: Json
    root: str
    settings: tuple[Setting, ...]
    edge: bool
    layered: bool
    template: bool = False
    priority: int | None = None
    labels: dict[str, str] = {}
    doubled: tuple[str, ...] = ()


class WrittenRoute(msgspec.Struct, frozen=True):
    """A route of the edge hub; `parsed` is the error if the route does not follow the grammar."""

    path: tuple[str, ...]
    value: Json
    text: str
    parsed: Route | RouteInvalid


class ReadinessSubject(msgspec.Struct, frozen=True, dict=True):
    """Documents in ascending priority, of which the last one is checked, and the host facts of a device, if any."""

    documents: tuple[Document, ...]
    host: HostFacts | None = None
    host_problem: str = ""

    @property
    def last(self) -> Document:
        """The document that is checked."""
        return self.documents[-1]

    @cached_property
    def whole(self) -> bool:
        """Whether the merge is a whole configuration, because the first document is a standard manifest."""
        return self.documents[0].edge and not self.documents[0].layered

    @cached_property
    def template(self) -> bool:
        """Whether any document is a template."""
        return any(document.template for document in self.documents)

    @cached_property
    def sections(self) -> dict[str, JsonObject]:
        """The merged desired properties by module."""
        return _merged(self.documents)

    @cached_property
    def sections_before(self) -> dict[str, JsonObject]:
        """The merged desired properties without the last document; empty if it is the only one."""
        return _merged(self.documents[:-1])

    @cached_property
    def agent(self) -> JsonObject:
        """The merged section of `$edgeAgent`."""
        return self.sections.get(AGENT, {})

    @cached_property
    def hub(self) -> JsonObject:
        """The merged section of `$edgeHub`."""
        return self.sections.get(HUB, {})

    @cached_property
    def modules(self) -> tuple[Module, ...]:
        """The system modules, then the user's modules; entries that are not objects are skipped."""
        return tuple(_modules_of(self))

    @cached_property
    def user_modules(self) -> tuple[Module, ...]:
        """The user's modules."""
        return tuple(module for module in self.modules if not module.system)

    @cached_property
    def system_modules(self) -> dict[str, Module]:
        """The system modules by name, `$edgeAgent` and `$edgeHub`."""
        return {module.name: module for module in self.modules if module.system}

    @cached_property
    def routes(self) -> tuple[WrittenRoute, ...]:
        """The routes whose text has no placeholder."""
        result = []
        for name, value in object_of(self.hub.get("routes")).items():
            text = value.get("route") if isinstance(value, dict) else value
            if isinstance(text, str) and not placeholders.variables(text):
                result.append(WrittenRoute(("routes", name), value, text, _parsed(text)))
        return tuple(result)

    @cached_property
    def registries(self) -> dict[str, JsonObject]:
        """The registry credentials by name."""
        settings = object_of(object_of(self.agent.get("runtime")).get("settings"))
        credentials = object_of(settings.get("registryCredentials"))
        return {name: value for name, value in credentials.items() if isinstance(value, dict)}

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of the last document, by the validation of manifests."""
        return problems(self.last.content)

    def location(self, twin: str, path: Sequence[str] = ()) -> ElementLocation:
        """Return where an element of a merged section was written, or the closest location to it.

        The last document wins among those that are equally close, because its value overrides the earlier ones.
        """
        best, nearness = ElementLocation(len(self.documents) - 1, self.last.root, whole=False), 1
        for number in range(len(self.documents)):
            for setting in self._settings.get((number, twin), ()):
                near, location = _near(setting, tuple(path), number)
                if near >= nearness:
                    best, nearness = location, near
        return best

    def hit(
        self,
        message: str,
        *,
        module: str = "",
        twin: str = "",
        path: Sequence[str] = (),
        detail: str = "",
        fix: Sequence[Operation] = (),
    ) -> Hit:
        """Return a hit at an element of a merged section; without `twin`, at the whole last document."""
        location = (
            self.location(twin, path) if twin else ElementLocation(len(self.documents) - 1, self.last.root, whole=True)
        )
        return Hit(module, message, location, twin, tuple(path), detail, tuple(fix))

    def module_hit(
        self, module: Module, message: str, *path: str, detail: str = "", fix: Sequence[Operation] = ()
    ) -> Hit:
        """Return a hit at a module, or at a member of the module."""
        return self.hit(message, module=module.name, twin=AGENT, path=(*module.path, *path), detail=detail, fix=fix)

    def options_hit(self, module: Module, message: str, *, detail: str = "", fix: Sequence[Operation] = ()) -> Hit:
        """Return a hit at a module's createOptions."""
        first = min(module.chunks, key=len, default="createOptions")
        return self.module_hit(module, message, "settings", first, detail=detail, fix=fix)

    def added(self, twin: str, path: Sequence[str], value: Json) -> tuple[Operation, ...]:
        """Return a patch of the last document that adds a missing value and its parent objects; empty if impossible."""
        location = self.location(twin, path)
        if location.whole or location.document != len(self.documents) - 1:
            return ()
        # The closest existing parent gets the value, with the missing objects around it.
        for depth in range(len(path) - 1, -1, -1):
            above = self.location(twin, path[:depth])
            if above.whole and above.document == location.document:
                if not above.open:
                    break
                for name in reversed(path[depth + 1 :]):
                    value = {name: value}
                return (Operation("add", above.pointer + pointer(path[depth]), value),)
        return ()

    def removed(self, twin: str, path: Sequence[str]) -> tuple[Operation, ...]:
        """Return a patch of the last document that removes an element; empty if impossible."""
        location = self.location(twin, path)
        return (Operation("remove", location.pointer),) if self._ours(location) else ()

    def options_replaced(self, module: Module, options: JsonObject, *, as_text: bool = False) -> tuple[Operation, ...]:
        """Return a patch of the last document that replaces a module's createOptions; empty if impossible.

        Text that is too long for one string of a twin is split into chunks. An object stays an object, unless `as_text`.
        """
        location = self.location(AGENT, (*module.path, "settings"))
        if not self._ours(location) or not location.open:
            return ()
        written = module.chunks
        if not as_text and any(isinstance(value, dict) for value in written.values()):
            new_settings: dict[str, Json] = {next(iter(written)): options}
        else:
            try:
                new_settings = {**create_options.split(msgspec.json.encode(options).decode())}
            except (CreateOptionsInvalid, OverflowError, RecursionError, UnicodeEncodeError):
                return ()  # too many chunks, or a value that only a text can hold, such as an integer over 64 bits
        steps = [Operation("remove", location.pointer + pointer(name)) for name in written if name not in new_settings]
        # Unchanged chunks are not written, so that a diff shows only the fix.
        steps += [
            Operation("replace" if name in written else "add", location.pointer + pointer(name), value)
            for name, value in new_settings.items()
            if written.get(name) != value
        ]
        return tuple(steps)

    def _ours(self, location: ElementLocation) -> bool:
        return location.whole and location.document == len(self.documents) - 1

    @cached_property
    def _settings(self) -> dict[tuple[int, str], list[Setting]]:
        by_twin: dict[tuple[int, str], list[Setting]] = {}
        for number, document in enumerate(self.documents):
            for setting in document.settings:
                by_twin.setdefault((number, setting.twin), []).append(setting)
        return by_twin


def read_document(raw: Json, *, name: str, template: bool = False, doubled: tuple[str, ...] = ()) -> Document:
    """Read a manifest, with or without the wrapper of a configuration. Any JSON value is accepted."""
    content = content_of(raw)
    wrapper = raw if isinstance(raw, dict) and "content" in raw else {}
    inner = wrapper.get("content", raw)
    edge, layered, root = False, False, ""
    settings: tuple[Setting, ...] = ()
    if isinstance(content, dict):
        kind = kind_of(content)
        edge, layered = isinstance(content.get(ContentKind.EDGE.value), dict), is_layered(content)
        # A manifest in the old form has the modules in moduleContent, where its pointers must lead.
        written = kind.value if isinstance(inner, dict) and kind.value in inner else ContentKind.MODULE.value
        if isinstance(inner, dict) and written in inner:
            root = pointer(*(["content"] if wrapper else []), written)
        settings = tuple(_settings_of(content, root))
    wrapper_id, priority = wrapper.get("id"), wrapper.get("priority")
    return Document(
        name=wrapper_id if isinstance(wrapper_id, str) and wrapper_id else name,
        content=content,
        root=root,
        settings=settings,
        edge=edge,
        layered=edge and layered,
        template=template
        or (isinstance(inner, dict) and "$schema-template" in inner)
        or _has_template_images(settings),
        priority=priority if isinstance(priority, int) and not isinstance(priority, bool) else None,
        labels={key: value for key, value in object_of(wrapper.get("labels")).items() if isinstance(value, str)},
        doubled=doubled,
    )


def subject_of_sections(
    sections: Mapping[str, JsonObject],
    *,
    name: str,
    host: HostFacts | str | None = None,
    labels: Mapping[str, str] = {},
) -> ReadinessSubject:
    """Return the subject for an effective configuration and the host facts of its device.

    `host` is an error text if the host facts cannot be read. Pointers have the form of a manifest:
    `/modulesContent/{module}/properties.desired/…`.
    """
    raw = {ContentKind.EDGE.value: {module: {DESIRED: section} for module, section in sections.items()}}
    document = msgspec.structs.replace(read_document(raw, name=name), labels=dict(labels))
    if isinstance(host, str):
        return ReadinessSubject((document,), host_problem=host)
    return ReadinessSubject((document,), host)


def _modules_of(subject: ReadinessSubject) -> Iterator[Module]:
    for group in ("systemModules", "modules"):
        for name, spec in object_of(subject.agent.get(group)).items():
            if isinstance(spec, dict) and (group == "modules" or name in SYSTEM):
                path = (group, name)
                whole = subject.whole or subject.location(AGENT, path).whole
                yield Module(SYSTEM[name] if group == "systemModules" else name, path, spec, whole)


def _settings_of(content: JsonObject, above: str) -> Iterator[Setting]:
    modules: Json = by_module(content)
    if not isinstance(modules, dict):  # by_module expects a valid content, and this one is not yet validated
        return
    for twin, paths in modules.items():
        inside = above if twin in (DEVICE, MODULE) else above + pointer(twin)
        for path, value in object_of(paths).items():
            names = path.split(".")
            proper = path == DESIRED or (path.startswith(f"{DESIRED}.") and "" not in names)
            if proper and (path != DESIRED or isinstance(value, dict)):
                yield Setting(twin, tuple(names[2:]), inside + pointer(path), value)


def _has_template_images(settings: Sequence[Setting]) -> bool:
    for setting in settings:
        for modules in (object_of(setting.value).get("modules"), setting.value):
            for module in object_of(modules).values():
                image = object_of(object_of(module).get("settings")).get("image")
                # The build replaces ${MODULES.<name>.<platform>} by an image, so only templates have it.
                if isinstance(image, str) and image.startswith("${MODULES."):
                    return True
    return False


def _merged(documents: Sequence[Document]) -> dict[str, JsonObject]:
    contents: list[JsonObject] = []
    for document in documents:
        modules: JsonObject = {}
        for setting in document.settings:
            modules.setdefault(setting.twin, {})[".".join((DESIRED, *setting.path))] = setting.value
        contents.append(modules)
    return merge({}, contents)


def _parsed(text: str) -> Route | RouteInvalid:
    try:
        return parse_route(text)
    except RouteInvalid as error:
        return error


def _near(setting: Setting, path: tuple[str, ...], document: int) -> tuple[int, ElementLocation]:
    """Return how close a setting is to an element, and its location; 0 if it sets something else.

    The element itself is closest, then a part of it, then its deepest existing parent. The weights keep this order at
    every depth: 2 * depth + 2 for the element or a parent, 2 * length of the path + 1 for a part.
    """
    depth, at, value = len(setting.path), setting.pointer, setting.value
    if depth > len(path):
        part = setting.path[: len(path)] == path
        return 2 * len(path) + 1 if part else 0, ElementLocation(document, at, whole=False)
    if path[:depth] != setting.path:
        return 0, ElementLocation(document, at, whole=False)
    for name in path[depth:]:
        if not isinstance(value, dict) or name not in value:
            return 2 * depth + 2, ElementLocation(document, at, whole=False)
        value, depth = value[name], depth + 1
        at += pointer(name)
    return 2 * depth + 2, ElementLocation(document, at, whole=True, open=isinstance(value, dict))
