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
    object_of,
)
from events.manifest.errors import CreateOptionsInvalid, RouteInvalid
from events.manifest.merge import merge
from events.manifest.problem import Problem
from events.manifest.routes import Route, parse_route
from events.manifest.validate import problems
from events.readiness.finding import ElementLocation, Hit
from events.readiness.host_facts import HostFacts
from events.readiness.module import Module
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
    parsed: Route | RouteInvalid


class ReadinessSubject(msgspec.Struct, frozen=True, dict=True):
    """Documents in ascending priority, of which the last one is checked, and the host facts of a device, if any.

    `host` is an error text if the host facts cannot be read. `now` is the time of the check, in milliseconds.
    """

    documents: tuple[Document, ...]
    host: HostFacts | str | None = None
    now: int = 0

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
        return merged(self.documents)

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
        result = []
        for group, names in (("systemModules", SYSTEM), ("modules", None)):
            for name, spec in object_of(self.agent.get(group)).items():
                if isinstance(spec, dict) and (names is None or name in names):
                    whole = self.whole or self.location(AGENT, (group, name)).whole
                    result.append(Module(name if names is None else names[name], (group, name), spec, whole))
        return tuple(result)

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
                try:
                    parsed: Route | RouteInvalid = parse_route(text)
                except RouteInvalid as error:
                    parsed = error
                result.append(WrittenRoute(("routes", name), value, parsed))
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

    def here(self, at: str) -> ElementLocation:
        """Return the location of an existing element of the last document at a pointer."""
        return ElementLocation(len(self.documents) - 1, at, whole=True)

    def location(self, twin: str, path: tuple[str, ...] = ()) -> ElementLocation:
        """Return where an element of a merged section was written, or the closest location to it.

        The element itself is closest, then a part of it, then its deepest existing parent. The last document wins among
        those that are equally close, because its value overrides the earlier ones.
        """
        best, nearness = msgspec.structs.replace(self.here(self.last.root), whole=False), 1
        for number, setting in self._settings.get(twin, ()):
            depth, at, value = len(setting.path), setting.pointer, setting.value
            if setting.path[: len(path)] != path[:depth]:
                continue
            whole = depth <= len(path)
            # The weights keep the order at every depth: a part of the element is just below the element itself.
            near = 2 * depth + 2 if whole else 2 * len(path) + 1
            for name in path[depth:]:
                if not isinstance(value, dict) or name not in value:
                    whole = False
                    break
                value, at, near = value[name], at + pointer(name), near + 2
            if near >= nearness:
                best = ElementLocation(number, at, whole=whole, open=whole and isinstance(value, dict))
                nearness = near
        return best

    def hit(
        self,
        message: str,
        twin: str = "",
        path: tuple[str, ...] = (),
        *,
        module: str = "",
        detail: str = "",
        fix: Sequence[Operation] = (),
    ) -> Hit:
        """Return a hit about a module (default: `twin`) at an element of a merged section, or at the last document."""
        location = self.location(twin, path) if twin else self.here(self.last.root)
        return Hit(module or twin, message, location, twin, path, detail, tuple(fix))

    def module_hit(
        self, module: Module, message: str, *path: str, detail: str = "", fix: Sequence[Operation] = ()
    ) -> Hit:
        """Return a hit at a module, or at a member of the module."""
        return self.hit(message, AGENT, (*module.path, *path), module=module.name, detail=detail, fix=fix)

    def options_hit(self, module: Module, message: str, *, detail: str = "", fix: Sequence[Operation] = ()) -> Hit:
        """Return a hit at a module's createOptions."""
        first = min(module.chunks, key=len, default="createOptions")
        return self.module_hit(module, message, "settings", first, detail=detail, fix=fix)

    def added(self, twin: str, path: tuple[str, ...], value: Json) -> tuple[Operation, ...]:
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

    def removed(self, twin: str, path: tuple[str, ...]) -> tuple[Operation, ...]:
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
    def _settings(self) -> dict[str, list[tuple[int, Setting]]]:
        by_twin: dict[str, list[tuple[int, Setting]]] = {}
        for number, document in enumerate(self.documents):
            for setting in document.settings:
                by_twin.setdefault(setting.twin, []).append((number, setting))
        return by_twin


def read_document(raw: Json, *, name: str, template: bool = False, doubled: tuple[str, ...] = ()) -> Document:
    """Read a manifest, with or without the wrapper of a configuration. Any JSON value is accepted."""
    content = content_of(raw)
    wrapper = raw if isinstance(raw, dict) and "content" in raw else {}
    inner = wrapper.get("content", raw)
    edge, root, settings = False, "", tuple[Setting, ...]()
    if isinstance(content, dict):
        kind, edge = kind_of(content), isinstance(content.get(ContentKind.EDGE.value), dict)
        # A manifest in the old form has the modules in moduleContent, where its pointers must lead.
        written = kind.value if kind.value in object_of(inner) else ContentKind.MODULE.value
        if written in object_of(inner):
            root = pointer(*(["content"] if wrapper else []), written)
        settings = tuple(_settings_of(content, root))
    wrapper_id, priority = wrapper.get("id"), wrapper.get("priority")
    return Document(
        name=wrapper_id if isinstance(wrapper_id, str) and wrapper_id else name,
        content=content,
        root=root,
        settings=settings,
        edge=edge,
        layered=edge and is_layered(content),
        template=template or "$schema-template" in object_of(inner) or _has_template_images(settings),
        priority=priority if isinstance(priority, int) and not isinstance(priority, bool) else None,
        labels={key: value for key, value in object_of(wrapper.get("labels")).items() if isinstance(value, str)},
        doubled=doubled,
    )


def subject_of_sections(
    sections: Mapping[str, JsonObject], *, name: str, host: HostFacts | str | None = None, template: bool = False
) -> ReadinessSubject:
    """Return the subject for an effective configuration and the host facts of its device.

    Pointers have the form of a manifest: `/modulesContent/{module}/properties.desired/…`.
    """
    raw = {ContentKind.EDGE.value: {module: {DESIRED: section} for module, section in sections.items()}}
    return ReadinessSubject((read_document(raw, name=name, template=template),), host)


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
    groups = [group for setting in settings for group in (object_of(setting.value).get("modules"), setting.value)]
    modules = [module for group in groups for module in object_of(group).values()]
    images = [object_of(object_of(module).get("settings")).get("image") for module in modules]
    # The build replaces ${MODULES.<name>.<platform>} by an image, so only templates have it.
    return any(isinstance(image, str) and image.startswith("${MODULES.") for image in images)


def merged(documents: Sequence[Document]) -> dict[str, JsonObject]:
    """Return the merged desired properties by module."""
    contents: list[JsonObject] = []
    for document in documents:
        modules: JsonObject = {}
        for setting in document.settings:
            modules.setdefault(setting.twin, {})[".".join((DESIRED, *setting.path))] = setting.value
        contents.append(modules)
    return merge({}, contents)
