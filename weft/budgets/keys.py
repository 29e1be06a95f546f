"""What counts together: the key of a meter, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Self, TypeAlias, cast, get_args

What: TypeAlias = Literal["cost", "tokens", "steps"]
Scope: TypeAlias = Literal["run", "step", "workflow", "workspace"]
Limited: TypeAlias = Literal["slots", "requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a budget counts, and of what."""

    what: What
    scope: Scope
    of: str = ""  #: id of the run, run and path of the step, name of the workflow
    day: str = ""  #: for workflows and the workspace: the date in UTC
    currency: str = ""  #: of a cost

    @property
    def key(self) -> str:
        """The meter's key: `cost USD workflow 2026-03-01 digest`; no part but the last can hold a blank."""
        return " ".join((self.what, self.currency or "-", self.scope, self.day or "-", self.of))

    @classmethod
    def read(cls, key: str) -> Self | None:
        """Return what a key says; None when it is none of a budget."""
        parts = key.split(" ", 4)
        if len(parts) != 5 or parts[0] not in get_args(What) or parts[2] not in get_args(Scope):
            return None
        what, currency, scope, day = ("" if part == "-" else part for part in parts[:4])
        return cls(cast(What, what), cast(Scope, scope), parts[4], day, currency)


def limit(what: Limited, type_: str, connection: str) -> str:
    """Return the key of a limit of a connection."""
    return f"{what}@{type_}/{connection}"


def day_of(now: float) -> str:
    """Return the date of an instant in UTC."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()
