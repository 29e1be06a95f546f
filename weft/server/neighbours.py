"""Whose program is on the other side of a connection within this machine."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final

Address = tuple[str, int]

TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""All connections with the users that their sockets belong to: Linux alone has them (proc(5))."""


def user_of(peer: Address | None, own: Address | None) -> int | None:
    """Return the number of the user whose program has made a connection; None where nobody says so.

    Args:
        peer: The other side's address and port.
        own: This side's.
    """
    if peer is None or own is None:
        return None
    return next((user for here, there, user in _connections() if (here, there) == (peer[:2], own[:2])), None)


def _connections() -> Iterator[tuple[Address, Address, int]]:
    for table in TABLES:
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for words in map(str.split, lines):
            yield _address(words[1]), _address(words[2]), int(words[7])


def _address(text: str) -> Address:
    """Return an address that stands there as words of this machine's byte order, in hexadecimal."""
    address, _, port = text.partition(":")
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    found = ip_address(socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed))
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found), int(port, 16)
