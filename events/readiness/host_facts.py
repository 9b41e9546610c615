"""Host facts: what a device reports about its host, for rules that a manifest cannot answer."""

import msgspec

from events.canonical import Json

SECTION = "hostFacts"
"""The member of the device's reported properties with the host facts."""


class Certificate(msgspec.Struct, frozen=True, rename="camel"):
    """A certificate on the device. `expires_at` is in milliseconds; the runtime generated a `temporary` one for testing."""

    expires_at: int
    temporary: bool = False


class ContainerEngine(msgspec.Struct, frozen=True, rename="camel"):
    """The container engine, as its `info` and daemon.json describe it."""

    name: str = ""
    version: str = ""
    log_driver: str = ""
    log_options: dict[str, str] = {}
    dns: tuple[str, ...] = ()
    proxy: bool = False


class ImageCollection(msgspec.Struct, frozen=True, rename="camel"):
    """The runtime's settings for image garbage collection in config.toml, with the defaults of the runtime."""

    enabled: bool = True
    cleanup_recurrence: str = "1d"
    image_age_cleanup_threshold: str = "7d"
    cleanup_time: str = "00:00"


class HostFacts(msgspec.Struct, frozen=True, rename="camel"):
    """The section `hostFacts` of a device's reported properties. A missing member is unknown, and rules skip it.

    `proxies` says for each service of the runtime (`aziot-edged`, `aziot-identityd`) whether it uses a proxy.
    `outbound_ports` are the ports on which the device reaches its hub.
    """

    certificates: dict[str, Certificate] | None = None
    engine: ContainerEngine | None = None
    upstream_protocol: str | None = None
    image_collection: ImageCollection | None = None
    unused_volumes: tuple[str, ...] | None = None
    outbound_ports: tuple[int, ...] | None = None
    proxies: dict[str, bool] | None = None


def read_host_facts(section: Json) -> HostFacts | str:
    """Return the host facts in a reported section, or an error text. Any value is accepted."""
    try:
        return msgspec.convert(section, HostFacts)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as error:
        return str(error)
