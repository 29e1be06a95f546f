"""A request as it arrived: nothing in it is believed yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from weft.errors import Problem, WeftError

USUAL: Final = frozenset(
    {
        "content-type",
        "user-agent",
        "webhook-id",
        "webhook-timestamp",
        "x-github-event",
        "x-github-delivery",
        "x-github-hook-id",
        "x-github-hook-installation-target-id",
        "x-github-hook-installation-target-type",
        "x-request-id",
        "x-slack-request-timestamp",
        "x-slack-retry-num",
        "x-slack-retry-reason",
    }
)
"""The headers that a run sees; no other may be a secret that ends in the journal."""


class Refused(WeftError):
    """A request that is not taken.

    Args:
        status: What the answer says (RFC 9110).
        code: A stable name for programs.
        message: For the sender, so nothing of what is inside.
        retry_after_s: When it may be sent again.
        run_id: The run that it belongs to, if there is one.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: float | None = None, run_id: str | None = None
    ) -> None:
        super().__init__(problems=[Problem(code, message)])
        self.status = status
        self.retry_after_s = retry_after_s
        self.run_id = run_id


class Headers:
    """Headers by name in lower case, with all the values that each has."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value.strip(" \t"))

    @classmethod
    def of_bytes(cls, pairs: Iterable[tuple[bytes, bytes]]) -> Self:
        return cls((name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs)

    def one(self, name: str) -> str | None:
        """Return the value of a header that stands there once at most.

        Raises:
            Refused: It is repeated; which of the values others have believed nobody knows.
        """
        values = self._values.get(name, [])
        if len(values) > 1:
            raise Refused(400, "repeated_header", f"The header {name} is repeated.")
        return values[0] if values else None

    def shown(self, further: Iterable[str] = ()) -> dict[str, str]:
        """Return what a run sees of them; a repeated one as RFC 9110 §5.3 puts its values together."""
        wanted = USUAL | {*further}
        return {name: ", ".join(values) for name, values in self._values.items() if name in wanted}


@dataclass(frozen=True, slots=True)
class Request:
    """A post to a webhook's address."""

    headers: Headers
    query: tuple[tuple[str, str], ...]
    body: bytes  #: as it came over the wire; what signatures are over
    at: float  #: when it arrived, seconds since 1970, UTC
