"""What is checked: documents laid over each other, and the way back from a merged element to where it was written."""

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
from events.readiness.pointer import Operation, pointer

SYSTEM = {"edgeAgent": AGENT, "edgeHub": HUB}
"""How the system's modules are called in `systemModules` → how they are called here."""


class Setting(msgspec.Struct, frozen=True):
    """One path that a document sets in a module's desired properties, and where it does."""

    twin: str
    path: tuple[str, ...]
    pointer: str
    value: Json


class Document(msgspec.Struct, frozen=True):
    """One content: a manifest's file, a deployment, or the merged sections of a device.

    `root` leads to what it says by module, `edge` says that this is `modulesContent`. In a `template`,
    placeholders and createOptions as objects are right. `doubled` are the pointers to members of a text whose names another
    member of the same object has.
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


class Module(msgspec.Struct, frozen=True, dict=True):
    """A module as the merged sections have it; `path` is where in `$edgeAgent`.

    `whole` says that there is no more of it. Otherwise a layer alone changes some of its members, and what is missing may
    stand in its base.
    """

    name: str
    path: tuple[str, ...]
    spec: JsonObject
    whole: bool

    @property
    def system(self) -> bool:
        """Whether it is the agent or the hub."""
        return self.path[0] == "systemModules"

    @cached_property
    def settings(self) -> JsonObject:
        """Its image and createOptions; empty if they are no object."""
        return _object(self.spec.get("settings"))

    @cached_property
    def image(self) -> str:
        """Its image as written, without surrounding space; empty if there is none."""
        image = self.settings.get("image")
        return image.strip() if isinstance(image, str) else ""

    @cached_property
    def env(self) -> dict[str, Json]:
        """Values of its environment by name."""
        return {
            name: value["value"]
            for name, value in _object(self.spec.get("env")).items()
            if isinstance(value, dict) and "value" in value
        }

    def variable(self, name: str) -> Json:
        """The value of an environment variable, in whatever case its name is written; `None` where there is none."""
        return member(self.env, name)

    def at(self, name: str) -> tuple[str, str]:
        """Where in the module an environment variable is set, in whatever case; or where it would be."""
        return "env", next((key for key in self.env if key.lower() == name.lower()), name)

    @cached_property
    def chunks(self) -> dict[str, Json]:
        """Those of its settings that hold createOptions."""
        return {name: value for name, value in self.settings.items() if create_options.is_chunk(name)}

    @cached_property
    def written_options(self) -> JsonObject | CreateOptionsInvalid:
        """Its createOptions, an object or one in text; or why they are none."""
        chunks = list(self.chunks.values())
        if len(chunks) == 1 and isinstance(chunks[0], dict):
            return chunks[0]
        try:
            return create_options.parse(create_options.join(self.chunks))
        except CreateOptionsInvalid as error:
            return error

    @cached_property
    def options(self) -> JsonObject:
        """Its createOptions; empty if they cannot be read."""
        options = self.written_options
        return options if isinstance(options, dict) else {}

    @cached_property
    def host_config(self) -> JsonObject:
        """The member HostConfig of its createOptions; empty if it is no object."""
        return _object(member(self.options, "HostConfig"))


class WrittenRoute(msgspec.Struct, frozen=True):
    """A route of the hub; `parsed` says why where it does not follow the grammar."""

    path: tuple[str, ...]
    value: Json
    text: str
    parsed: Route | RouteInvalid


class ReadinessSubject(msgspec.Struct, frozen=True, dict=True):
    """Documents in ascending priority, the last one being the one that is asked about, and what is known of a device."""

    documents: tuple[Document, ...]
    host: HostFacts | None = None
    host_problem: str = ""

    @property
    def last(self) -> Document:
        """The document that is asked about."""
        return self.documents[-1]

    @cached_property
    def whole(self) -> bool:
        """Whether the merge is all that a device runs: it begins with a standard manifest."""
        return self.documents[0].edge and not self.documents[0].layered

    @cached_property
    def template(self) -> bool:
        """Whether any document is a template."""
        return any(document.template for document in self.documents)

    @cached_property
    def sections(self) -> dict[str, JsonObject]:
        """What each module is to have, once documents are merged."""
        return _merged(self.documents)

    @cached_property
    def sections_before(self) -> dict[str, JsonObject]:
        """The same without the last document; empty if it is the only one."""
        return _merged(self.documents[:-1])

    @cached_property
    def agent(self) -> JsonObject:
        """What the agent is to have."""
        return self.sections.get(AGENT, {})

    @cached_property
    def hub(self) -> JsonObject:
        """What the hub is to have."""
        return self.sections.get(HUB, {})

    @cached_property
    def modules(self) -> tuple[Module, ...]:
        """The system's modules, then the user's, as far as they are objects."""
        return tuple(modules_of(self))

    @cached_property
    def user_modules(self) -> tuple[Module, ...]:
        """The user's modules."""
        return tuple(module for module in self.modules if not module.system)

    @cached_property
    def system_modules(self) -> dict[str, Module]:
        """The system's modules by their names, `$edgeAgent` and `$edgeHub`."""
        return {module.name: module for module in self.modules if module.system}

    @cached_property
    def routes(self) -> tuple[WrittenRoute, ...]:
        """The routes that have a text."""
        result = []
        for name, value in _object(self.hub.get("routes")).items():
            text = value.get("route") if isinstance(value, dict) else value
            if isinstance(text, str) and not placeholders.variables(text):
                result.append(WrittenRoute(("routes", name), value, text, _parsed(text)))
        return tuple(result)

    @cached_property
    def registries(self) -> dict[str, JsonObject]:
        """Credentials of registries by name."""
        settings = _object(_object(self.agent.get("runtime")).get("settings"))
        credentials = _object(settings.get("registryCredentials"))
        return {name: value for name, value in credentials.items() if isinstance(value, dict)}

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """What the validation of manifests says of the last document."""
        return problems(self.last.content)

    def location(self, twin: str, path: Sequence[str] = ()) -> ElementLocation:
        """Where an element of a merged section was written: by the last of the documents that go furthest towards it."""
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
        """A hit at an element of a merged section, or at the whole of it."""
        location = (
            self.location(twin, path) if twin else ElementLocation(len(self.documents) - 1, self.last.root, whole=True)
        )
        return Hit(module, message, location, twin, tuple(path), detail, tuple(fix))

    def module_hit(
        self, module: Module, message: str, *path: str, detail: str = "", fix: Sequence[Operation] = ()
    ) -> Hit:
        """A hit at a module, or at a member of it."""
        return self.hit(message, module=module.name, twin=AGENT, path=(*module.path, *path), detail=detail, fix=fix)

    def options_hit(self, module: Module, message: str, *, detail: str = "", fix: Sequence[Operation] = ()) -> Hit:
        """A hit at a module's createOptions."""
        first = min(module.chunks, key=len, default="createOptions")
        return self.module_hit(module, message, "settings", first, detail=detail, fix=fix)

    def added(self, twin: str, path: Sequence[str], value: Json) -> tuple[Operation, ...]:
        """A patch of the last document that puts a value where none is, with the objects around it; empty if it cannot."""
        location = self.location(twin, path)
        if location.whole or location.document != len(self.documents) - 1:
            return ()
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
        """A patch of the last document that takes an element away; empty if it cannot."""
        location = self.location(twin, path)
        return (Operation("remove", location.pointer),) if self._ours(location) else ()

    def options_replaced(self, module: Module, options: JsonObject, *, as_text: bool = False) -> tuple[Operation, ...]:
        """A patch of the last document that gives a module other createOptions, written as before; empty if it cannot.

        Text that does not fit into one string of a twin is cut into chunks. `as_text` also makes text of an object.
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
                return ()  # values that only a JSON text can hold
        steps = [Operation("remove", location.pointer + pointer(name)) for name in written if name not in new_settings]
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
    """A manifest's document, with or without the wrapper of a configuration; any JSON value is answered."""
    content = content_of(raw)
    document = _wrapper(raw)
    wrapped = isinstance(raw, dict) and "content" in raw
    inner = raw["content"] if wrapped else raw
    edge, layered, root = False, False, ""
    settings: tuple[Setting, ...] = ()
    if isinstance(content, dict):
        kind = kind_of(content)
        edge, layered = isinstance(content.get(ContentKind.EDGE.value), dict), is_layered(content)
        written = kind.value if isinstance(inner, dict) and kind.value in inner else ContentKind.MODULE.value
        if isinstance(inner, dict) and written in inner:
            root = pointer(*(["content"] if wrapped else []), written)
        settings = tuple(_settings(content, root))
    priority, labels = document.get("priority"), document.get("labels")
    return Document(
        name=document["id"] if isinstance(document.get("id"), str) and document["id"] else name,
        content=content,
        root=root,
        settings=settings,
        edge=edge,
        layered=edge and layered,
        template=template
        or (isinstance(inner, dict) and "$schema-template" in inner)
        or _has_template_images(settings),
        priority=priority if isinstance(priority, int) and not isinstance(priority, bool) else None,
        labels={key: value for key, value in _object(labels).items() if isinstance(value, str)},
        doubled=doubled,
    )


def subject_of_sections(
    sections: Mapping[str, JsonObject],
    *,
    name: str,
    host: HostFacts | str | None = None,
    labels: Mapping[str, str] = {},
) -> ReadinessSubject:
    """An effective configuration, with what its device reports of its host if that is known.

    Pointers lead through `/modulesContent/{module}/properties.desired`, as in the manifest that it would be.
    """
    raw = {ContentKind.EDGE.value: {module: {DESIRED: section} for module, section in sections.items()}}
    document = msgspec.structs.replace(read_document(raw, name=name), labels=dict(labels))
    if isinstance(host, str):
        return ReadinessSubject((document,), host_problem=host)
    return ReadinessSubject((document,), host)


def modules_of(subject: ReadinessSubject) -> Iterator[Module]:
    """The system's modules, then the user's, as far as they are objects."""
    for group in ("systemModules", "modules"):
        for name, spec in _object(subject.agent.get(group)).items():
            if isinstance(spec, dict) and (group == "modules" or name in SYSTEM):
                path = (group, name)
                whole = subject.whole or subject.location(AGENT, path).whole
                yield Module(SYSTEM[name] if group == "systemModules" else name, path, spec, whole)


def member(members: Mapping[str, Json], name: str) -> Json:
    """A member in whatever case its name is written, as the engine and the agent read it; `None` where there is none."""
    if name in members:
        return members[name]
    lower_name = name.lower()
    return next((value for key, value in members.items() if key.lower() == lower_name), None)


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _wrapper(raw: Json) -> JsonObject:
    return raw if isinstance(raw, dict) and "content" in raw else {}


def _settings(content: JsonObject, above: str) -> Iterator[Setting]:
    modules: Json = by_module(content)
    if not isinstance(modules, dict):  # by_module reads what has passed validation; this may not have
        return
    for twin, paths in modules.items():
        inside = above if twin in (DEVICE, MODULE) else above + pointer(twin)
        for path, value in _object(paths).items():
            names = path.split(".")
            proper = path == DESIRED or (path.startswith(f"{DESIRED}.") and "" not in names)
            if proper and (path != DESIRED or isinstance(value, dict)):
                yield Setting(twin, tuple(names[2:]), inside + pointer(path), value)


def _has_template_images(settings: Sequence[Setting]) -> bool:
    for setting in settings:
        for modules in (_object(setting.value).get("modules"), setting.value):
            for module in _object(modules).values():
                image = _object(_object(module).get("settings")).get("image")
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
    """How near to an element a setting comes, and where that is; 0 if it sets something else.

    The element itself is nearest, then a part of it, then what is above it.
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
