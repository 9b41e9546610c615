"""Rules about structure: IoT Hub, the agent and the edge hub accept the manifest."""

import re
from collections.abc import Iterator

from events.canonical import Json
from events.manifest import agent_schema, hub_schema, placeholders
from events.manifest.document import AGENT, DESIRED, HUB, ContentKind, object_of
from events.manifest.problem import Problem, Severity
from events.manifest.shape import shown
from events.manifest.validate import section_problems
from events.readiness.finding import Hit
from events.readiness.module import Module
from events.readiness.pointer import names_of, pointer
from events.readiness.rule import Inspects, module_rule, rule
from events.readiness.subject import ReadinessSubject

_POLICIES = ", ".join(agent_schema.RESTART_POLICIES)
_KINDS = {kind.value for kind in ContentKind}
_name_fits = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]+").fullmatch
_may_be_secret = re.compile(r"\.env\.|\.registryCredentials\.|\.createOptions").search
_QUOTES_NO_VALUE = ("required", "type", "blank", "name", "limit-string-length", "limit-null", "limit-depth")

# Problems that another rule reports: the rule of the problem → the end of its path.
_PROBLEMS_OF_OTHER_RULES = {"type": "createOptions", "enum": ".restartPolicy", "range": ".priority"} | dict.fromkeys(
    (
        *("schema-version", "image", "create-options", "route", "name", "template-placeholder", "unknown-member"),
        *("layer-system-modules", "agent-missing", "modules-max", "limit-size", "store-and-forward"),
    ),
    "",
)


@rule("manifest-invalid", Severity.ERROR, source="contract/hub.md §3.1, §6; contract/edge.md §1.1, §2")
def manifest_invalid(subject: ReadinessSubject) -> Iterator[Hit]:
    """The manifest is valid.

    IoT Hub, or the agent on the device, rejects an invalid manifest.
    Remedy: Correct the element that the message names.
    """
    for problem in subject.problems:
        end = _PROBLEMS_OF_OTHER_RULES.get(problem.rule)
        # The rule module-name checks only modules, not environment variables, routes and registries.
        _, _, below = problem.path.partition(".properties.desired.modules.")
        is_other_name = problem.rule == "name" and (not below or ".env." in below)
        has_own_rule = end is not None and problem.path.endswith(end) and not is_other_name
        if problem.severity is Severity.ERROR and not has_own_rule:
            yield _problem_hit(subject, problem)


@rule(
    "merged-incomplete", Severity.ERROR, Inspects.WHOLE, source="seed 002, layered deployments; contract/edge.md §1.1"
)
def merged_incomplete(subject: ReadinessSubject) -> Iterator[Hit]:
    """The merge of layers and their base is complete.

    If the base does not have the module that a layer changes, the merged module is incomplete. The agent rejects the whole merge.
    Remedy: Correct the module's name, or set the whole module in the layer.
    """
    # The problems of a single document are reported by manifest-invalid.
    for problem in section_problems(AGENT, subject.agent) if len(subject.documents) > 1 else ():
        path = tuple(_resolved({DESIRED: subject.agent}, problem.path)[1:])
        if problem.rule == "required" and not subject.location(AGENT, path).whole:
            module = path[1] if path[:1] == ("modules",) and len(path) > 1 else AGENT
            message = f"{'.'.join(path)}: {problem.message}"
            yield subject.hit(message, AGENT, path, module=module, detail=problem.message)


@rule("unknown-member", Severity.WARNING, source="contract/edge.md §1.1")
def unknown_member(subject: ReadinessSubject) -> Iterator[Hit]:
    """The manifest has no unknown members.

    The agent and the edge hub ignore unknown members. From schema version 1.1, tools reject them.
    Remedy: Correct the name, or remove the member. Write notes in another file.
    """
    for problem in subject.problems:
        if problem.rule == "unknown-member":
            yield _problem_hit(subject, problem)


@rule("duplicate-member", Severity.ERROR, source="RFC 8259 §4")
def duplicate_member(subject: ReadinessSubject) -> Iterator[Hit]:
    """No object has two members of the same name.

    Readers use only the last member of a name, and ignore the earlier ones silently.
    Remedy: Rename or remove all but one of the members.
    """
    for at in subject.last.doubled:
        *above, name = names_of(at)
        message = f"{shown(name)!r} occurs more than once in {'.'.join(map(shown, above)) or 'the document'}; the last one counts"
        yield Hit("", message, subject.here(at), detail=at)


@rule("placeholder-strict", Severity.ERROR, source="contract/edge.md §1.1, §2")
def placeholder_strict(subject: ReadinessSubject) -> Iterator[Hit]:
    """No placeholder makes the manifest unreadable.

    Placeholders are not replaced after the deployment. In a status, a route or a version, they make the manifest unreadable.
    Remedy: Deploy the manifest that the build generates from the template.
    """
    yield from _placeholders(subject, Severity.ERROR)


@rule("placeholder", Severity.WARNING, source="seed 003, Use correct module images in deployment manifests")
def placeholder(subject: ReadinessSubject) -> Iterator[Hit]:
    """The manifest has no placeholders.

    Placeholders are not replaced after the deployment.
    Remedy: Deploy the manifest that the build generates from the template.
    """
    yield from _placeholders(subject, Severity.WARNING)


@rule("schema-version", Severity.ERROR, source="contract/edge.md §1.1, §2")
def schema_version(subject: ReadinessSubject) -> Iterator[Hit]:
    """The agent and the edge hub know the schema version.

    For an unknown version, the agent reports status 412 and changes nothing.
    Remedy: Use 1.1 for both. The agent accepts 1.0 to 1.1, the edge hub 1.0 to 1.3.
    """
    for twin, schema in ((AGENT, agent_schema), (HUB, hub_schema)):
        version = subject.sections.get(twin, {}).get("schemaVersion")
        is_open = isinstance(version, str) and subject.template and placeholders.inside(version)
        if isinstance(version, str) and not is_open and schema.minor_of(version) is None:
            message = f"{twin} does not know schema version {shown(version)!r}"
            yield subject.hit(message, twin, ("schemaVersion",))


@rule("ea-missing", Severity.ERROR, Inspects.WHOLE, source="contract/edge.md §3.7")
def ea_missing(subject: ReadinessSubject) -> Iterator[Hit]:
    """A standard manifest has the agent.

    Without edgeAgent among the system modules, the agent plans to stop and remove itself.
    Remedy: Add systemModules.edgeAgent with its image.
    """
    if AGENT not in subject.system_modules:
        yield subject.hit("there is no systemModules.edgeAgent", AGENT, ("systemModules",))


@rule("module-name", Severity.ERROR, source="contract/edge.md §1.1, §7.5")
def module_name(subject: ReadinessSubject) -> Iterator[Hit]:
    """The engine accepts the names of modules.

    A module's name is also its container's name: at least two characters, and the first is a letter or digit.
    Remedy: Use letters, digits, - and _, and begin with a letter or digit.
    """
    for name in object_of(subject.agent.get("modules")):
        if not _name_fits(name) and not (subject.template and placeholders.inside(name)):
            message = f"{shown(name)!r} is not a valid module name"
            yield subject.hit(message, AGENT, ("modules", name), module=shown(name))


@module_rule("restart-policy-value", Severity.ERROR, source="contract/edge.md §1.1", names=_POLICIES)
def restart_policy_value(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The agent knows every restart policy.

    With an unknown policy, the agent cannot read the configuration and reports status 400 for all modules.
    Remedy: Use one of {names}.
    """
    policy = module.spec.get("restartPolicy")
    if isinstance(policy, str) and policy not in agent_schema.RESTART_POLICIES and not placeholders.inside(policy):
        message = f"restartPolicy of {module.name} is {shown(policy)!r}, not one of {_POLICIES}"
        yield subject.module_hit(module, message, "restartPolicy")


@module_rule("on-unhealthy-no-effect", Severity.INFO, source="contract/edge.md §1.2, §3.4")
def on_unhealthy_no_effect(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No module has the restart policy on-unhealthy.

    The agent cannot detect an unhealthy module, so on-unhealthy works like on-failure.
    Remedy: Use always, or on-failure if the module is allowed to end.
    """
    if module.spec.get("restartPolicy") == "on-unhealthy":
        message = f"restartPolicy of {module.name} is on-unhealthy, which works like on-failure"
        yield subject.module_hit(module, message, "restartPolicy")


@module_rule("startup-order-agent", Severity.INFO, fixes=True, source="contract/edge.md §1.1")
def startup_order_agent(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The agent has no startup order.

    The agent always starts first and ignores its own startupOrder.
    Remedy: Remove it.
    """
    if module.system and module.name == AGENT and "startupOrder" in module.spec:
        fix = subject.removed(AGENT, (*module.path, "startupOrder"))
        yield subject.module_hit(module, f"startupOrder of {AGENT} has no effect", "startupOrder", fix=fix)


@rule("startup-order-schema", Severity.WARNING, source="contract/edge.md §1.1")
def startup_order_schema(subject: ReadinessSubject) -> Iterator[Hit]:
    """Members of schema version 1.1 are in a manifest of version 1.1.

    startupOrder and imagePullPolicy are new in schema version 1.1. An agent that knows only 1.0 ignores them.
    Remedy: Set schemaVersion of $edgeAgent to 1.1.
    """
    if agent_schema.minor_of(subject.agent.get("schemaVersion")) != 0:
        return
    for module in subject.modules:
        for name in ("startupOrder", "imagePullPolicy"):
            if name in module.spec:
                yield subject.module_hit(module, f"{name} of {module.name} needs schema version 1.1", name)


def _placeholders(subject: ReadinessSubject, severity: Severity) -> Iterator[Hit]:
    for problem in () if subject.template else subject.problems:
        # The rule image-placeholder reports images.
        is_image = problem.path.endswith(".image")
        if problem.rule == "template-placeholder" and problem.severity is severity and not is_image:
            yield _problem_hit(subject, problem)


def _problem_hit(subject: ReadinessSubject, problem: Problem) -> Hit:
    at = _resolved(subject.last.content, problem.path)
    message = f"{problem.path}: {problem.message}"
    # Findings are stored and shown to every reader, so they never quote a value that may be a password.
    if _may_be_secret(problem.path) and problem.rule not in _QUOTES_NO_VALUE:
        is_open = problem.rule == "template-placeholder"
        message = f"{problem.path}: {'has a placeholder' if is_open else f'breaks the rule {problem.rule}'}"
    names = [name for name in at if name not in _KINDS]
    below_root = at and at[0] in _KINDS and subject.last.root
    location = subject.here(subject.last.root + pointer(*at[1:]) if below_root else pointer(*at))
    return Hit(names[0] if names else "", message, location, path=tuple(at), detail=f"{problem.rule} {problem.path}")


def _resolved(content: Json, path: str) -> list[str]:
    """Return the names of the existing members on a problem's path."""
    names: list[str] = []
    remaining = re.sub(r"\[(\d+)\]", r".\1", path)
    while remaining:
        if isinstance(content, dict):
            # Names can have dots, so the longest name that fits is the member that is meant.
            member_name = max(
                (name for name in content if name and f"{remaining}.".startswith(f"{name}.")), key=len, default=None
            )
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
