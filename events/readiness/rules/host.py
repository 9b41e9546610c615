"""Hosts: what only the device can say, in the events that it reports of its host."""

import re
from collections.abc import Iterator

from events.manifest.document import AGENT, HUB
from events.manifest.problem import Severity
from events.manifest.shape import shown
from events.readiness.finding import Hit
from events.readiness.host_facts import HostFacts
from events.readiness.rule import Inspects, host_rule, rule
from events.readiness.rules.options import limits_logs
from events.readiness.rules.runtime import PROTOCOLS, has_proxy, protocol_of
from events.readiness.subject import ReadinessSubject, member

CERTIFICATE_DAYS_MIN = 7
PORTS = {"amqp": 5671, "mqtt": 8883, "amqpws": 443, "mqttws": 443}
"""Where each protocol reaches the hub (seed 003, Allow connections from IoT Edge devices)."""

_DAY = 24 * 3600 * 1000
_days = re.compile(r"[1-9][0-9]*d").fullmatch
_age = re.compile(r"[0-9]+d").fullmatch
_time = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]").fullmatch


@rule(
    "host-facts-unreadable",
    "What a device reports of its host can be read",
    Severity.INFO,
    inspects=Inspects.HOST,
    reason="No rule on the host speaks of a device whose host facts have another form.",
    remedy="Report the section as it is described below.",
    source="this document",
)
def host_facts_unreadable(subject: ReadinessSubject) -> Iterator[Hit]:
    """A section of another form."""
    if subject.host_problem:
        yield subject.hit(f"the reported section hostFacts: {shown(subject.host_problem, 200)}")


@host_rule(
    "dev-cert-temporary",
    "The device has certificates of your own",
    Severity.WARNING,
    reason="Certificates that the runtime makes for itself are for testing; they expire after three months.",
    remedy="Install a device CA certificate, and name it in the device's configuration.",
    source="seed 003, Install production certificates",
)
def dev_cert_temporary(subject: ReadinessSubject, host: HostFacts, _now: int) -> Iterator[Hit]:
    """No certificate, or one that the runtime made."""
    if host.certificates is None:
        return
    if not host.certificates:
        yield subject.hit("the device has no certificate")
    for name, certificate in sorted(host.certificates.items()):
        if certificate.temporary:
            yield subject.hit(f"the certificate {shown(name)} is a temporary one", detail=name)


@host_rule(
    "dev-cert-expiry",
    "No certificate of the device is about to expire",
    Severity.WARNING,
    reason="A device whose certificate has expired can no longer connect.",
    remedy="Renew the certificate.",
    source="seed 003, Install production certificates; contract/edge.md §4.2",
)
def dev_cert_expiry(subject: ReadinessSubject, host: HostFacts, now: int) -> Iterator[Hit]:
    """Fewer than seven days left."""
    for name, certificate in sorted((host.certificates or {}).items()):
        if (left := certificate.expires_at - now) < CERTIFICATE_DAYS_MIN * _DAY:
            when = f"expires in {left // _DAY} days" if left > 0 else "has expired"
            yield subject.hit(f"the certificate {shown(name)} {when}", detail=name)


@host_rule(
    "dev-engine-moby",
    "The container engine is one that is supported in production",
    Severity.WARNING,
    reason="Other engines work, and nobody services them for this use.",
    remedy="Install moby-engine; on Ubuntu Core the Docker snap.",
    source="seed 003, Container engine; contract/edge.md §4.1",
)
def dev_engine_moby(subject: ReadinessSubject, host: HostFacts, _now: int) -> Iterator[Hit]:
    """An engine that is neither moby nor the snap."""
    engine = host.engine
    if engine is None or not (engine.name or engine.version):
        return
    if engine.name.lower() not in ("moby", "moby-engine", "docker-snap") and "azure" not in engine.version:
        yield subject.hit(f"the engine is {shown(engine.name or 'unnamed')} {shown(engine.version)}".rstrip())


@host_rule(
    "dev-up-protocol",
    "Deployments use the protocol that the device is configured with",
    Severity.WARNING,
    reason="A device that could connect by its own configuration loses its connection with the deployment's protocol.",
    remedy="Set UpstreamProtocol of edgeAgent and edgeHub to the device's.",
    source="seed 003, Be consistent with upstream protocol",
)
def dev_up_protocol(subject: ReadinessSubject, host: HostFacts, _now: int) -> Iterator[Hit]:
    """Another protocol than the device's own."""
    if host.upstream_protocol is None:
        return
    own = host.upstream_protocol.strip().lower()
    for name, module in subject.system_modules.items():
        if (protocol_of(module) or "amqp") != own:
            message = f"{name} uses another protocol than the device's own, {shown(PROTOCOLS.get(own, own))}"
            yield subject.module_hit(module, message, *module.at("UpstreamProtocol"))


@host_rule(
    "dev-outbound-port",
    "The device reaches its hub on the protocol's port",
    Severity.WARNING,
    reason="A firewall that keeps the port shut keeps the device away.",
    remedy="Open 5671 for AMQP or 8883 for MQTT, or use the protocol over web sockets on 443.",
    source="seed 003, Allow connections from IoT Edge devices",
)
def dev_outbound_port(subject: ReadinessSubject, host: HostFacts, _now: int) -> Iterator[Hit]:
    """A protocol whose port the device could not reach."""
    for name, module in subject.system_modules.items() if host.outbound_ports is not None else ():
        port = PORTS.get(protocol_of(module) or "amqp")
        if port is not None and port not in (host.outbound_ports or ()):
            message = f"{name} needs port {port}, which the device does not reach its hub on"
            yield subject.module_hit(module, message, *module.at("UpstreamProtocol"))


@host_rule(
    "dev-proxy",
    "All parts of the runtime know the proxy",
    Severity.WARNING,
    reason="Where the engine, the services and the modules do not all go through the proxy, something stays away.",
    remedy="Set the proxy of the engine, of aziot-edged, of aziot-identityd, and of edgeAgent and edgeHub.",
    source="seed 003, Configure communication through a proxy; contract/edge.md §4.1",
)
def dev_proxy(subject: ReadinessSubject, host: HostFacts, _now: int) -> Iterator[Hit]:
    """Some that go through a proxy, and some that do not."""
    if host.proxies is None:
        return
    has_proxy_by_part = dict(host.proxies) | ({"the engine": host.engine.proxy} if host.engine is not None else {})
    has_proxy_by_part |= {
        name: has_proxy(module) for name, module in subject.system_modules.items() if name in (AGENT, HUB)
    }
    without = sorted(name for name, has in has_proxy_by_part.items() if not has)
    if any(has_proxy_by_part.values()) and without:
        yield subject.hit(f"there is a proxy, and {', '.join(map(shown, without))} does not know it")


@host_rule(
    "dev-dns",
    "The engine has a DNS server for its containers",
    Severity.INFO,
    reason="Without one, containers may not find the hub in every network.",
    remedy="Set dns in daemon.json, or HostConfig.Dns of every module.",
    source="seed 003, Set DNS server in container engine settings; contract/edge.md §4.1",
)
def dev_dns(subject: ReadinessSubject, host: HostFacts, _now: int) -> Iterator[Hit]:
    """No DNS server, neither of the engine nor of each module."""
    if host.engine is None or host.engine.dns:
        return
    if not subject.modules or not all(member(module.host_config, "Dns") for module in subject.modules):
        yield subject.hit("the engine has no DNS server for its containers")


@host_rule(
    "dev-log-driver",
    "The engine limits the logs of modules",
    Severity.WARNING,
    reason="The engine does not limit logs by itself, and a full disk stops the device.",
    remedy='Set "log-driver": "local" in daemon.json, or max-size and max-file of json-file.',
    source="seed 003, Set up default logging driver; contract/edge.md §4.1",
)
def dev_log_driver(subject: ReadinessSubject, host: HostFacts, _now: int) -> Iterator[Hit]:
    """A driver without a limit."""
    engine = host.engine
    if engine is not None and engine.log_driver and not limits_logs(engine.log_driver, engine.log_options):
        yield subject.hit(f"the engine's log driver {shown(engine.log_driver)} has no max-size")


@host_rule(
    "gc-enabled",
    "Images that are no longer used are collected",
    Severity.INFO,
    reason="Images of former versions stay on the disk until it is full.",
    remedy="Leave image_garbage_collection.enabled at true in config.toml.",
    source="seed 003, Configure image garbage collection",
)
def gc_enabled(subject: ReadinessSubject, host: HostFacts, _now: int) -> Iterator[Hit]:
    """The collection of images is off."""
    if host.image_collection is not None and not host.image_collection.enabled:
        yield subject.hit("unused images are not collected")


@host_rule(
    "gc-values",
    "The settings of image collection are ones that the runtime takes",
    Severity.WARNING,
    reason="The runtime does not start the collection with settings it cannot read.",
    remedy="Write days as in 1d, ages in days as in 7d, and the time of day as HH:MM.",
    source="seed 003, Configure image garbage collection; contract/edge.md §3.7",
)
def gc_values(subject: ReadinessSubject, host: HostFacts, _now: int) -> Iterator[Hit]:
    """A setting of another form."""
    settings = host.image_collection
    if settings is None:
        return
    for name, value, fits in (
        ("cleanup_recurrence", settings.cleanup_recurrence, _days),
        ("image_age_cleanup_threshold", settings.image_age_cleanup_threshold, _age),
        ("cleanup_time", settings.cleanup_time, _time),
    ):
        if not fits(value):
            yield subject.hit(f"{name} is {shown(value)!r}", detail=name)


@host_rule(
    "vol-unused",
    "No volume lies unused on the device",
    Severity.INFO,
    reason="The runtime removes no volumes; unused ones fill the disk.",
    remedy="Remove those whose data is not needed with the engine's own tools.",
    source="seed 003, Manage volumes",
)
def vol_unused(subject: ReadinessSubject, host: HostFacts, _now: int) -> Iterator[Hit]:
    """Volumes that no container uses."""
    if host.unused_volumes:
        listed = ", ".join(map(shown, sorted(host.unused_volumes)[:5]))
        more = f" and {len(host.unused_volumes) - 5} more" if len(host.unused_volumes) > 5 else ""  # noqa: PLR2004 - as above
        yield subject.hit(f"{len(host.unused_volumes)} volumes are unused: {listed}{more}")
