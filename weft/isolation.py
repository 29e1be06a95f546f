"""Runs that have ended the process they were in, more than once: each goes on in a process of its own (rule A19).

What ends that process ends nothing else. The child tells its claim, so that the parent, who sees its death at once and
knows its exit code, can put on record why the run is parked. If both die, whoever takes over parks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final, Protocol

from weft.dispatch.keeper import Keeper
from weft.engine.interpreter import Perform, Walk
from weft.engine.reactor import facts_of, insist
from weft.engine.report import summary_of
from weft.errors import JournalBehind, JournalRefused, NotFound, Problem
from weft.journal.base import Claim, Listed, Rest
from weft.outcome import encode
from weft.runtime import Runtime
from weft.types import Json

CHILDREN: Final = 2
"""Such processes at a time; each costs what a worker costs."""

OUTPUT_S: Final = 1.0
"""How long what a child wrote is waited for when it has ended: something that it started may hold the pipe."""

LONGEST_LINE: Final = 1_000_000

_LOG = logging.getLogger("weft.worker")


class Say(Protocol):
    """Tells people, or a program, of something that happened."""

    def __call__(self, event: str, **facts: Json) -> None: ...


class Isolation:
    """The child processes of a worker.

    Args:
        runtime: Of the worker.
        keeper: Of the worker; it leaves the runs of the children to them.
        command: Starts a worker with the options of this one.
        say: Told of what happens to the runs.
    """

    def __init__(self, runtime: Runtime, keeper: Keeper, command: Sequence[str], say: Say) -> None:
        self.left: set[str] = set()  #: taken, and not tried because of the stop
        self._runtime = runtime
        self._keeper = keeper
        self._command = tuple(command)
        self._say = say
        self._tries: dict[str, asyncio.Task[None]] = {}
        self._children: set[asyncio.subprocess.Process] = set()
        self._places = asyncio.Semaphore(CHILDREN)
        self._stopping = False

    def __len__(self) -> int:
        return len(self._tries)

    def take(self, found: Listed) -> None:
        """See to it that a run is tried alone; one that was taken already is left as it is."""
        if found.row.id not in self._tries:
            self._tries[found.row.id] = asyncio.create_task(self._carry(found), name=f"alone {found.row.id}")

    def stop(self) -> None:
        """Start nothing more; the children rest at their next step boundary."""
        self._stopping = True
        self._signal(signal.SIGTERM)

    def stop_now(self) -> None:
        """Let the children let go at once."""
        self._stopping = True
        self._signal(signal.SIGINT)

    async def idle(self) -> None:
        """Return when no run is tried any more."""
        while self._tries:
            await asyncio.wait(list(self._tries.values()))

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    async def _carry(self, found: Listed) -> None:
        try:
            async with self._places:
                if self._stopping:
                    self.left.add(found.row.id)
                else:
                    await self._alone(found)
        except Exception:  # noqa: BLE001  a fault of one run is none of the others
            _LOG.exception("isolation_failed %s", found.row.id)
        finally:
            del self._tries[found.row.id]

    async def _alone(self, found: Listed) -> None:
        run_id = found.row.id
        self._say("alone", run_id=run_id, workflow=found.row.workflow, crashes=found.status.crashes)
        self._keeper.spared.add(run_id)
        try:
            code, claim = await self._drive(run_id)
            if claim is not None:
                await self._look_after(found, claim, code)
            elif code != 0:
                self._say("alone_failed", run_id=run_id, workflow=found.row.workflow, how=how(code))
        finally:
            self._keeper.spared.discard(run_id)

    async def _drive(self, run_id: str) -> tuple[int, Claim | None]:
        """Let a child drive a run; return how the child ended, and what it had claimed."""
        child = await asyncio.create_subprocess_exec(
            *self._command,
            *("--run", run_id, "--json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
            start_new_session=True,  # a Ctrl-C in the terminal is for the parent
        )
        self._children.add(child)
        if self._stopping:
            self._signal(signal.SIGTERM)
        heard: list[Claim] = []
        hearing = asyncio.create_task(self._hear(child, run_id, heard))
        try:
            code = await child.wait()
            await asyncio.wait({hearing}, timeout=OUTPUT_S)
        finally:
            self._children.discard(child)
            hearing.cancel()
        return code, heard[0] if heard else None

    async def _hear(self, child: asyncio.subprocess.Process, run_id: str, heard: list[Claim]) -> None:
        """Pass on what a child tells of its run; what an action prints is not for us."""
        assert child.stdout is not None  # noqa: S101  it is a pipe
        while True:
            try:
                line = await child.stdout.readline()
            except ValueError:  # longer than any of ours
                continue
            if not line:
                return
            told = _event(line)
            if told.get("run_id") != run_id:
                continue
            if told["event"] == "claimed":
                heard.append(Claim(run_id, int(told["epoch"]), str(told["token"])))
            elif told["event"] in ("run", "asks"):
                self._say(**told)

    async def _look_after(self, found: Listed, claim: Claim, code: int) -> None:
        """See that nobody has the run of a child that has ended: by itself, it is parked; as it was told to, it is ready."""
        journal, run_id = self._runtime.journal, found.row.id
        try:
            while True:
                now = await insist(lambda: journal.status(run_id), _told)
                if (now.status.state, now.status.epoch) != ("running", claim.epoch):
                    return
                rest = Rest("ready") if self._stopping else Rest("parked", reason=await self._reason(now, code))
                news = now.status.news
                with contextlib.suppress(JournalBehind):
                    await insist(lambda: journal.write(claim, news, (), rest), _told)  # noqa: B023  awaited here
                    break
        except (JournalRefused, NotFound) as other:
            _LOG.debug("alone_lost %s %s", run_id, other.problem.code)
            return
        parked = replace(now.status, state=rest.state, reason=rest.reason, changed_at=journal.now())
        if rest.state == "parked":
            self._say("run", **summary_of(Listed(now.row, parked)).model_dump(mode="json"))

    async def _reason(self, run: Listed, code: int) -> str:
        """Return why a run is parked that ended the process which tried it alone."""
        places = await self._steps(run)
        where = "" if not places else f" at {'step' if len(places) == 1 else 'steps'} {', '.join(places)}"
        crashes = run.status.crashes + 1
        remedy = "Look at what it was doing, then resume or cancel it."
        if code == -signal.SIGKILL:
            remedy = f"When nobody killed it, the memory of the machine was used up. {remedy}"
        problem = Problem(
            "poison",
            f"Run {run.row.id!r} ended the process that was working on it, {crashes} times, and alone at last: "
            f"{how(code)}{where}.",
            remedy,
        )
        return encode(asdict(problem))

    async def _steps(self, run: Listed) -> list[str]:
        """Return the steps that a run was performing; none when that cannot be told."""
        journal = self._runtime.journal
        try:
            plan = self._runtime.pinned_plan(await journal.document(run.row.document))
            kept = await journal.load(run.row.id)
            asked = Walk(plan, facts_of(kept), kept.records).advance()
        except Exception:  # noqa: BLE001  why it is parked is put on record in any case
            _LOG.warning("alone_where %s", run.row.id, exc_info=True)
            return []
        return sorted({repr(each.call.path.strip("/")) for each in asked if isinstance(each, Perform)})


def how(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"it left with exit code {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"


def _event(line: bytes) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) and isinstance(told.get("event"), str) else {}


def _told(problem: Problem) -> None:
    _LOG.warning("journal_waits %s", problem.code)
