"""Which addresses of the internet a request may go to.

Only addresses that are global by the registries of special-purpose addresses (IANA, RFC 6890 and its updates) are
public. All others lead to this machine, its network, a cloud's metadata service or nowhere, and are refused unless a
connection names their network. Python's own `is_global` differs between versions, so the list stands here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_V4: Final = {
    ipaddress.IPv4Network(network): what
    for network, what in {
        "0.0.0.0/8": "this host",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared by a provider's customers",
        "127.0.0.0/8": "this machine",
        "168.63.129.16/32": "a cloud's own service",
        "169.254.0.0/16": "link-local, where clouds keep credentials",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "reserved for protocols",
        "192.0.2.0/24": "for documentation",
        "192.88.99.0/24": "a relay to IPv6",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "for benchmarks",
        "198.51.100.0/24": "for documentation",
        "203.0.113.0/24": "for documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
    }.items()
}
_V6_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")
_V6: Final = {
    ipaddress.IPv6Network(network): what
    for network, what in {
        "2001::/23": "reserved for protocols and tunnels",
        "2001:db8::/32": "for documentation",
        "2002::/16": "a tunnel to IPv4",
        "3fff::/20": "for documentation",
        "::1/128": "this machine",
        "fc00::/7": "private",
        "fe80::/10": "link-local",
    }.items()
}
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  #: RFC 6052: an IPv4 address as networks without IPv4 see it


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks, or single addresses, that `texts` name.

    Raises:
        ValueError: One of them is neither; its bits beyond the prefix must be zero.
    """
    return tuple(ipaddress.ip_network(text.strip()) for text in texts)


def refused(text: str, allowed: Iterable[Network] = ()) -> str | None:
    """Return what kind of address that is not public `text` is, None when a request may go there."""
    address = _plain(ipaddress.ip_address(text.partition("%")[0]))
    if any(address in network for network in allowed):
        return None
    return special(address)


def special(address: Address) -> str | None:
    """Return what an address that is not public is for, None for a public one."""
    if isinstance(address, ipaddress.IPv4Address):
        return next((what for network, what in _V4.items() if address in network), None)
    found = next((what for network, what in _V6.items() if address in network), None)
    return found if found or address in _V6_GLOBAL else "not public"


def public(text: str) -> bool:
    """Return whether an address is public."""
    return special(_plain(ipaddress.ip_address(text.partition("%")[0]))) is None


def _plain(address: Address) -> Address:
    """The IPv4 address inside one that only carries it over IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
