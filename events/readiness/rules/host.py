"""Rules about hosts: they read the host facts that a device reports about itself."""

import re
from collections.abc import Iterator

from events.manifest.problem import Severity
from events.manifest.shape import shown
from events.readiness.finding import Hit
from events.readiness.host_facts import HostFacts
from events.readiness.module import member
from events.readiness.rule import Inspects, host_rule, rule
from events.readiness.rules.options import limits_logs
from events.readiness.rules.runtime import PROTOCOLS, has_proxy, protocol_of
from events.readiness.subject import ReadinessSubject

CERTIFICATE_DAYS_MIN = 7
PORTS = {"amqp": 5671, "mqtt": 8883, "amqpws": 443, "mqttws": 443}
"""The hub's port for each protocol (seed 003, Allow connections from IoT Edge devices)."""

_CERTIFICATES = "seed 003, Install production certificates"
_DAY = 24 * 3600 * 1000
_days = re.compile(r"[1-9][0-9]*d").fullmatch
_age = re.compile(r"[0-9]+d").fullmatch
_time = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]").fullmatch


@rule("host-facts-unreadable", Severity.INFO, Inspects.HOST, source="this document")
def host_facts_unreadable(subject: ReadinessSubject) -> Iterator[Hit]:
    """The device's host facts are readable.

    The rules about hosts skip a device whose host facts cannot be read.
    Remedy: Report the section in the form that this document describes.
    """
    if isinstance(subject.host, str):
        yield subject.hit(f"the reported section hostFacts cannot be read: {shown(subject.host, 200)}")


@host_rule("dev-cert-temporary", Severity.WARNING, source=_CERTIFICATES)
def dev_cert_temporary(subject: ReadinessSubject, host: HostFacts) -> Iterator[Hit]:
    """The device uses certificates that you issued.

    The certificates that the runtime generates are for testing. They expire after three months.
    Remedy: Install a device CA certificate and configure its path on the device.
    """
    if host.certificates == {}:
        yield subject.hit("the device has no certificate")
    for name, certificate in sorted((host.certificates or {}).items()):
        if certificate.temporary:
            yield subject.hit(f"the certificate {shown(name)} is temporary", detail=name)


@host_rule("dev-cert-expiry", Severity.WARNING, source=f"{_CERTIFICATES}; contract/edge.md §4.2")
def dev_cert_expiry(subject: ReadinessSubject, host: HostFacts) -> Iterator[Hit]:
    """No certificate of the device is about to expire.

    A device whose certificate has expired can no longer connect.
    Remedy: Renew the certificate.
    """
    for name, certificate in sorted((host.certificates or {}).items()):
        if (left := certificate.expires_at - subject.now) < CERTIFICATE_DAYS_MIN * _DAY:
            when = f"expires in {left // _DAY} days" if left > 0 else "has expired"
            yield subject.hit(f"the certificate {shown(name)} {when}", detail=name)


@host_rule("dev-engine-moby", Severity.WARNING, source="seed 003, Container engine; contract/edge.md §4.1")
def dev_engine_moby(subject: ReadinessSubject, host: HostFacts) -> Iterator[Hit]:
    """The container engine is supported in production.

    Other engines work, but they are for development: Microsoft and Canonical do not service them.
    Remedy: Install moby-engine, or the Docker snap on Ubuntu Core.
    """
    engine = host.engine
    if engine is None or not (engine.name or engine.version):
        return
    # Microsoft's builds of moby have versions such as 20.10.14+azure-1, whatever name the engine reports.
    if engine.name.lower() not in ("moby", "moby-engine", "docker-snap") and "azure" not in engine.version:
        yield subject.hit(f"the engine is {shown(engine.name or 'unnamed')} {shown(engine.version)}".rstrip())


@host_rule("dev-up-protocol", Severity.WARNING, source="seed 003, Be consistent with upstream protocol")
def dev_up_protocol(subject: ReadinessSubject, host: HostFacts) -> Iterator[Hit]:
    """Deployments use the upstream protocol of the device's own configuration.

    The device connects with the protocol of its own configuration. A deployment with another protocol can disconnect it.
    Remedy: Set UpstreamProtocol of edgeAgent and edgeHub to the device's protocol.
    """
    if host.upstream_protocol is None:
        return
    own = host.upstream_protocol.strip().lower()
    for name, module in subject.system_modules.items():
        # Without UpstreamProtocol, the runtime uses AMQP.
        if (protocol_of(module) or "amqp") != own:
            message = f"{name} uses another protocol than the device, which uses {shown(PROTOCOLS.get(own, own))}"
            yield subject.module_hit(module, message, *module.at("UpstreamProtocol"))


@host_rule("dev-outbound-port", Severity.WARNING, source="seed 003, Allow connections from IoT Edge devices")
def dev_outbound_port(subject: ReadinessSubject, host: HostFacts) -> Iterator[Hit]:
    """The device reaches its hub on the protocol's port.

    A firewall that blocks the port disconnects the device.
    Remedy: Open port 5671 for AMQP or 8883 for MQTT, or use the protocol over WebSockets on port 443.
    """
    for name, module in subject.system_modules.items() if host.outbound_ports is not None else ():
        port = PORTS.get(protocol_of(module) or "amqp")
        if port is not None and port not in (host.outbound_ports or ()):
            message = f"{name} needs port {port}, on which the device does not reach its hub"
            yield subject.module_hit(module, message, *module.at("UpstreamProtocol"))


@host_rule(
    "dev-proxy", Severity.WARNING, source="seed 003, Configure communication through a proxy; contract/edge.md §4.1"
)
def dev_proxy(subject: ReadinessSubject, host: HostFacts) -> Iterator[Hit]:
    """All parts of the runtime use the proxy.

    If a device needs a proxy, any part without it cannot connect.
    Remedy: Configure the proxy for the engine, aziot-edged, aziot-identityd, edgeAgent and edgeHub.
    """
    if host.proxies is None:
        return
    has_proxy_by_part = dict(host.proxies) | ({"the engine": host.engine.proxy} if host.engine is not None else {})
    has_proxy_by_part |= {name: has_proxy(module) for name, module in subject.system_modules.items()}
    without = sorted(name for name, has in has_proxy_by_part.items() if not has)
    if any(has_proxy_by_part.values()) and without:
        yield subject.hit(f"the device uses a proxy, but these parts do not: {', '.join(map(shown, without))}")


@host_rule(
    "dev-dns", Severity.INFO, source="seed 003, Set DNS server in container engine settings; contract/edge.md §4.1"
)
def dev_dns(subject: ReadinessSubject, host: HostFacts) -> Iterator[Hit]:
    """The engine has a DNS server for its containers.

    Without a DNS server, containers cannot resolve the hub's name in some networks.
    Remedy: Set dns in daemon.json, or HostConfig.Dns in every module.
    """
    has_dns = subject.modules and all(member(module.host_config, "Dns") for module in subject.modules)
    if host.engine is not None and not host.engine.dns and not has_dns:
        yield subject.hit("the engine has no DNS server for its containers")


@host_rule("dev-log-driver", Severity.WARNING, source="seed 003, Set up default logging driver; contract/edge.md §4.1")
def dev_log_driver(subject: ReadinessSubject, host: HostFacts) -> Iterator[Hit]:
    """The engine limits the size of module logs.

    By default the engine does not limit logs, and a full disk stops the device.
    Remedy: Set "log-driver": "local" in daemon.json, or set max-size and max-file for json-file.
    """
    engine = host.engine
    if engine is not None and engine.log_driver and not limits_logs(engine.log_driver, engine.log_options):
        yield subject.hit(f"the engine's log driver {shown(engine.log_driver)} has no max-size")


@host_rule("gc-enabled", Severity.INFO, source="seed 003, Configure image garbage collection")
def gc_enabled(subject: ReadinessSubject, host: HostFacts) -> Iterator[Hit]:
    """Unused images are removed.

    Images of earlier versions otherwise stay on the disk until it is full.
    Remedy: Keep image_garbage_collection.enabled at true in config.toml.
    """
    if host.image_collection is not None and not host.image_collection.enabled:
        yield subject.hit("image garbage collection is off")


@host_rule("gc-values", Severity.WARNING, source="seed 003, Configure image garbage collection; contract/edge.md §3.7")
def gc_values(subject: ReadinessSubject, host: HostFacts) -> Iterator[Hit]:
    """The settings of image garbage collection are valid.

    The runtime does not start the garbage collection with settings that it cannot read.
    Remedy: Write the recurrence and the age in days, such as 1d and 7d, and the time of day as HH:MM.
    """
    settings = host.image_collection
    if settings is None:
        return
    for name, value, fits in (
        ("cleanup_recurrence", settings.cleanup_recurrence, _days),
        ("image_age_cleanup_threshold", settings.image_age_cleanup_threshold, _age),
        ("cleanup_time", settings.cleanup_time, _time),
    ):
        if not fits(value):
            yield subject.hit(f"{name} is {shown(value)!r}, which the runtime cannot read", detail=name)


@host_rule("vol-unused", Severity.INFO, source="seed 003, Manage volumes")
def vol_unused(subject: ReadinessSubject, host: HostFacts) -> Iterator[Hit]:
    """The device has no unused volumes.

    The runtime does not remove volumes. Unused volumes fill the disk.
    Remedy: Remove volumes whose data is not needed with the engine's own tools.
    """
    if host.unused_volumes:
        listed = ", ".join(map(shown, sorted(host.unused_volumes)[:5]))
        more = f" and {len(host.unused_volumes) - 5} more" if len(host.unused_volumes) > 5 else ""  # noqa: PLR2004 - as above
        yield subject.hit(f"{len(host.unused_volumes)} volumes are unused: {listed}{more}")
