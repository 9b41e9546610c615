"""Where webhooks may lead: public addresses over HTTPS, and what a setting allows besides."""

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

import msgspec

from events.webhook.errors import TargetRefused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

ANY = "any"
_PUBLIC_V6 = IPv6Network("2000::/3")
_EVERYTHING = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


class AllowedTargets(msgspec.Struct, frozen=True):
    """The rule. `private` are networks that are allowed although they are not public; there plain HTTP is, too."""

    private: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "AllowedTargets":
        """Read networks with commas between them, as in `10.0.0.0/8,::1`, or `any`.

        Raises:
            ValueError: one of them is no network.
        """
        if text.strip() == ANY:
            return cls(_EVERYTHING)
        return cls(tuple(ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip()))

    def allow(self, address: Address, *, scheme: str) -> bool:
        """Whether a webhook may be delivered to an address over `http` or `https`."""
        address = _plain(address)
        if any(address.version == network.version and address in network for network in self.private):
            return True
        return scheme == "https" and is_public(address)


def is_public(address: Address) -> bool:
    """Whether an address is anybody's on the internet: not private, loopback, link-local, multicast, reserved or a tunnel's."""
    address = _plain(address)
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return isinstance(address, IPv4Address) or (address in _PUBLIC_V6 and address.sixtofour is None)


def address_of(host: str) -> Address | None:
    """The address that a host of a URL is, where it is one and no name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _plain(address: Address) -> Address:
    """An IPv4 address that is written as IPv6 is the IPv4 address."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def check_target(url: str, targets: AllowedTargets) -> None:
    """Refuse a URL of which it can be told without asking anybody that it leads nowhere allowed.

    Raises:
        TargetRefused: it names an address that is not allowed, or goes over plain HTTP where nothing private is.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    address = IPv4Address("127.0.0.1") if host.rpartition(".")[2] == "localhost" else address_of(host)
    if address is not None and not targets.allow(address, scheme=parts.scheme):
        raise TargetRefused(host)
    if parts.scheme == "http" and not targets.private:
        raise TargetRefused(f"plain http at {host}")
