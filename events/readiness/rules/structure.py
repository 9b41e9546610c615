"""Structure: what the agent, the hub or the schema of manifests would refuse."""

import re
from collections.abc import Iterator

from events.canonical import Json
from events.manifest import agent_schema, hub_schema, placeholders
from events.manifest.document import AGENT, DESIRED, HUB, ContentKind
from events.manifest.problem import Problem, Severity
from events.manifest.shape import shown
from events.manifest.validate import section_problems
from events.readiness.finding import ElementLocation, Hit
from events.readiness.pointer import names_of, pointer
from events.readiness.rule import Inspects, module_rule, rule
from events.readiness.subject import Module, ReadinessSubject

_POLICIES = ("never", "on-failure", "on-unhealthy", "always")

_name_fits = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]+").fullmatch
_may_be_secret = re.compile(r"\.env\.|\.registryCredentials\.|\.createOptions").search
_QUOTES_NO_VALUE = ("required", "type", "blank", "name", "limit-string-length", "limit-null", "limit-depth")

# What rules of their own say better, by the name of the problem's rule and the end of its path.
_SAID = (
    ("schema-version", ""),
    ("image", ""),
    ("create-options", ""),
    ("type", "createOptions"),
    ("route", ""),
    ("name", ""),
    ("enum", ".restartPolicy"),
    ("range", ".priority"),
    ("template-placeholder", ""),
    ("layer-system-modules", ""),
    ("agent-missing", ""),
    ("modules-max", ""),
    ("limit-size", ""),
    ("store-and-forward", ""),
    ("unknown-member", ""),
)


@rule(
    "manifest-invalid",
    "The manifest is one",
    Severity.ERROR,
    reason="The hub, or the agent on the device, refuses what does not have the form of a manifest.",
    remedy="Correct what the message names.",
    source="contract/hub.md §3.1, §6; contract/edge.md §1.1, §2",
)
def manifest_invalid(subject: ReadinessSubject) -> Iterator[Hit]:
    """What the validation of manifests refuses, and no other rule speaks of."""
    for problem in subject.problems:
        has_own_rule = any(problem.rule == name and problem.path.endswith(end) for name, end in _SAID)
        if problem.severity is Severity.ERROR and not (has_own_rule and not _unsaid(problem)):
            yield _problem_hit(subject, problem)


@rule(
    "merged-incomplete",
    "What layers and their base add up to is complete",
    Severity.ERROR,
    inspects=Inspects.WHOLE,
    reason="A layer that changes a module which its base does not have makes one of that change alone; the agent refuses it all.",
    remedy="Correct the module's name, or let the layer set the whole module.",
    source="seed 002, layered deployments; contract/edge.md §1.1",
)
def merged_incomplete(subject: ReadinessSubject) -> Iterator[Hit]:
    """An element that only the merge leaves without a member it must have."""
    for problem in section_problems(AGENT, subject.agent) if len(subject.documents) > 1 else ():
        path = _resolved({DESIRED: subject.agent}, problem.path)[1:]
        if problem.rule == "required" and not subject.location(AGENT, path).whole:
            module = path[1] if path[:1] == ["modules"] and len(path) > 1 else AGENT
            message = f"{'.'.join(path)}: {problem.message}"
            yield subject.hit(message, module=module, twin=AGENT, path=path, detail=problem.message)


@rule(
    "unknown-member",
    "The manifest has no members that nothing reads",
    Severity.WARNING,
    reason="Agent and hub take no notice of a member they do not know; from schema version 1.1 tools refuse it.",
    remedy="Correct the name, or remove the member; keep notes in a file beside the manifest.",
    source="contract/edge.md §1.1",
)
def unknown_member(subject: ReadinessSubject) -> Iterator[Hit]:
    """A member of another name."""
    for problem in subject.problems:
        if problem.rule == "unknown-member":
            yield _problem_hit(subject, problem)


@rule(
    "duplicate-member",
    "No object has two members of the same name",
    Severity.ERROR,
    reason="Of members with the same name all readers take the last one: whatever the others say is lost without a word.",
    remedy="Rename or remove all but one of them.",
    source="RFC 8259 §4",
)
def duplicate_member(subject: ReadinessSubject) -> Iterator[Hit]:
    """A name that stands twice in an object."""
    for at in subject.last.doubled:
        *above, name = names_of(at)
        message = f"{shown(name)!r} stands more than once in {'.'.join(map(shown, above)) or 'the document'}; the last one counts"
        yield Hit("", message, ElementLocation(len(subject.documents) - 1, at, whole=True), detail=at)


@rule(
    "placeholder-strict",
    "No placeholder stands where only fixed words will do",
    Severity.ERROR,
    reason="Nobody fills in a placeholder of a manifest that is deployed, and here it makes the whole manifest unreadable.",
    remedy="Deploy what the build makes of the template.",
    source="contract/edge.md §1.1, §2",
)
def placeholder_strict(subject: ReadinessSubject) -> Iterator[Hit]:
    """A placeholder in a status, a route or their like, outside of templates."""
    yield from _placeholders(subject, Severity.ERROR)


@rule(
    "placeholder",
    "Nothing is left to be filled in",
    Severity.WARNING,
    reason="Nobody fills in a placeholder of a manifest that is deployed.",
    remedy="Deploy what the build makes of the template.",
    source="seed 003, Use correct module images in deployment manifests",
)
def placeholder(subject: ReadinessSubject) -> Iterator[Hit]:
    """A placeholder in a value, outside of templates."""
    yield from _placeholders(subject, Severity.WARNING)


@rule(
    "schema-version",
    "Agent and hub know the schema version",
    Severity.ERROR,
    reason="Of a version it does not know the agent reports status 412, and does nothing.",
    remedy="Use 1.1 for both; the agent takes 1.0 to 1.1, the hub 1.0 to 1.3.",
    source="contract/edge.md §1.1, §2",
)
def schema_version(subject: ReadinessSubject) -> Iterator[Hit]:
    """A version of another form or number."""
    for twin, schema in ((AGENT, agent_schema), (HUB, hub_schema)):
        version = subject.sections.get(twin, {}).get("schemaVersion")
        is_open = isinstance(version, str) and subject.template and placeholders.inside(version)
        if isinstance(version, str) and not is_open and schema.minor_of(version) is None:
            message = f"{twin} does not know schema version {shown(version)!r}"
            yield subject.hit(message, module=twin, twin=twin, path=("schemaVersion",))


@rule(
    "ea-missing",
    "A standard manifest has the agent",
    Severity.ERROR,
    inspects=Inspects.WHOLE,
    reason="An agent that finds no edgeAgent among its system modules plans to stop and remove itself.",
    remedy="Add systemModules.edgeAgent with its image.",
    source="contract/edge.md §3.7",
)
def ea_missing(subject: ReadinessSubject) -> Iterator[Hit]:
    """No edgeAgent among the system's modules."""
    if AGENT not in subject.system_modules:
        yield subject.hit("there is no systemModules.edgeAgent", module=AGENT, twin=AGENT, path=("systemModules",))


@rule(
    "module-name",
    "Names of modules are ones that the engine takes",
    Severity.ERROR,
    reason="The name becomes that of a container; the engine wants two characters at least, a letter or digit first.",
    remedy="Use letters, digits, - and _, beginning with a letter or digit.",
    source="contract/edge.md §1.1, §7.5",
)
def module_name(subject: ReadinessSubject) -> Iterator[Hit]:
    """A name that no container can have."""
    modules = subject.agent.get("modules")
    for name in modules if isinstance(modules, dict) else ():
        if not _name_fits(name) and not (subject.template and placeholders.inside(name)):
            message = f"{shown(name)!r} is no name for a module"
            yield subject.hit(message, module=shown(name), twin=AGENT, path=("modules", name))


@module_rule(
    "restart-policy-value",
    "Restart policies are ones that the agent knows",
    Severity.ERROR,
    reason="The agent cannot read the configuration, and reports status 400 for all of it.",
    remedy=f"Use one of {', '.join(_POLICIES)}.",
    source="contract/edge.md §1.1",
)
def restart_policy_value(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A policy of another name."""
    policy = module.spec.get("restartPolicy")
    if isinstance(policy, str) and policy not in _POLICIES and not placeholders.inside(policy):
        message = f"restartPolicy of {module.name} is {shown(policy)!r}"
        yield subject.module_hit(module, message, "restartPolicy")


@module_rule(
    "on-unhealthy-no-effect",
    "Restart policies have an effect",
    Severity.INFO,
    reason="The agent never sees that a module is unhealthy: on-unhealthy is the same as on-failure.",
    remedy="Use always, or on-failure if a module may end.",
    source="contract/edge.md §1.2, §3.4",
)
def on_unhealthy_no_effect(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The policy on-unhealthy."""
    if module.spec.get("restartPolicy") == "on-unhealthy":
        message = f"restartPolicy of {module.name} is on-unhealthy, which works as on-failure"
        yield subject.module_hit(module, message, "restartPolicy")


@module_rule(
    "startup-order-agent",
    "The agent has no startup order",
    Severity.INFO,
    fixes=True,
    reason="The agent is always first, and takes no notice of a startupOrder of its own.",
    remedy="Remove it.",
    source="contract/edge.md §1.1",
)
def startup_order_agent(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A startup order of the agent."""
    if module.system and module.name == AGENT and "startupOrder" in module.spec:
        fix = subject.removed(AGENT, (*module.path, "startupOrder"))
        yield subject.module_hit(module, f"{AGENT} has a startupOrder, without effect", "startupOrder", fix=fix)


@rule(
    "startup-order-schema",
    "What is new in schema version 1.1 stands in a manifest of that version",
    Severity.WARNING,
    reason="startupOrder and imagePullPolicy belong to schema version 1.1; agents that know 1.0 alone leave them out.",
    remedy="Set schemaVersion of $edgeAgent to 1.1.",
    source="contract/edge.md §1.1",
)
def startup_order_schema(subject: ReadinessSubject) -> Iterator[Hit]:
    """A member of version 1.1 in a manifest of 1.0."""
    if agent_schema.minor_of(subject.agent.get("schemaVersion")) != 0:
        return
    for module in subject.modules:
        for name in ("startupOrder", "imagePullPolicy"):
            if name in module.spec:
                yield subject.module_hit(module, f"{name} of {module.name} needs schema version 1.1", name)


def _placeholders(subject: ReadinessSubject, severity: Severity) -> Iterator[Hit]:
    for problem in () if subject.template else subject.problems:
        # Images have a rule of their own.
        if (
            problem.rule == "template-placeholder"
            and problem.severity is severity
            and not problem.path.endswith(".image")
        ):
            yield _problem_hit(subject, problem)


def _unsaid(problem: Problem) -> bool:
    # The rule on names is about modules alone, not about their variables.
    _, _, below = problem.path.partition(".properties.desired.modules.")
    return problem.rule == "name" and (not below or ".env." in below)


def _problem_hit(subject: ReadinessSubject, problem: Problem) -> Hit:
    at = _resolved(subject.last.content, problem.path)
    message = f"{problem.path}: {problem.message}"
    if _may_be_secret(problem.path) and problem.rule not in _QUOTES_NO_VALUE:
        is_open = problem.rule == "template-placeholder"
        message = f"{problem.path}: {'is still to be filled in' if is_open else f'breaks the rule {problem.rule}'}"
    names = [name for name in at if name not in (kind.value for kind in ContentKind)]
    location = ElementLocation(len(subject.documents) - 1, _root_of(subject, at), whole=True)
    return Hit(names[0] if names else "", message, location, path=tuple(at), detail=f"{problem.rule} {problem.path}")


def _root_of(subject: ReadinessSubject, at: list[str]) -> str:
    kinds = {kind.value for kind in ContentKind}
    if at and at[0] in kinds and subject.last.root:
        return subject.last.root + pointer(*at[1:])
    return pointer(*at)


def _resolved(content: Json, path: str) -> list[str]:
    """The members of a content that a problem's path leads through, as far as they are there."""
    names: list[str] = []
    remaining = re.sub(r"\[(\d+)\]", r".\1", path)
    while remaining:
        if isinstance(content, dict):
            member_name = max((name for name in content if _leads(remaining, name)), key=len, default=None)
        else:
            head = remaining.partition(".")[0]
            fits = isinstance(content, list) and head.isdecimal() and int(head) < len(content)
            member_name = head if fits else None
        if member_name is None:
            break
        content = content[member_name] if isinstance(content, dict) else content[int(member_name)]
        names.append(member_name)
        remaining = remaining[len(member_name) + 1 :]
    return names


def _leads(remaining: str, name: str) -> bool:
    return bool(name) and (remaining == name or remaining.startswith(f"{name}."))
