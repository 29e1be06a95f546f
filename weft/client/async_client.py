"""The client: all operations of a server, its events, and runs that are waited for."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from weft.client import models
from weft.client.async_operations import AsyncOperations
from weft.client.frames import Frame
from weft.client.pausing import async_pause

OVER = ("succeeded", "failed", "cancelled", "parked")
LOOK_S = (0.05, 2.0)
"""How soon and how seldom it is looked whether a run has ended."""


class AsyncClient(AsyncOperations):
    """A Weft server, for a program.

    Use it as a context manager. Each call has a deadline, each answer a largest size. Calls that change nothing, and
    starts of runs, are made again when an answer was lost; a start has a key, so that it stays one run. What the server
    refuses is raised as the error that it was there, with the same code.
    """

    async def run(
        self,
        workflow: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
    ) -> models.RunReport:
        """Start a run and return its report when it has ended; a failed run is a report, not an exception.

        Raises:
            TimeoutError: It goes on after `timeout_s`.
        """
        asked = models.Start(workflow=workflow, inputs=dict(inputs or {}))
        started = await self.start_run(asked, idempotency_key=idempotency_key)
        await self.wait(started.run_id, timeout_s=timeout_s)
        return await self.show_run(started.run_id)

    async def wait(self, run_id: str, *, timeout_s: float | None = None) -> models.RunSummary:
        """Return how a run stands when it has ended or is parked.

        Raises:
            TimeoutError: It goes on after `timeout_s`.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s, longest_s = LOOK_S
        while True:
            found = await self.summarise_run(run_id)
            if found.state in OVER:
                return found
            if until is not None and time.monotonic() + pause_s > until:
                raise TimeoutError(f"run {run_id} goes on: {found.state}")
            await async_pause(pause_s)
            pause_s = min(pause_s * 1.5, longest_s)

    def events(self, *topics: str, after: str | None = None) -> AsyncIterator[Frame]:
        """Yield what goes on, without end; a connection that breaks is made again, and nothing is lost or told twice.

        Args:
            topics: `runs`, `run:<id>`, `documents`, `approvals`, `schedules`.
            after: The id of the last event that was heard; left out, a run's topic begins with how it stands.
        """
        return self._frames("/api/v1/events", {"topics": ",".join(topics)}, after)
