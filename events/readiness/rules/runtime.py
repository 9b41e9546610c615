"""The agent and the hub: how they reach upstream, where they keep things, what they need of memory."""

import posixpath
from collections.abc import Iterator

from events.canonical import Json
from events.manifest import placeholders
from events.manifest.document import AGENT, HUB
from events.manifest.problem import Severity
from events.manifest.shape import shown
from events.readiness.finding import Hit
from events.readiness.rule import Inspects, module_rule, rule
from events.readiness.subject import Module, ReadinessSubject, member

PROTOCOLS = {"amqp": "Amqp", "amqpws": "AmqpWs", "mqtt": "Mqtt", "mqttws": "MqttWs"}
"""Values of UpstreamProtocol, by their lower case."""

TIME_TO_LIVE_SECONDS = 7200
"""How long the hub keeps what it cannot deliver, unless told otherwise (seed 003)."""

_PROTOCOL = "UpstreamProtocol"
_HEADS = ("amqpSettings__enabled", "mqttSettings__enabled", "httpSettings__enabled")
_UPDATE_MODES = ("nonblocking", "waitforallpulls")
_STORAGE = {AGENT: "edgeAgent", HUB: "edgeHub"}
_UPSTREAM = "seed 003, Choose upstream protocol; Be consistent with upstream protocol"
_FORWARDING = ("storeAndForwardConfiguration", "timeToLiveSecs")


def protocol_of(module: Module | None) -> str | None:
    """What a system module says of the protocol, in lower case; `None` if it is silent, or says what is still open."""
    value = module.variable(_PROTOCOL) if module is not None else None
    return value.strip().lower() if isinstance(value, str) and not placeholders.inside(value) else None


def is_false(value: Json) -> bool:
    """Whether the value of an environment variable says no."""
    return value is False or (isinstance(value, str) and value.strip().lower() == "false")


@module_rule(
    "up-protocol-value",
    "UpstreamProtocol is one that the runtime knows",
    Severity.WARNING,
    reason="The runtime takes no notice of a value it does not know, and uses AMQP.",
    remedy="Use Amqp, AmqpWs, Mqtt or MqttWs.",
    source=_UPSTREAM,
)
def up_protocol_value(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A protocol that is none."""
    protocol = protocol_of(module)
    if module.system and protocol is not None and protocol not in PROTOCOLS:
        message = f"{_PROTOCOL} of {module.name} is none of {', '.join(PROTOCOLS.values())}; Amqp would be used"
        yield subject.module_hit(module, message, *module.at(_PROTOCOL))


@rule(
    "up-protocol-consistent",
    "Agent and hub use the same upstream protocol",
    Severity.WARNING,
    inspects=Inspects.WHOLE,
    fixes=True,
    reason="Whichever of the two is silent uses AMQP, and where that is blocked the device does not come back.",
    remedy="Set UpstreamProtocol of edgeAgent and edgeHub to the same value, the one of the device's own configuration.",
    source=_UPSTREAM,
)
def up_protocol_consistent(subject: ReadinessSubject) -> Iterator[Hit]:
    """Two protocols, or one and silence."""
    modules = subject.system_modules
    if len(modules) < len(_STORAGE):
        return
    agent, hub = modules[AGENT], modules[HUB]
    for module, other in ((agent, hub), (hub, agent)):
        protocol = PROTOCOLS.get(protocol_of(module) or "", "Amqp")
        if protocol != "Amqp" and other.variable(_PROTOCOL) is None:
            fix = subject.added(AGENT, (*other.path, "env", _PROTOCOL), {"value": protocol})
            message = f"{module.name} sets {_PROTOCOL} and {other.name} does not, so {other.name} uses Amqp"
            yield subject.module_hit(other, message, "env", _PROTOCOL, fix=fix)
    mine, theirs = protocol_of(agent), protocol_of(hub)
    if mine is not None and theirs is not None and mine != theirs:
        yield subject.module_hit(hub, f"{_PROTOCOL} of {AGENT} and {HUB} differ", *hub.at(_PROTOCOL))


@module_rule(
    "sysmod-storage",
    "The system's modules keep their storage on the host",
    Severity.INFO,
    reason="What the agent and the hub store is lost with their containers: messages that wait, and the last good configuration.",
    remedy="Bind a directory of the host, and name it in StorageFolder.",
    source="seed 003, Set up host storage for system modules; contract/edge.md §4.1",
)
def sysmod_storage(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A storage directory that lies under no mount."""
    folder = module.variable("StorageFolder")
    if not module.system or not module.whole or (isinstance(folder, str) and placeholders.inside(folder)):
        return
    directory = posixpath.join(folder if folder and isinstance(folder, str) else "/tmp", _STORAGE[module.name])  # noqa: S108
    if not any(_under(directory, target) for target in mount_targets(module)):
        yield subject.module_hit(
            module, f"{module.name} keeps its storage in the container, not on the host", "settings"
        )


@module_rule(
    "hub-optimize",
    "The hub of a small device is not optimised for performance",
    Severity.INFO,
    fixes=True,
    reason="Optimised for performance, the hub allocates large chunks of memory, which small devices do not have.",
    remedy="Set OptimizeForPerformance of edgeHub to false.",
    source="seed 003, Don't optimize for performance on constrained devices",
)
def hub_optimize(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """OptimizeForPerformance left at true."""
    name = "OptimizeForPerformance"
    if module.name != HUB or not module.system or not module.whole or is_false(module.variable(name)):
        return
    fix = subject.added(AGENT, (*module.path, "env", name), {"value": "false"}) if module.variable(name) is None else ()
    yield subject.module_hit(module, f"{name} of {HUB} is not false", *module.at(name), fix=fix)


@module_rule(
    "hub-protocol-heads",
    "Protocols of the hub that nobody uses are off",
    Severity.INFO,
    reason="Every protocol head takes memory.",
    remedy="Set those of amqpSettings__enabled, mqttSettings__enabled and httpSettings__enabled to false that nothing uses.",
    source="seed 003, Disable unused protocols",
)
def hub_protocol_heads(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """All heads on."""
    if _is_hub(module) and module.whole and not any(is_false(module.variable(head)) for head in _HEADS):
        yield subject.module_hit(module, f"all of {HUB}'s protocol heads are on", "env")


@module_rule(
    "hub-protocol-none",
    "At least one protocol of the hub is on",
    Severity.ERROR,
    reason="With every head off, no module can reach the hub.",
    remedy="Leave the head on that your modules use.",
    source="seed 003, Disable unused protocols",
)
def hub_protocol_none(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """All heads off."""
    if _is_hub(module) and all(is_false(module.variable(head)) for head in _HEADS):
        yield subject.module_hit(module, f"all of {HUB}'s protocol heads are off", "env")


@module_rule(
    "hub-protocol-typo",
    "The names of the hub's protocol heads have two underscores",
    Severity.WARNING,
    reason="The hub takes no notice of a variable of another name.",
    remedy="Write two underscores, as in mqttSettings__enabled.",
    source="seed 003, Disable unused protocols",
)
def hub_protocol_typo(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A name with another number of underscores."""
    meant = {head.replace("_", "").lower(): head for head in _HEADS}
    for name in module.env if _is_hub(module) else ():
        head = meant.get(name.replace("_", "").lower())
        if head is not None and name.lower() != head.lower():
            yield subject.module_hit(module, f"{shown(name)} is not {head}", "env", name)


@rule(
    "hub-ttl-missing",
    "The hub is told how long to keep messages",
    Severity.WARNING,
    inspects=Inspects.WHOLE,
    fixes=True,
    reason="From schema version 1.1 the hub refuses a configuration without storeAndForwardConfiguration.",
    remedy=f"Set storeAndForwardConfiguration.timeToLiveSecs of $edgeHub; {TIME_TO_LIVE_SECONDS} is the usual.",
    source="seed 003, Reduce storage time for messages; contract/edge.md §2",
)
def hub_ttl_missing(subject: ReadinessSubject) -> Iterator[Hit]:
    """No time to live."""
    forwarding = subject.hub.get(_FORWARDING[0])
    if forwarding is None or (isinstance(forwarding, dict) and _FORWARDING[1] not in forwarding):
        fix = subject.added(HUB, _FORWARDING, TIME_TO_LIVE_SECONDS) if HUB in subject.sections else ()
        yield subject.hit("$edgeHub has no timeToLiveSecs", module=HUB, twin=HUB, path=_FORWARDING, fix=fix)


@rule(
    "hub-ttl-infinite",
    "The hub does not keep messages for ever",
    Severity.WARNING,
    reason="While upstream is away, messages fill the disk until nothing works any more.",
    remedy="Set timeToLiveSecs to the longest time for which a message is of use.",
    source="seed 003, Reduce storage time for messages; contract/edge.md §2",
)
def hub_ttl_infinite(subject: ReadinessSubject) -> Iterator[Hit]:
    """A negative time to live."""
    seconds = _time_to_live(subject)
    if seconds is not None and seconds < 0:
        message = f"timeToLiveSecs is {shown(seconds)}, which is for ever"
        yield subject.hit(message, module=HUB, twin=HUB, path=_FORWARDING)


@rule(
    "hub-ttl-long",
    "The hub of a small device does not keep messages for longer than usual",
    Severity.INFO,
    reason="What the hub keeps takes disk and memory, of which a small device has little.",
    remedy=f"Set timeToLiveSecs to {TIME_TO_LIVE_SECONDS} or less.",
    source="seed 003, Reduce storage time for messages",
)
def hub_ttl_long(subject: ReadinessSubject) -> Iterator[Hit]:
    """A time to live of more than two hours."""
    seconds = _time_to_live(subject)
    if seconds is not None and seconds > TIME_TO_LIVE_SECONDS:
        message = f"timeToLiveSecs is {shown(seconds)}, more than {TIME_TO_LIVE_SECONDS}"
        yield subject.hit(message, module=HUB, twin=HUB, path=_FORWARDING)


@rule(
    "update-mode",
    "Modules that talk to each other are updated together",
    Severity.INFO,
    inspects=Inspects.WHOLE,
    reason="Modules are pulled and replaced one by one; meanwhile old and new versions talk to each other.",
    remedy="If that matters, set ModuleUpdateMode of edgeAgent to WaitForAllPulls.",
    source="seed 003, Configure how updates to modules are applied",
)
def update_mode(subject: ReadinessSubject) -> Iterator[Hit]:
    """Routes from module to module, and no update mode."""
    agent = subject.system_modules.get(AGENT)
    between = [route for route in subject.routes if getattr(route.parsed, "endpoint", None) is not None]
    if agent is not None and between and len(subject.user_modules) > 1 and agent.variable("ModuleUpdateMode") is None:
        message = f"modules pass messages to each other ({len(between)} routes), and {AGENT} has no ModuleUpdateMode"
        yield subject.module_hit(agent, message, "env")


@module_rule(
    "update-mode-value",
    "ModuleUpdateMode is one that the agent knows",
    Severity.WARNING,
    reason="The agent takes no notice of a mode it does not know.",
    remedy="Use NonBlocking or WaitForAllPulls.",
    source="seed 003, Configure how updates to modules are applied; contract/edge.md §3.1",
)
def update_mode_value(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """An update mode that is none."""
    value = module.variable("ModuleUpdateMode") if module.name == AGENT else None
    if value is None or (isinstance(value, str) and (value.lower() in _UPDATE_MODES or placeholders.inside(value))):
        return
    yield subject.module_hit(
        module,
        f"ModuleUpdateMode of {AGENT} is neither NonBlocking nor WaitForAllPulls",
        *module.at("ModuleUpdateMode"),
    )


@rule(
    "proxy-consistent",
    "Agent and hub both know the proxy",
    Severity.WARNING,
    inspects=Inspects.WHOLE,
    reason="Where one of the two needs a proxy to reach upstream, so does the other.",
    remedy="Set https_proxy of both edgeAgent and edgeHub.",
    source="seed 003, Configure communication through a proxy",
)
def proxy_consistent(subject: ReadinessSubject) -> Iterator[Hit]:
    """A proxy of one of the two."""
    modules = subject.system_modules
    if len(modules) < len(_STORAGE):
        return
    for module, other in ((modules[AGENT], modules[HUB]), (modules[HUB], modules[AGENT])):
        if has_proxy(module) and not has_proxy(other):
            yield subject.module_hit(
                other, f"{module.name} has a proxy and {other.name} has none", "env", "https_proxy"
            )


@module_rule(
    "proxy-protocol",
    "Who goes through a proxy uses web sockets",
    Severity.WARNING,
    reason="A proxy passes HTTPS on, not AMQP or MQTT on ports of their own.",
    remedy="Set UpstreamProtocol to AmqpWs or MqttWs where https_proxy is set.",
    source="seed 003, Configure communication through a proxy; Be consistent with upstream protocol",
)
def proxy_protocol(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A proxy beside a protocol without web sockets."""
    if not module.system or not has_proxy(module):
        return
    protocol = protocol_of(module)
    if protocol in ("amqp", "mqtt") or (module.whole and module.variable(_PROTOCOL) is None):
        shown_as = PROTOCOLS.get(protocol or "", "Amqp")
        yield subject.module_hit(module, f"{module.name} has a proxy and uses {shown_as}", *module.at(_PROTOCOL))


def has_proxy(module: Module) -> bool:
    """Whether a module is told of a proxy."""
    return bool(module.variable("https_proxy"))


def mount_targets(module: Module) -> list[str]:
    """The directories of a module's container that outlive it: bound, mounted or declared as volumes."""
    binds, mounts = member(module.host_config, "Binds"), member(module.host_config, "Mounts")
    volumes = member(module.options, "Volumes")
    targets: list[Json] = [bind.split(":")[1] for bind in _list(binds) if isinstance(bind, str) and ":" in bind]
    targets += [member(mount, "Target") for mount in _list(mounts) if isinstance(mount, dict)]
    targets += list(volumes) if isinstance(volumes, dict) else []
    return [target for target in targets if isinstance(target, str) and target]


def _under(directory: str, target: str) -> bool:
    inner, outer = posixpath.normpath(directory).rstrip("/"), posixpath.normpath(target).rstrip("/")
    return inner == outer or inner.startswith(f"{outer}/")


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _is_hub(module: Module) -> bool:
    return module.system and module.name == HUB


def _time_to_live(subject: ReadinessSubject) -> int | None:
    forwarding = subject.hub.get(_FORWARDING[0])
    seconds = forwarding.get(_FORWARDING[1]) if isinstance(forwarding, dict) else None
    return seconds if isinstance(seconds, int) and not isinstance(seconds, bool) else None
