"""The addresses that webhooks may use: public addresses over HTTPS, and the networks of a setting."""

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
    """The allowed addresses. `private` are networks that are allowed although they are not public, also over plain HTTP."""

    private: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "AllowedTargets":
        """Returns the networks in a text such as `10.0.0.0/8,::1`, or all for `any`; ValueError if a part is none."""
        if text.strip() == ANY:
            return cls(_EVERYTHING)
        return cls(tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()))

    def allow(self, address: Address, *, scheme: str) -> bool:
        """Returns whether a webhook may use an address over `http` or `https`."""
        # Without this, ::ffff:10.0.0.1 would get around the rules for 10.0.0.1.
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address.version == network.version and address in network for network in self.private):
            return True
        # The rest is public addresses: not private, loopback, link-local, multicast, reserved, or of a tunnel.
        if scheme != "https" or address.is_multicast or address.is_reserved or not address.is_global:
            return False
        # 2000::/3 is the part of IPv6 that is in use. A 6to4 address holds an IPv4 address, which could be private.
        return isinstance(address, IPv4Address) or (address in _PUBLIC_V6 and address.sixtofour is None)


def address_of(host: str) -> Address | None:
    """Returns the address that a host is; `None` for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def check_target(url: str, targets: AllowedTargets) -> None:
    """Refuse (TargetRefused) a URL that is not allowed, as far as that is clear without resolving its host."""
    # Only an early answer for the operator: names can change, so each delivery checks the resolved addresses.
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    address = IPv4Address("127.0.0.1") if host.rpartition(".")[2] == "localhost" else address_of(host)
    if address is not None and not targets.allow(address, scheme=parts.scheme):
        raise TargetRefused(host)
    if parts.scheme == "http" and not targets.private:
        raise TargetRefused(f"plain http at {host}")
