"""How often and how much may be sent, judged before a byte of a body is parsed and before any table is asked.

Each process counts for itself: with several web processes behind one address, each lets so many through.
"""

from __future__ import annotations

import ipaddress
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from weft.errors import InvalidInputs
from weft.webhooks.requests import Headers, Refused

RATE: Final = "WEFT_WEBHOOK_RATE"
RATE_OF_ADDRESS: Final = "WEFT_WEBHOOK_RATE_PER_ADDRESS"
LARGEST: Final = "WEFT_WEBHOOK_LARGEST"

BURST_S: Final = 4.0
"""For so many seconds' worth of requests may come at once."""

MOST_KNOWN: Final = 20_000
"""Senders and addresses that are counted at a time; those that were quiet longest are forgotten."""

READ_S: Final = 10.0
"""How long a body may take to arrive."""

_DIGITS = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken."""

    rate: float = 100.0  #: requests of one webhook in a second
    rate_of_address: float = 50.0  #: requests of one sender's address in a second
    largest: int = 1_000_000  #: bytes of a body

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Read the limits from the environment.

        Raises:
            InvalidInputs: One is not a number in its range.
        """
        usual = cls()
        return cls(
            _number(environ, RATE, usual.rate, 0.1, 100_000),
            _number(environ, RATE_OF_ADDRESS, usual.rate_of_address, 0.1, 100_000),
            int(_number(environ, LARGEST, usual.largest, 1_000, 10_000_000)),
        )


def _number(environ: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    text = environ.get(name)
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise InvalidInputs(f"{name} must be a number from {least:g} to {most:g}, got {text[:40]!r}.")
    return number


class Rates:
    """A bucket of tokens for each key: it fills at `rate` and holds `BURST_S` seconds' worth, one at least."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._full = max(1.0, rate * BURST_S)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  #: tokens, and when that was

    def take(self, key: str, now: float) -> float:
        """Take a token; return 0 when there was one, else in how many seconds there will be."""
        tokens, then = self._buckets.get(key, (self._full, now))
        tokens = min(self._full, tokens + max(0.0, now - then) * self._rate)
        wait_s = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[key] = (tokens if wait_s else tokens - 1, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > MOST_KNOWN:
            self._buckets.popitem(last=False)
        return wait_s


class Gatekeeper:
    """Lets a request come as far as having its body read, or not."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._of_webhook = Rates(limits.rate)
        self._of_address = Rates(limits.rate_of_address)

    def admit(self, path: str, address: str, headers: Headers, now: float) -> None:
        """Judge a request by its head.

        Args:
            path: The webhook's, whether there is one or not.
            address: The sender's; of IPv6 the network counts, since a host has all of its addresses.
            headers: As they came.
            now: A clock that never goes back.

        Raises:
            Refused: It comes too often, is too large, or its body is not plain.
        """
        wait_s = self._of_address.take(_sender(address), now) or self._of_webhook.take(path, now)
        if wait_s:
            raise Refused(429, "too_many", "Too many requests.", retry_after_s=wait_s)
        length = headers.one("content-length")
        if length is not None and headers.one("transfer-encoding") is not None:  # RFC 9112 §6.3: a request smuggled
            raise Refused(400, "bad_length", "A body has a Content-Length or is chunked.")
        if length is not None and not _DIGITS.fullmatch(length):
            raise Refused(400, "bad_length", "Content-Length is not a number.")
        if length is not None and int(length) > self.limits.largest:
            raise self._too_large()
        if (headers.one("content-encoding") or "identity").lower() != "identity":
            raise Refused(415, "encoded_body", "A compressed body is not taken.")

    async def whole(self, chunks: AsyncIterator[bytes]) -> bytes:
        """Return a body, read no further than it may be long.

        Raises:
            Refused: It is longer.
        """
        body = bytearray()
        async for chunk in chunks:
            body += chunk
            if len(body) > self.limits.largest:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> Refused:
        return Refused(413, "too_large", f"At most {self.limits.largest:,} bytes are taken.")


def _sender(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
