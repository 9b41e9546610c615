"""Rules about the edge agent and the edge hub: upstream connection, storage, memory and updates."""

import posixpath
from collections.abc import Iterator
from itertools import permutations

from events.canonical import Json
from events.manifest import placeholders
from events.manifest.document import AGENT, HUB, object_of
from events.manifest.problem import Severity
from events.manifest.shape import shown
from events.readiness.finding import Hit
from events.readiness.module import Module, member
from events.readiness.rule import Inspects, module_rule, rule
from events.readiness.subject import ReadinessSubject

PROTOCOLS = {"amqp": "Amqp", "amqpws": "AmqpWs", "mqtt": "Mqtt", "mqttws": "MqttWs"}
"""Lower case → the spelling of each value of UpstreamProtocol."""

TIME_TO_LIVE_SECONDS = 7200
"""How long the edge hub stores undelivered messages by default (seed 003)."""

_PROTOCOL = "UpstreamProtocol"
_HEADS = ("amqpSettings__enabled", "mqttSettings__enabled", "httpSettings__enabled")
_UPDATE_MODES = ("nonblocking", "waitforallpulls")
_UPSTREAM = "seed 003, Choose upstream protocol; Be consistent with upstream protocol"
_PROXY = "seed 003, Configure communication through a proxy"
_UPDATES = "seed 003, Configure how updates to modules are applied"
_TIME_TO_LIVE = "seed 003, Reduce storage time for messages; contract/edge.md §2"
_FORWARDING = ("storeAndForwardConfiguration", "timeToLiveSecs")


def protocol_of(module: Module | None) -> str | None:
    """Return the protocol that a system module sets, in lower case; `None` if it sets none or a placeholder."""
    value = module.variable(_PROTOCOL) if module is not None else None
    return value.strip().lower() if isinstance(value, str) and not placeholders.inside(value) else None


def is_false(value: Json) -> bool:
    """Return whether the value of an environment variable means false."""
    return value is False or (isinstance(value, str) and value.strip().lower() == "false")


@module_rule("up-protocol-value", Severity.WARNING, source=_UPSTREAM)
def up_protocol_value(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The runtime knows the value of UpstreamProtocol.

    The runtime ignores unknown values and uses AMQP.
    Remedy: Use Amqp, AmqpWs, Mqtt or MqttWs.
    """
    protocol = protocol_of(module)
    if module.system and protocol is not None and protocol not in PROTOCOLS:
        message = f"{_PROTOCOL} of {module.name} is none of {', '.join(PROTOCOLS.values())}, so the runtime uses Amqp"
        yield subject.module_hit(module, message, *module.at(_PROTOCOL))


@rule("up-protocol-consistent", Severity.WARNING, Inspects.WHOLE, fixes=True, source=_UPSTREAM)
def up_protocol_consistent(subject: ReadinessSubject) -> Iterator[Hit]:
    """The agent and the edge hub use the same upstream protocol.

    The one without UpstreamProtocol uses AMQP. If the network blocks AMQP, the device cannot reconnect.
    Remedy: Set UpstreamProtocol of edgeAgent and edgeHub to the value of the device's own configuration.
    """
    for module, other in _pairs(subject):
        protocol = PROTOCOLS.get(protocol_of(module) or "", "Amqp")
        if protocol != "Amqp" and other.variable(_PROTOCOL) is None:
            fix = subject.added(AGENT, (*other.path, "env", _PROTOCOL), {"value": protocol})
            message = f"{module.name} sets {_PROTOCOL} and {other.name} does not, so {other.name} uses Amqp"
            yield subject.module_hit(other, message, "env", _PROTOCOL, fix=fix)
        values = {protocol_of(module), protocol_of(other)} - {None}
        if other.name == HUB and len(values) > 1:
            yield subject.module_hit(other, f"{_PROTOCOL} of {AGENT} and {HUB} differ", *other.at(_PROTOCOL))


@module_rule(
    "sysmod-storage", Severity.INFO, source="seed 003, Set up host storage for system modules; contract/edge.md §4.1"
)
def sysmod_storage(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The system modules store their data on the host.

    Data in a container is lost with the container: undelivered messages, and the last valid configuration.
    Remedy: Bind a directory of the host, and set StorageFolder to it.
    """
    folder = module.variable("StorageFolder")
    if not module.system or not module.whole or (isinstance(folder, str) and placeholders.inside(folder)):
        return
    # The modules append their own name, and use the temporary directory by default (contract/edge.md §4.1).
    directory = posixpath.join(folder if folder and isinstance(folder, str) else "/tmp", module.path[1])  # noqa: S108
    # What is bound, mounted or declared as a volume outlives the container.
    targets = [target for _, target in module.mounts] + list(object_of(member(module.options, "Volumes")))
    above = [f"{posixpath.normpath(target).rstrip('/')}/" for target in targets if isinstance(target, str) and target]
    if not f"{posixpath.normpath(directory)}/".startswith(tuple(above)):
        yield subject.module_hit(module, f"{module.name} stores its data in the container, not on the host", "settings")


@module_rule(
    "hub-optimize", Severity.INFO, fixes=True, source="seed 003, Don't optimize for performance on constrained devices"
)
def hub_optimize(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The edge hub of a small device is not optimized for performance.

    With OptimizeForPerformance the edge hub allocates large blocks of memory. Small devices do not have them.
    Remedy: Set OptimizeForPerformance of edgeHub to false.
    """
    name = "OptimizeForPerformance"
    if not _is_hub(module) or not module.whole or is_false(module.variable(name)):
        return
    fix = subject.added(AGENT, (*module.path, "env", name), {"value": "false"}) if module.variable(name) is None else ()
    yield subject.module_hit(module, f"{name} of {HUB} is not false", *module.at(name), fix=fix)


@module_rule("hub-protocol-heads", Severity.INFO, source="seed 003, Disable unused protocols")
def hub_protocol_heads(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Unused protocols of the edge hub are off.

    Every protocol head uses memory.
    Remedy: Set amqpSettings__enabled, mqttSettings__enabled or httpSettings__enabled to false if no module or device uses it.
    """
    if _is_hub(module) and module.whole and not any(is_false(module.variable(head)) for head in _HEADS):
        yield subject.module_hit(module, f"all of {HUB}'s protocol heads are on", "env")


@module_rule("hub-protocol-none", Severity.ERROR, source="seed 003, Disable unused protocols")
def hub_protocol_none(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """At least one protocol of the edge hub is on.

    Without a protocol head, no module can connect to the edge hub.
    Remedy: Do not turn off the protocol that your modules use.
    """
    if _is_hub(module) and all(is_false(module.variable(head)) for head in _HEADS):
        yield subject.module_hit(module, f"all of {HUB}'s protocol heads are off", "env")


@module_rule("hub-protocol-typo", Severity.WARNING, source="seed 003, Disable unused protocols")
def hub_protocol_typo(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The names of protocol heads have two underscores.

    The edge hub ignores variables with other names.
    Remedy: Write two underscores, such as in mqttSettings__enabled.
    """
    head_by_letters = {head.replace("_", "").lower(): head for head in _HEADS}
    for name in module.env if _is_hub(module) else ():
        head = head_by_letters.get(name.replace("_", "").lower())
        if head is not None and name.lower() != head.lower():
            yield subject.module_hit(module, f"the variable {shown(name)} must be {head}", "env", name)


@rule(
    "hub-ttl-missing", Severity.WARNING, Inspects.WHOLE, fixes=True, source=_TIME_TO_LIVE, default=TIME_TO_LIVE_SECONDS
)
def hub_ttl_missing(subject: ReadinessSubject) -> Iterator[Hit]:
    """The edge hub has a time to live for messages.

    From schema version 1.1 the edge hub rejects a configuration without storeAndForwardConfiguration.
    Remedy: Set storeAndForwardConfiguration.timeToLiveSecs of $edgeHub; the default is {default}.
    """
    forwarding = subject.hub.get(_FORWARDING[0])
    if forwarding is None or (isinstance(forwarding, dict) and _FORWARDING[1] not in forwarding):
        fix = subject.added(HUB, _FORWARDING, TIME_TO_LIVE_SECONDS) if HUB in subject.sections else ()
        yield subject.hit("$edgeHub has no timeToLiveSecs", HUB, _FORWARDING, fix=fix)


@rule("hub-ttl-infinite", Severity.WARNING, source=_TIME_TO_LIVE)
def hub_ttl_infinite(subject: ReadinessSubject) -> Iterator[Hit]:
    """The edge hub does not store messages forever.

    While the device is offline, messages fill the disk until the device stops working.
    Remedy: Set timeToLiveSecs to the longest time for which a message is useful.
    """
    seconds = _time_to_live(subject)
    if seconds is not None and seconds < 0:
        message = f"timeToLiveSecs is {shown(seconds)}, which means no limit"
        yield subject.hit(message, HUB, _FORWARDING)


@rule("hub-ttl-long", Severity.INFO, source="seed 003, Reduce storage time for messages", default=TIME_TO_LIVE_SECONDS)
def hub_ttl_long(subject: ReadinessSubject) -> Iterator[Hit]:
    """The edge hub of a small device does not store messages for more than two hours.

    Stored messages use disk and memory, of which a small device has little.
    Remedy: Set timeToLiveSecs to {default} or less.
    """
    seconds = _time_to_live(subject)
    if seconds is not None and seconds > TIME_TO_LIVE_SECONDS:
        message = f"timeToLiveSecs is {shown(seconds)}, more than {TIME_TO_LIVE_SECONDS}"
        yield subject.hit(message, HUB, _FORWARDING)


@rule("update-mode", Severity.INFO, Inspects.WHOLE, source=_UPDATES)
def update_mode(subject: ReadinessSubject) -> Iterator[Hit]:
    """Modules that exchange messages are updated together.

    Modules are pulled and replaced one after another. Until the last one, old and new versions exchange messages.
    Remedy: If the versions must match, set ModuleUpdateMode of edgeAgent to WaitForAllPulls.
    """
    agent = subject.system_modules.get(AGENT)
    between = [route for route in subject.routes if getattr(route.parsed, "endpoint", None) is not None]
    if agent is not None and between and len(subject.user_modules) > 1 and agent.variable("ModuleUpdateMode") is None:
        message = f"modules exchange messages ({len(between)} routes), but {AGENT} has no ModuleUpdateMode"
        yield subject.module_hit(agent, message, "env")


@module_rule("update-mode-value", Severity.WARNING, source=f"{_UPDATES}; contract/edge.md §3.1")
def update_mode_value(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The agent knows the value of ModuleUpdateMode.

    The agent ignores unknown modes.
    Remedy: Use NonBlocking or WaitForAllPulls.
    """
    value = module.variable("ModuleUpdateMode") if module.name == AGENT else None
    if value is None or (isinstance(value, str) and (value.lower() in _UPDATE_MODES or placeholders.inside(value))):
        return
    message = f"ModuleUpdateMode of {AGENT} is neither NonBlocking nor WaitForAllPulls"
    yield subject.module_hit(module, message, *module.at("ModuleUpdateMode"))


@rule("proxy-consistent", Severity.WARNING, Inspects.WHOLE, source=_PROXY)
def proxy_consistent(subject: ReadinessSubject) -> Iterator[Hit]:
    """The agent and the edge hub both use the proxy.

    If one of them needs a proxy to connect, the other needs it too.
    Remedy: Set https_proxy of edgeAgent and of edgeHub.
    """
    for module, other in _pairs(subject):
        if has_proxy(module) and not has_proxy(other):
            message = f"{module.name} has a proxy and {other.name} has none"
            yield subject.module_hit(other, message, "env", "https_proxy")


@module_rule("proxy-protocol", Severity.WARNING, source=f"{_PROXY}; Be consistent with upstream protocol")
def proxy_protocol(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Modules behind a proxy use WebSockets.

    A proxy forwards HTTPS, but not AMQP or MQTT on their own ports.
    Remedy: Set UpstreamProtocol to AmqpWs or MqttWs if https_proxy is set.
    """
    if not module.system or not has_proxy(module):
        return
    protocol = protocol_of(module)
    if protocol in ("amqp", "mqtt") or (module.whole and module.variable(_PROTOCOL) is None):
        spelling = PROTOCOLS.get(protocol or "", "Amqp")
        yield subject.module_hit(module, f"{module.name} has a proxy and uses {spelling}", *module.at(_PROTOCOL))


def has_proxy(module: Module) -> bool:
    """Return whether a module has a proxy."""
    return bool(module.variable("https_proxy"))


def _pairs(subject: ReadinessSubject) -> Iterator[tuple[Module, ...]]:
    """Return (agent, hub) and (hub, agent), if the subject has both."""
    modules = subject.system_modules
    return permutations((modules[AGENT], modules[HUB])) if modules.keys() >= {AGENT, HUB} else iter(())


def _is_hub(module: Module) -> bool:
    return module.system and module.name == HUB


def _time_to_live(subject: ReadinessSubject) -> int | None:
    seconds = object_of(subject.hub.get(_FORWARDING[0])).get(_FORWARDING[1])
    return seconds if isinstance(seconds, int) and not isinstance(seconds, bool) else None
