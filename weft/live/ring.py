"""Where frames lie for a while, so that every process over the same home or database can tell its listeners of them.

Nothing here needs to outlive a power cut: who has missed something reads again what the journal has. So nothing is
synced. Ids grow in the order in which frames became visible, so that whoever has read up to one has missed none before.

A topic is wanted as long as somebody says so again and again. Frames of topics that nobody wants are not kept; whoever
comes back later than that learns that there is a gap.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from weft.live.frames import Draft, Frame

LEASE_S: Final = 30.0
"""For how long a topic stays wanted after somebody said so: a listener may be away that long and misses nothing."""

KEPT: Final = 20_000
"""Frames that stay."""

KEPT_S: Final = 900.0
"""Seconds that a frame stays."""

TRIMMED_EVERY: Final = 200
"""Writes of one process between two that remove what is old."""


class RingUnavailable(Exception):
    """The ring cannot be reached now; whoever listens reads again when it is back."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the ring stands."""

    era: str
    number: int  #: of the youngest frame
    floor: int  #: of the youngest frame that was removed
    since: Mapping[str, float]  #: by topic that was asked for: since when it has been wanted without a break
    new: frozenset[str] = frozenset()  #: of those, what nobody wanted a moment ago


class Ring(Protocol):
    """Called from one thread at a time. Every method may raise `RingUnavailable`."""

    look_s: float
    """How often a listener looks for frames of other processes."""
    era: str
    """As it was found last; another one when what was kept is gone and the count has begun anew."""

    def wanted(self) -> frozenset[str]:
        """Return the topics that somebody listens for."""

    def attend(self, topics: Collection[str]) -> Head:
        """Say that topics are wanted from now on, for a while."""

    def write(self, drafts: Sequence[Draft]) -> None:
        """Keep frames."""

    def read(self, after: int, upto: int | None, topics: Collection[str] | None, limit: int) -> list[tuple[int, Frame]]:
        """Return frames with their numbers, the oldest first; of some topics and of everybody's, or all."""

    def outputs(self, topic: str) -> list[tuple[int, Frame]]:
        """Return what of the output of a run's steps lies here, the oldest first."""

    def kept_at(self, number: int) -> float | None:
        """Return when a frame was kept, by the ring's own clock; None when it is not here any more."""

    def has_news(self) -> bool:
        """Tell whether something may have been kept since this was asked last."""

    def close(self) -> None:
        """Let go of it."""


def ring_at(place: Path | str) -> Ring:
    """Return the ring of a home (the path of its file) or of a database (its address); it is not opened yet."""
    if isinstance(place, Path):
        from weft.live.sqlite_ring import SqliteRing  # noqa: PLC0415  only the one that is used

        return SqliteRing(place)
    from weft.live.postgres_ring import PostgresRing  # noqa: PLC0415  it loads psycopg

    return PostgresRing(place)
