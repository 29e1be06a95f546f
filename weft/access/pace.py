"""How often somebody may fail to log in."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from weft.errors import NotAuthenticated, TooMany

FAILURES: Final = 10
"""Logins that may fail, of one address, within the window."""
WINDOW_S: Final = 60.0
ADDRESSES: Final = 10_000
"""Addresses that are remembered; the one that was silent longest is forgotten first."""


class Pace:
    """Counts logins that failed, by address.

    Args:
        now: A clock that never goes back, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    @contextlib.contextmanager
    def trying(self, address: str) -> Iterator[None]:
        """Count the block as a login that failed, if it raises `NotAuthenticated`.

        One that succeeds is never refused. Behind a proxy all come from one address, and whoever fails on purpose would
        lock out all others; what is tried has 256 bits, and nobody guesses it in any number of tries.

        Raises:
            TooMany: It failed, and the address has failed too often before; it may try again later.
        """
        try:
            yield
        except NotAuthenticated:
            recent = self._recent(address)
            if len(recent) >= FAILURES:
                wait_s = recent[0] + WINDOW_S - self._now()
                raise TooMany(
                    "Too many logins from this address have failed.", retry_after_s=max(wait_s, 1.0)
                ) from None
            self._failed[address] = [*recent, self._now()]
            self._failed.move_to_end(address)
            if len(self._failed) > ADDRESSES:
                self._failed.popitem(last=False)
            raise

    def _recent(self, address: str) -> list[float]:
        return [at for at in self._failed.get(address, []) if at > self._now() - WINDOW_S]
