"""The tables of a database for code that cannot await: commands, and what is asked in the middle of a computation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from weft.state import tables
from weft.state.base import Attempt, Base

T = TypeVar("T")

DEADLINE_S: Final = 10.0
"""Seconds that a transaction may take, with all its tries."""

PAUSE_S: Final = 0.02


class Blocking:
    """A PostgreSQL database; each transaction goes over a connection of its own, so that none is open between two.

    Args:
        address: A connection string of libpq.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._made = 0  #: how many tables are known to be there

    def do(self, work: Callable[[sa.Connection], T], *, writes: bool, deadline_s: float = DEADLINE_S) -> T:
        """Do `work` in one transaction and return its result; it may be called again, and does nothing else.

        Raises:
            StateUnavailable: The database is away, too slow or broken.
        """
        from weft.state.postgresql import Postgresql  # noqa: PLC0415  the driver is loaded when it is needed

        base, until = Postgresql(self._address), time.monotonic() + deadline_s
        try:
            if self._made < len(tables.metadata.tables):
                self._make(base, until)
            return _patiently(base, work, until, writes=writes)
        finally:
            base.close()

    def _make(self, base: Base, until: float) -> None:
        def make(connection: sa.Connection) -> None:
            base.alone(connection)
            tables.make(connection)

        known = len(tables.metadata.tables)
        if _patiently(base, tables.missing, until, writes=False):
            _patiently(base, make, until, writes=True)
        self._made = known


def _patiently(base: Base, work: Callable[[sa.Connection], T], until: float, *, writes: bool) -> T:
    while True:
        try:
            return base.transact(work, Attempt(until), writes=writes)[0]
        except DBAPIError as error:
            if not base.is_passing(error) or time.monotonic() > until:
                raise base.unavailable(error) from None
        except PoolTimeout:
            raise base.unavailable(None) from None
        time.sleep(PAUSE_S)
