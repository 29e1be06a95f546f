"""What is the same of both databases, and what each must say for itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from weft.errors import StateUnavailable
from weft.state.news import Told

T = TypeVar("T")


class Attempt:
    """One transaction, as those see it who wait for it."""

    def __init__(self, until: float) -> None:
        self.until = until  #: monotonic instant after which it is given up
        self.raw: Any = None  #: the driver's connection that it goes by


class Base(ABC):
    """One database, asked from threads."""

    dialect: Literal["sqlite", "postgresql"]
    threads: int
    """How many transactions may go on at a time."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def transact(self, work: Callable[[sa.Connection], T], attempt: Attempt, *, writes: bool) -> tuple[T, bool]:
        """Do `work` in one transaction; return its result, and whether it has written."""
        self.look()
        with self._engine.connect() as connection:
            attempt.raw = connection.connection.driver_connection
            try:
                connection.exec_driver_sql(self.begin(attempt, writes=writes))
                result = work(connection)
                wrote = writes and self.has_written(connection)
                self._commit(connection, wrote=wrote)
            finally:
                attempt.raw = None
        return result, wrote

    def _commit(self, connection: sa.Connection, *, wrote: bool) -> None:
        try:
            connection.commit()
        except DBAPIError as error:
            if not wrote or self.is_undone(error):
                raise
            raise self.unsure() from None

    def close(self) -> None:
        self._engine.dispose()

    @abstractmethod
    def look(self) -> None:
        """Refuse to go on where what was opened is not what is there now; raises StateUnavailable."""

    @abstractmethod
    def begin(self, attempt: Attempt, *, writes: bool) -> str:
        """Return what a transaction begins with."""

    @abstractmethod
    def has_written(self, connection: sa.Connection) -> bool:
        """Tell whether the open transaction has written; others hear of it when it is committed."""

    @abstractmethod
    def alone(self, connection: sa.Connection) -> None:
        """Keep every other process from making tables until the transaction ends."""

    @abstractmethod
    def is_passing(self, error: DBAPIError) -> bool:
        """Tell whether the same transaction may succeed in a moment, and has surely changed nothing."""

    @abstractmethod
    def is_undone(self, error: DBAPIError) -> bool:
        """Tell whether a commit that failed has surely changed nothing."""

    @abstractmethod
    def unavailable(self, error: DBAPIError | None) -> StateUnavailable:
        """Return what to tell of a fault; None: it gave no answer in time."""

    @abstractmethod
    def cut(self, attempt: Attempt) -> None:
        """End a transaction that takes too long, from another thread."""

    @abstractmethod
    async def watch(self, told: Told) -> None:
        """Tell whenever somebody may have written, until cancelled, or until it cannot be heard any more."""

    def unsure(self) -> StateUnavailable:
        return StateUnavailable(
            f"{self.name} was lost while a change was being kept; whether it was kept is not known.",
            code="state_unsure",
            remedy="Look whether the change is there before you make it again.",
        )

    @property
    @abstractmethod
    def name(self) -> str:
        """How the reader knows it; without user and password."""
