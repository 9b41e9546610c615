"""For every rule something that it stops at, and something as near to that as can be that it lets pass."""

import json
from typing import Any

import msgspec

from events.readiness.host_facts import HostFacts, ImageCollection
from events.readiness.subject import ReadinessSubject, subject_of_sections
from tests.readiness.manifests import (
    ABSENT,
    LIMITS,
    LOGS,
    READY,
    REGISTRY,
    certificate,
    create_options,
    host,
    host_config,
    hub_env,
    image,
    layer,
    manifest,
    moby,
    module,
    options,
    subject,
    temp,
)

CREDENTIAL = "agent/runtime/settings/registryCredentials/own"
AZURE = {"address": "plant.azurecr.io", "username": "plant", "password": {"$secret": "7"}}
BASE_OF_TEN = {"id": "base", "content": READY, "priority": 10}


def one(document: Any, *, template: bool = False) -> ReadinessSubject:
    return subject(document, template=template)


def priority(number: int) -> ReadinessSubject:
    return subject(BASE_OF_TEN, {"content": layer({"modules.extra": module("extra")}), "priority": number})


def volume(name: str) -> ReadinessSubject:
    before = host_config(Binds=["data:/data"])
    return subject(before, layer({"modules.temp.settings.createOptions": options(Binds=[f"{name}:/data"])}))


def bindings(*ports: str, address: str = "10.0.0.1") -> str:
    return options(PortBindings={f"{port}/tcp": [{"HostPort": port, "HostIp": address}] for port in ports})


def two_modules(first: str, second: str) -> ReadinessSubject:
    return one(
        manifest(
            ("agent/modules/temp/settings/createOptions", first), ("agent/modules/alarm/settings/createOptions", second)
        )
    )


def chunks(**settings: str) -> dict[str, Any]:
    return temp("settings", {"image": f"{REGISTRY}/temp:1.0.0", **settings})


def sized(characters: int, *, pieces: int = 9) -> dict[str, Any]:
    """Settings of a module of its own that fill its twin."""
    return manifest(("big/properties.desired", {f"k{n}": "x" * (characters // pieces) for n in range(pieces)}))


def twice() -> ReadinessSubject:
    (document,) = one(READY).documents
    return ReadinessSubject((msgspec.structs.replace(document, doubled=("/modulesContent/$edgeAgent",)),))


def with_modules(count: int) -> dict[str, Any]:
    slim = {"type": "docker", "status": "running", "restartPolicy": "always", "settings": {"image": f"{REGISTRY}/t:1"}}
    return manifest(("agent/modules", {f"m{number}": slim for number in range(count)}))


LONG = json.dumps({"Labels": {"note": "x" * 600}, "HostConfig": LIMITS})
PROXY = "agent/systemModules/{}/env/https_proxy/value"
PROTOCOL = "agent/systemModules/{}/env/UpstreamProtocol{}"

# Rule → what it stops at, what it lets pass.
EXAMPLES: dict[str, tuple[ReadinessSubject, ReadinessSubject]] = {
    # structure
    "manifest-invalid": (one(temp("status", "asleep")), one(temp("status", "stopped"))),
    "merged-incomplete": (
        subject(READY, layer({"modules.tmep.env.A": {"value": "b"}})),
        subject(READY, layer({"modules.temp.env.A": {"value": "b"}})),
    ),
    "unknown-member": (one(temp("note", "x")), one(temp("version", "x"))),
    "duplicate-member": (twice(), one(temp("version", "x"))),
    "placeholder": (one(temp("env/URL/value", "${URL}")), one(temp("env/URL/value", "${URL}"), template=True)),
    "placeholder-strict": (one(temp("status", "${STATUS}")), one(temp("status", "${STATUS}"), template=True)),
    "schema-version": (one(manifest(("agent/schemaVersion", "1.2"))), one(manifest(("hub/schemaVersion", "1.2")))),
    "ea-missing": (
        one(manifest(("agent/systemModules/edgeAgent", ABSENT))),
        subject(layer({"modules.extra": module("extra")})),
    ),
    "module-name": (one(manifest(("agent/modules/m", module()))), one(manifest(("agent/modules/m1", module())))),
    "restart-policy-value": (one(temp("restartPolicy", "sometimes")), one(temp("restartPolicy", "never"))),
    "on-unhealthy-no-effect": (one(temp("restartPolicy", "on-unhealthy")), one(temp("restartPolicy", "on-failure"))),
    "startup-order-agent": (
        one(manifest(("agent/systemModules/edgeAgent/startupOrder", 1))),
        one(manifest(("agent/systemModules/edgeHub/startupOrder", 1))),
    ),
    "startup-order-schema": (
        one(manifest(("agent/schemaVersion", "1.0"), ("agent/modules/temp/startupOrder", 1))),
        one(temp("startupOrder", 1)),
    ),
    # layers
    "layered-has-system-modules": (
        subject(layer({"systemModules.edgeHub.env.A": {"value": "b"}})),
        subject(layer({"modules.edgeHub.env.A": {"value": "b"}})),
    ),
    "layered-no-agent-object": (
        subject({"modulesContent": {"temp": {"properties.desired.a": 1}}}),
        subject({"modulesContent": {"$edgeAgent": {}, "temp": {"properties.desired.a": 1}}}),
    ),
    "layered-full-overwrite": (
        subject(layer(temp={"properties.desired": {"interval": 1}})),
        subject(layer(temp={"properties.desired.interval": 1})),
    ),
    "layered-priority": (priority(10), priority(11)),
    # images
    "image-empty": (one(image(" ")), one(image("x:1.0.0"))),
    "image-format": (one(image("example.com/a:1:2")), one(image(f"{REGISTRY}:5000/a@sha256:{'0' * 64}"))),
    "image-placeholder": (one(image("${MODULES_TEMP}")), one(image("$upstream:8000/temp:1.0.0"))),
    "image-debug": (one(image(f"{REGISTRY}/temp:1.0.0.debug")), one(image(f"{REGISTRY}/debugger-free:1.0.0"))),
    "tag-missing": (one(image(f"{REGISTRY}/temp")), one(image(f"{REGISTRY}/temp@sha256:{'a' * 64}"))),
    "tag-latest": (one(image(f"{REGISTRY}/temp:latest")), one(image(f"{REGISTRY}/latest:1.0.0"))),
    "tag-rolling-runtime": (
        one(manifest(("agent/systemModules/edgeHub/settings/image", f"{REGISTRY}/azureiotedge-hub:1.5-linux-amd64"))),
        one(manifest(("agent/systemModules/edgeHub/settings/image", f"{REGISTRY}/azureiotedge-hub:1.5.4-linux-amd64"))),
    ),
    "runtime-registry": (
        one(manifest(("agent/systemModules/edgeHub/settings/image", "mcr.microsoft.com/azureiotedge-hub:1.5.4"))),
        one(
            manifest(
                ("agent/systemModules/edgeHub/settings/image", "mcr.microsoft.com/azureiotedge-hub:1.5.4"),
                ("agent/modules", {"temp": module(settings={"image": "mcr.microsoft.com/temp:1.0.0"})}),
            )
        ),
    ),
    # the runtime
    "up-protocol-value": (one(hub_env(UpstreamProtocol="Smtp")), one(hub_env(UpstreamProtocol="AMQPWS"))),
    "up-protocol-consistent": (
        one(manifest((PROTOCOL.format("edgeAgent", ""), ABSENT))),
        one(manifest((PROTOCOL.format("edgeAgent", ""), ABSENT), (PROTOCOL.format("edgeHub", "/value"), "Amqp"))),
    ),
    "sysmod-storage": (one(hub_env(StorageFolder="/elsewhere")), one(hub_env(StorageFolder="/storage/deeper"))),
    "hub-optimize": (one(hub_env(OptimizeForPerformance="true")), one(hub_env(OptimizeForPerformance="False"))),
    "hub-protocol-heads": (
        one(hub_env(httpSettings__enabled="true")),
        one(hub_env(httpSettings__enabled="true", mqttSettings__enabled="false")),
    ),
    "hub-protocol-none": (
        one(hub_env(amqpSettings__enabled="false", mqttSettings__enabled="false")),
        one(hub_env(amqpSettings__enabled="false", mqttSettings__enabled="true")),
    ),
    "hub-protocol-typo": (one(hub_env(mqttSettings_enabled="false")), one(hub_env(mqttSettings__enabled="false"))),
    "hub-ttl-missing": (
        one(manifest(("hub/storeAndForwardConfiguration", ABSENT))),
        subject(layer(hub={"routes.extra": "FROM /messages/modules/temp/* INTO $upstream"})),
    ),
    "hub-ttl-infinite": (
        one(manifest(("hub/storeAndForwardConfiguration/timeToLiveSecs", -1))),
        one(manifest(("hub/storeAndForwardConfiguration/timeToLiveSecs", 0))),
    ),
    "hub-ttl-long": (
        one(manifest(("hub/storeAndForwardConfiguration/timeToLiveSecs", 7201))),
        one(manifest(("hub/storeAndForwardConfiguration/timeToLiveSecs", 7200))),
    ),
    "update-mode": (
        one(
            manifest(
                ("hub/routes/on", 'FROM /messages/modules/temp/* INTO BrokeredEndpoint("/modules/alarm/inputs/in")')
            )
        ),
        one(
            manifest(
                ("hub/routes/on", 'FROM /messages/modules/temp/* INTO BrokeredEndpoint("/modules/alarm/inputs/in")'),
                ("agent/systemModules/edgeAgent/env/ModuleUpdateMode/value", "WaitForAllPulls"),
            )
        ),
    ),
    "update-mode-value": (
        one(manifest(("agent/systemModules/edgeAgent/env/ModuleUpdateMode/value", "WaitForPulls"))),
        one(manifest(("agent/systemModules/edgeAgent/env/ModuleUpdateMode/value", "waitForAllPulls"))),
    ),
    "proxy-consistent": (
        one(manifest((PROXY.format("edgeAgent"), "http://proxy:3128"))),
        one(manifest((PROXY.format("edgeAgent"), "http://proxy:3128"), (PROXY.format("edgeHub"), "http://proxy:3128"))),
    ),
    "proxy-protocol": (
        one(manifest((PROXY.format("edgeHub"), "http://proxy:3128"), (PROTOCOL.format("edgeHub", "/value"), "Mqtt"))),
        one(manifest((PROXY.format("edgeHub"), "http://proxy:3128"), (PROTOCOL.format("edgeHub", "/value"), "MqttWs"))),
    ),
    # limits
    "twin-size": (one(sized(33_000)), one(sized(32_000))),
    "twin-size-near": (one(sized(27_000)), one(sized(26_000))),
    "modules-max": (one(with_modules(51)), one(with_modules(50))),
    "create-options-size": (
        one(create_options({"Labels": {"note": "x" * 4096}, "HostConfig": LIMITS})),
        one(create_options({"Labels": {"note": "x" * 3800}, "HostConfig": LIMITS})),
    ),
    "create-options-unchunked": (
        one(create_options(LONG)),
        one(chunks(createOptions=LONG[:512], createOptions01=LONG[512:])),
    ),
    # createOptions
    "create-options-json": (one(create_options("{")), one(create_options("null"))),
    "create-options-chunks": (
        one(chunks(createOptions="{", createOptions02="}")),
        one(chunks(createOptions="{", createOptions01="}")),
    ),
    "create-options-object": (
        one(temp("settings/createOptions", {"HostConfig": LIMITS})),
        one(temp("settings/createOptions", {"HostConfig": LIMITS}), template=True),
    ),
    "create-options-type": (one(create_options({"Env": {"A": "b"}})), one(create_options({"Env": ["A=b"]}))),
    "create-options-value": (one(host_config(Memory=6_000_000)), one(host_config(Memory=6 * 1024 * 1024))),
    "create-options-key-unknown": (one(create_options({"MemorySwap": 1})), one(host_config(memoryswap=1))),
    "create-options-restart": (
        one(host_config(RestartPolicy={"Name": "always"})),
        one(host_config(RestartPolicy={"Name": "no"})),
    ),
    "env-shadow": (
        one(create_options({"Env": ["IOTEDGE_DEVICEID=x"], "HostConfig": LIMITS})),
        one(create_options({"Env": ["OTHER=IOTEDGE_DEVICEID"], "HostConfig": LIMITS})),
    ),
    "log-config": (
        one(create_options({"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {}}}})),
        one(create_options({"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}}})),
    ),
    "log-driver-known": (
        one(host_config(LogConfig={"Type": "lokal"})),
        one(host_config(LogConfig={"Type": "journald"})),
    ),
    "log-option-known": (
        one(host_config(LogConfig={"Type": "local", "Config": {"maxsize": "1m"}})),
        one(host_config(LogConfig={"Type": "fluentd", "Config": {"tag": "x"}})),
    ),
    # isolation
    "debug-ports": (
        one(create_options({"ExposedPorts": {"5678/tcp": {}}})),
        one(create_options({"ExposedPorts": {"5679/tcp": {}}})),
    ),
    "host-ports": (
        two_modules(bindings("80"), bindings("80")),
        two_modules(bindings("80"), bindings("80", address="::1")),
    ),
    "host-ports-any-address": (
        one(create_options(bindings("80", address="0.0.0.0"))),  # noqa: S104
        one(create_options(bindings("80", address="10.0.0.1"))),
    ),
    "host-network": (one(host_config(NetworkMode="host")), one(host_config(NetworkMode="bridge"))),
    "host-namespaces": (one(host_config(PidMode="host")), one(host_config(PidMode="container:temp"))),
    "privileged": (one(host_config(Privileged=True)), one(host_config(Privileged=False))),
    "cap-add": (one(host_config(CapAdd=["NET_ADMIN"])), one(host_config(CapAdd=[], CapDrop=["ALL"]))),
    "docker-sock": (
        one(host_config(Binds=["/var/run/docker.sock:/var/run/docker.sock"])),
        one(host_config(Binds=["/srv/docker.sock.d:/data"])),
    ),
    "host-bind": (one(host_config(Binds=["/:/host"])), one(host_config(Binds=["/srv/temp:/host"]))),
    "devices": (
        one(host_config(Devices=[{"PathOnHost": "/dev/ttyUSB0", "PathInContainer": "/dev/tty"}])),
        one(host_config(Devices=[])),
    ),
    "res-memory": (
        one(create_options({"HostConfig": {"LogConfig": LOGS, "NanoCpus": 1}})),
        subject(layer({"modules.temp.env.A": {"value": "b"}})),
    ),
    "res-cpu": (
        one(create_options({"HostConfig": {"LogConfig": LOGS, "Memory": 10_000_000}})),
        one(create_options({"HostConfig": {"LogConfig": LOGS, "CpuShares": 512}})),
    ),
    "volume-renamed": (volume("other"), volume("data")),
    # registries
    "registry-credentials-missing": (one(image("other.example.com/temp:1.0.0")), one(image("quay.io/acme/temp:1.0.0"))),
    "registry-credential-unused": (
        one(manifest(("agent/runtime/settings/registryCredentials/more", {**AZURE, "username": "x"}))),
        one(
            manifest(
                ("agent/runtime/settings/registryCredentials/more", {**AZURE, "username": "x"}),
                ("agent/modules/temp/settings/image", "PLANT.azurecr.io/temp:1.0.0"),
            )
        ),
    ),
    "registry-admin-user": (
        one(manifest((CREDENTIAL, AZURE))),
        one(manifest((CREDENTIAL, {**AZURE, "username": "plant-pull"}))),
    ),
    "registry-password-clear": (
        one(manifest((f"{CREDENTIAL}/password", "hunter2"))),
        one(manifest((f"{CREDENTIAL}/password", "${PASSWORD}"))),
    ),
    # routes
    "route-syntax": (
        one(manifest(("hub/routes/up", "FROM /messages/* INTO upstream"))),
        one(manifest(("hub/routes/up", "select * from /messages/* into $UPSTREAM"))),
    ),
    "route-object-needs-1.1": (
        one(manifest(("hub/schemaVersion", "1.0"), ("hub/routes/up", {"route": "FROM /* INTO $upstream"}))),
        one(manifest(("hub/routes/up", {"route": "FROM /* INTO $upstream"}))),
    ),
    "route-priority-range": (
        one(manifest(("hub/routes/up", {"route": "FROM /* INTO $upstream", "priority": 10}))),
        one(manifest(("hub/routes/up", {"route": "FROM /* INTO $upstream", "priority": 9}))),
    ),
    "route-unknown-module": (
        one(manifest(("hub/routes/up", "FROM /messages/modules/tmep/outputs/* INTO $upstream"))),
        one(manifest(("hub/routes/up", "FROM /messages/modules/TEMP/outputs/* INTO $upstream"))),
    ),
    "route-wildcard-middle": (
        one(manifest(("hub/routes/up", "FROM /messages/modules/*/outputs/a INTO $upstream"))),
        one(manifest(("hub/routes/up", "FROM /messages/modules/temp/outputs/* INTO $upstream"))),
    ),
    "module-not-routed": (
        one(manifest(("hub/routes/alarm", ABSENT))),
        one(manifest(("hub/routes/alarm", "FROM /messages/* INTO $upstream"))),
    ),
    # hosts
    "host-facts-unreadable": (
        subject_of_sections({}, name="edge1", host="Expected `object`, got `int`"),
        subject_of_sections({}, name="edge1", host=HostFacts()),
    ),
    "dev-cert-temporary": (host(certificate(90, temporary=True)), host(certificate(90))),
    "dev-cert-expiry": (host(certificate(6)), host(certificate(7))),
    "dev-engine-moby": (host(moby(name="docker", version="28.2.2")), host(moby(name="docker", version="3.0.6+azure"))),
    "dev-up-protocol": (host(HostFacts(upstream_protocol="MqttWs")), host(HostFacts(upstream_protocol="AMQPWS"))),
    "dev-outbound-port": (host(HostFacts(outbound_ports=(5671,))), host(HostFacts(outbound_ports=(443,)))),
    "dev-proxy": (
        host(HostFacts(proxies={"aziot-edged": True})),
        host(
            HostFacts(proxies={"aziot-edged": True}),
            (PROXY.format("edgeAgent"), "http://proxy:3128"),
            (PROXY.format("edgeHub"), "http://proxy:3128"),
        ),
    ),
    "dev-dns": (host(moby(dns=())), host(moby())),
    "dev-log-driver": (
        host(moby(log_driver="json-file")),
        host(moby(log_driver="json-file", log_options={"max-size": "1m"})),
    ),
    "gc-enabled": (
        host(HostFacts(image_collection=ImageCollection(enabled=False))),
        host(HostFacts(image_collection=ImageCollection())),
    ),
    "gc-values": (
        host(HostFacts(image_collection=ImageCollection(cleanup_recurrence="12h"))),
        host(HostFacts(image_collection=ImageCollection(cleanup_recurrence="2d"))),
    ),
    "vol-unused": (host(HostFacts(unused_volumes=("old",))), host(HostFacts(unused_volumes=()))),
}
