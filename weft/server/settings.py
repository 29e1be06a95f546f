"""What an installation says about its server: where it listens, under which names it is known, how much it takes."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from weft.errors import InvalidInputs

HOST: Final = "127.0.0.1"
PORT: Final = 8321
MOST_BYTES: Final = 1_000_000
"""Of the body of a request to the API."""
HEADERS_S: Final = 10.0
"""How long a client may take to send the head of a request."""
BODY_S: Final = 30.0
"""How long it may take to send the body."""


@dataclass(frozen=True, slots=True)
class Settings:
    """See docs/server.md for what each is good for."""

    host: str = HOST
    port: int = PORT  #: the one that it listens on
    url: str = ""  #: WEFT_URL: what people type, where a proxy stands before the server
    names: tuple[str, ...] = ()  #: WEFT_HOSTS: further values of the header Host
    most_bytes: int = MOST_BYTES  #: WEFT_MAX_BODY
    headers_s: float = HEADERS_S
    body_s: float = BODY_S

    @property
    def address(self) -> str:
        """The address of the server, as a browser on this machine takes it."""
        shown = "127.0.0.1" if self.host in {"0.0.0.0", "::", ""} else self.host  # noqa: S104
        return self.url or f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}"

    @property
    def is_secure(self) -> bool:
        """Whether browsers come by TLS."""
        return self.url.startswith("https://")

    @property
    def cookie(self) -> str:
        """The name of the session's cookie. Cookies know no ports: two servers of one machine must not share it."""
        return "__Host-weft" if self.is_secure else f"weft_{self.port}"

    def hosts(self) -> frozenset[str]:
        """Return every value of the header Host that is answered."""
        names = ["localhost", "127.0.0.1", "[::1]"]
        if self.host and not ipaddress_any(self.host):
            names.append(f"[{self.host}]" if ":" in self.host else self.host.lower())
        known = {f"{name}:{self.port}" for name in names}
        if self.port == 80:
            known.update(names)
        if self.url:
            known.add(urlsplit(self.url).netloc.lower())
        for name in self.names:
            if has_port(name):
                known.add(name)
            else:
                known.update((name, f"{name}:80", f"{name}:443", f"{name}:{self.port}"))
        return frozenset(known)


def read_settings(environ: Mapping[str, str], *, host: str = HOST, port: int = PORT) -> Settings:
    """Read the settings from the environment.

    Raises:
        InvalidInputs: A variable says what cannot be meant.
    """
    url = environ.get("WEFT_URL", "").rstrip("/")
    if url:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query:
            raise InvalidInputs(f"WEFT_URL is {url!r}; it must be like https://weft.example.org, without a path.")
    names = tuple(name.strip().lower() for name in environ.get("WEFT_HOSTS", "").split(",") if name.strip())
    for name in names:
        if "/" in name or "*" in name or name.isspace():
            raise InvalidInputs(f"WEFT_HOSTS names {name!r}; it takes names like weft.example.org or box.lan:8321.")
    return Settings(host, port, url, names, _bytes(environ.get("WEFT_MAX_BODY")))


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def ipaddress_any(host: str) -> bool:
    """Tell whether an address stands for every address of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def has_port(name: str) -> bool:
    """Tell whether a value of Host names a port."""
    return name.rpartition("]")[2].rpartition(":")[2].isdigit() and ":" in name.rpartition("]")[2]


def _bytes(text: str | None) -> int:
    if text is None:
        return MOST_BYTES
    if not text.isascii() or not text.isdigit() or not 1_000 <= int(text) <= 1_000_000_000:
        raise InvalidInputs(f"WEFT_MAX_BODY is {text!r}; it is a number of bytes, from 1000 to 1000000000.")
    return int(text)
