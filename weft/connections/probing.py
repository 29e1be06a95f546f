"""Whether a connection works, as far as that can be found out without an effect."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from weft.catalogue import Catalogue
from weft.connections.chosen import Connections
from weft.errors import Problem, WeftError
from weft.redaction import Redactor
from weft.registry import Registry
from weft.sdk import ActionContext, Connection

UNTESTABLE = "untestable"
"""The kind of error by which a test says that the truth cannot be found out without an effect."""

LONGEST_S = 30.0
"""Seconds that a test may take, opening the connection included."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a test has found out; secrets are masked."""

    state: Literal["works", "failed", "untested"]
    message: str  #: what was proved, or what is wrong, or why it is not known; one sentence or two
    ms: int
    code: str | None = None  #: of a failure
    remedy: str | None = None


async def probe(
    name: str,
    type_: str,
    *,
    connections: Connections,
    registry: Registry,
    redactor: Redactor,
    catalogue: Catalogue,
    deadline_s: float = LONGEST_S,
) -> Probed:
    """Open a connection and let its type's test speak to the other side; whatever happens is told, not raised."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(deadline_s):
            connection = await connections.get(name, type_)
            test = registry.connection_test(type_)
            if test is None:
                told = Problem(UNTESTABLE, f"Its fields are complete; connections of type {type_!r} have no test.")
            else:
                told = Problem("", await test(connection, _context(connection, catalogue, began + deadline_s)))
    except TimeoutError:
        told = Problem("timeout", f"The test was stopped after {deadline_s:g} s.", "Look whether the address is right.")
    except WeftError as error:
        told = error.problem
    except Exception as error:  # noqa: BLE001  whatever a pack's test raises, or a library in it
        told = _crashed(error, name, redactor)
    return Probed(
        "works" if told.code == "" else "untested" if told.code == UNTESTABLE else "failed",
        redactor.text(told.message),
        round((time.monotonic() - began) * 1000),
        told.code if told.code not in ("", UNTESTABLE) else None,
        None if told.remedy is None else redactor.text(told.remedy),
    )


def _context(connection: Connection, catalogue: Catalogue, deadline: float) -> ActionContext:
    return ActionContext(
        run_id="connection-test",
        path=f"/{connection.name}",
        attempt=1,
        started_at=datetime.now(UTC),
        idempotency_key=f"connection-test-{connection.name}",
        deadline=deadline,
        connection=connection,
        catalogue=catalogue,
    )


def _crashed(error: Exception, name: str, redactor: Redactor) -> Problem:
    # The text of an exception may hold anything, so it goes to the log alone, and cleaned.
    told = redactor.text("".join(traceback.format_exception(error)))
    logging.getLogger("weft.connections").error("connection_test_crashed %s\n%s", name, told)
    message = f"The test raised {type(error).__name__}."
    return Problem("crashed", message, "This is a fault of the test; the log has the details.")
