"""What a device reports of its host, for rules that no manifest can answer."""

import msgspec

from events.canonical import Json

SECTION = "hostFacts"
"""The member of the device's reported properties that holds the events."""


class Certificate(msgspec.Struct, frozen=True, rename="camel"):
    """A certificate on the device. `expires_at` is in milliseconds; `temporary` one was made by the runtime for testing."""

    expires_at: int
    temporary: bool = False


class ContainerEngine(msgspec.Struct, frozen=True, rename="camel"):
    """The container engine as its `info` and its daemon.json have it."""

    name: str = ""
    version: str = ""
    log_driver: str = ""
    log_options: dict[str, str] = {}
    dns: tuple[str, ...] = ()
    proxy: bool = False


class ImageCollection(msgspec.Struct, frozen=True, rename="camel"):
    """The runtime's settings for the collection of unused images, as config.toml has them."""

    enabled: bool = True
    cleanup_recurrence: str = "1d"
    image_age_cleanup_threshold: str = "7d"
    cleanup_time: str = "00:00"


class HostFacts(msgspec.Struct, frozen=True, rename="camel"):
    """The section `hostFacts` of a device's reported properties; what is left out is not known, and no rule speaks of it.

    `proxies` says for each part of the runtime that was looked at (`aziot-edged`, `aziot-identityd`) whether it goes
    through a proxy. `outbound_ports` are those on which the device could reach its hub.
    """

    certificates: dict[str, Certificate] | None = None
    engine: ContainerEngine | None = None
    upstream_protocol: str | None = None
    image_collection: ImageCollection | None = None
    unused_volumes: tuple[str, ...] | None = None
    outbound_ports: tuple[int, ...] | None = None
    proxies: dict[str, bool] | None = None


def read_host_facts(section: Json) -> HostFacts | str:
    """The events in a reported section, or why it cannot be read; anything is answered."""
    try:
        return msgspec.convert(section, HostFacts)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as error:
        return str(error)
