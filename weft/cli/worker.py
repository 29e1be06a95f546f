"""`weft worker`: goes on with everybody's runs, and says so in calm lines."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Final, Protocol, TextIO

import click

from weft import retention
from weft.cli import instants, logs
from weft.cli.exits import ExitCode
from weft.cli.state import State, connections_option, env_option, home_option, json_option, pack_option, pass_state
from weft.cli.terminal import clean_line, duration
from weft.cli.view import how_to_answer
from weft.isolation import Say
from weft.redaction import MASK, PATTERNS, Redactor
from weft.runtime import Runtime
from weft.types import Json
from weft.worker import GRACE_S, Alone, Process, Worker

CLOSING_S: Final = 0.8
"""How long, after the grace, runs may take to be put down; then the process leaves as it is."""

AT_ONCE_S: Final = 0.5
"""The same after a second signal."""


class Seconds(click.FloatRange):
    """A length of time; the name is what a refusal says."""

    name = "number of seconds"


@click.command("worker", short_help="Go on with runs that others left or handed over.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="How many runs to have in hand at a time.",
)
@click.option(
    "--grace",
    "grace_s",
    type=Seconds(0, 86_400),
    default=GRACE_S,
    show_default=True,
    metavar="SECONDS",
    help="After SIGTERM: how long steps that are under way may go on.",
)
@click.option("--until-idle", is_flag=True, help="End when nothing is ready, running or due any more.")
@click.option(
    "--run", "run_id", metavar="ID", hidden=True, help="Go on with this run alone; a worker starts itself so."
)
@json_option
@pack_option
@connections_option
@env_option
@home_option
@pass_state
def command(
    state: State, *, concurrency: int, grace_s: float, until_idle: bool, run_id: str | None, as_json: bool
) -> ExitCode:
    """Go on with all runs: those handed over with --detach, those that waited, those that dead processes left; and
    start those whose time has come by a schedule of the workflows in workflows/ (weft schedules shows them).

    Start any number of workers; on many machines, with one database that WEFT_DATABASE_URL names. Ctrl-C or SIGTERM
    stops it: nothing new is begun, every run rests after the step that it is in, or when the grace is over, and goes on
    wherever a worker is. The exit code is 0 then; it is 143 after a second signal, which does not wait for steps.
    With --json each event is a line of JSON.
    """
    signals = Signals(grace_s, is_child=run_id is not None)
    log = logs.start(state)
    keep_s = retention.retention(os.environ)
    runtime = Runtime.open(
        home=state.home,
        packs=state.packs,
        connections=state.connections,
        environment=state.environment,
        concurrency=concurrency,
    )
    state.redactor = runtime.redactor
    say = Lines(sys.stdout, runtime.redactor, as_json=as_json)

    def make() -> Process:
        if run_id is not None:
            return Alone(runtime, run_id, say, grace_s=grace_s)
        again = same(state, grace_s)
        return Worker(runtime, say, command=again, grace_s=grace_s, until_idle=until_idle, keep_s=keep_s)

    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(_work(runtime, make, signals, exposes=run_id is None))
    if log.has_errors:
        click.echo(f"The log has more: {log.file}", err=True)
    return signals.code


async def _work(runtime: Runtime, make: Callable[[], Process], signals: Signals, *, exposes: bool) -> None:
    async with runtime:
        if exposes:
            runtime.telemetry.expose()
        process = make()
        signals.guide(process)
        await process.run()


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes a loop that needs less of the processor, where there is one; None: Python's own."""
    try:
        import uvloop  # noqa: PLC0415  it is not for every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def same(state: State, grace_s: float) -> list[str]:
    """Return what starts a worker like this one."""
    words = [sys.executable, "-m", "weft", "worker", "--grace", str(grace_s)]
    for option, value in (("--home", state.home), ("--connections", state.connections), ("--env", state.environment)):
        if value is not None:
            words += [option, str(value)]
    for pack in state.packs:
        words += ["--pack", str(pack)]
    return words


class Stoppable(Protocol):
    """What signals stop: a process, or a server with a worker in it."""

    def stop(self) -> None: ...

    def stop_now(self) -> None: ...


class Signals:
    """What SIGTERM and SIGINT do: the first lets runs rest within the grace, the second at once, the third nothing more.

    The handlers are plain ones, so that they also work while the loop is busy; whatever happens there, the process
    ends in time.

    Args:
        grace_s: Of the process.
        is_child: It is told to stop by its parent with SIGTERM, and to stop at once with SIGINT. Others, who signal a
            whole group of processes, may send it SIGTERM once more.
    """

    def __init__(self, grace_s: float, *, is_child: bool = False) -> None:
        self.code = ExitCode.OK
        self._grace_s = grace_s
        self._is_child = is_child
        self._count = 0
        self._process: Stoppable | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def guide(self, process: Stoppable) -> None:
        """Let signals stop a process that runs in this loop."""
        self._process, self._loop = process, asyncio.get_running_loop()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._process is None or self._loop is None:  # nothing was begun yet
            os._exit(ExitCode.OK)
        if self._is_child:
            self._count = max(self._count, 2 if number == signal.SIGINT else 1)
        else:
            self._count += 1
        if self._count == 1:
            self._leave_after(self._grace_s + CLOSING_S, ExitCode.OK)
            self._loop.call_soon_threadsafe(self._process.stop)
        elif self._count == 2:
            self.code = ExitCode.OK if self._is_child else ExitCode.TERMINATED
            self._leave_after(AT_ONCE_S, self.code)
            self._loop.call_soon_threadsafe(self._process.stop_now)
        else:
            os._exit(ExitCode.TERMINATED)

    def _leave_after(self, seconds: float, code: ExitCode) -> None:
        timer = threading.Timer(seconds, os._exit, (code,))
        timer.daemon = True
        timer.start()


class Lines(Say):
    """Writes what happens, a line each, secrets masked; to nobody when the reader has gone."""

    def __init__(self, stream: TextIO, redactor: Redactor, *, as_json: bool) -> None:
        self._stream: TextIO | None = stream
        self._redactor = redactor
        self._as_json = as_json

    def __call__(self, event: str, **facts: Json) -> None:
        if self._as_json:
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            told = {"event": event, "at": at, **facts}
            if event == "claimed":  # for the parent alone; on a line of its own, whatever an action has printed
                self._write(f"\n{json.dumps(told)}")
            else:
                self._write(json.dumps(_masked(told, self._redactor)))
            return
        for line in TEXTS[event](facts):
            self._write(clean_line(str(_masked(line, self._redactor))))

    def _write(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._stream = None


def _masked(value: Any, redactor: Redactor) -> Any:
    match redactor.value(value):
        case str() as text:
            return PATTERNS.sub(MASK, text)
        case dict() as facts:
            return {key: _masked(item, redactor) for key, item in facts.items()}
        case other:
            return other


# ---- what people read
Facts = dict[str, Any]


def _started(facts: Facts) -> Sequence[str]:
    lines = [f"worker {facts['process']} started: {facts['concurrency']} runs at a time, journal in {facts['journal']}"]
    found = [
        f"{facts['left']} left by dead processes" if facts["left"] else "",
        f"{facts['ready']} ready" if facts["ready"] else "",
        f"{facts['running']} in the hands of other processes" if facts["running"] else "",
        f"{facts['waiting']} waiting{_next(facts)}" if facts["waiting"] else "",
    ]
    lines.append(f"found {', '.join(filter(None, found)) or 'nothing to do'}")
    if parked := facts["parked"]:
        why = ", ".join(f"{count} {code}" for code, count in sorted(parked.items()))
        lines.append(f"found parked: {why}; see weft runs list --state parked")
    return lines


def _next(facts: Facts) -> str:
    if facts["next_wake"] is None:
        return " for answers"
    at = instants.moment(datetime.fromisoformat(facts["next_wake"]), datetime.now(UTC))
    return f", the first until {at}"


def _run(facts: Facts) -> Sequence[str]:
    problem = facts["problem"]
    why = f": {problem['code']}: {problem['message']}" if problem else ""
    return [f"run {facts['run_id']} {facts['state']} in {duration(facts['ms'] / 1000)}: {facts['workflow']}{why}"]


def _of(facts: Facts) -> str:
    return f"run {facts['run_id']} of {facts['workflow']}"


def _asks(facts: Facts) -> Sequence[str]:
    how = how_to_answer(facts["run_id"], facts["path"], facts["who"])
    return [f"{_of(facts)} waits for an answer: {facts['message']} {how}"]


def _with_remedy(facts: Facts) -> str:
    return f"{facts['message']} {facts['remedy']}" if facts.get("remedy") else str(facts["message"])


def _stopped(facts: Facts) -> Sequence[str]:
    rest = f", {facts['ready']} left for other workers" if facts["ready"] else ""
    parked = f", {facts['parked']} parked" if facts["parked"] else ""
    return [f"stopped: {facts['ended']} {'run' if facts['ended'] == 1 else 'runs'} ended{parked}{rest}"]


def _schedule(facts: Facts) -> Sequence[str]:
    name = f"schedule {facts['schedule']}"
    match facts["change"]:
        case "retired":
            return [f"{name} retired: the workspace no longer has it, or not enabled"]
        case "foreign":
            take = "to take it over: weft schedules sync --take"
            return [f"{name} differs from what {facts['source']} has armed, and stays as it is; {take}"]
    upcoming = "paused" if facts["paused"] else f"next {facts['next']}" if facts["next"] else "no start to come"
    how = "edited" if facts["change"] == "edited" else "armed"
    where = f", from {facts['source']}" if facts["change"] == "elsewhere" else ""
    return [f"{name} {how}: {facts['times']} {facts['timezone']}, {upcoming}{where}"]


def _not_armed(facts: Facts) -> Sequence[str]:
    place = ":".join(str(part) for part in (facts["file"], facts["line"]) if part)
    kept = ", ".join(facts["kept"])
    effect = f"{kept} goes on as it was armed last" if kept else "its schedules start nothing"
    return [f"workflow {facts['workflow']} cannot be armed, {effect}: {place}: {_with_remedy(facts)}"]


def _missed(facts: Facts) -> Sequence[str]:
    count = facts["count"]
    starts = "1 start" if count == 1 else f"{count:,} starts"
    span = facts["first"] if count == 1 else f"{facts['first']} to {facts['last']}"
    return [f"schedule {facts['schedule']} missed {starts}, {span}: {facts['reason']['message']}"]


TEXTS: Final[dict[str, Callable[[Facts], Sequence[str]]]] = {
    "started": _started,
    "run": _run,
    "stopped": _stopped,
    "asks": _asks,
    "taken_over": lambda facts: [f"{_of(facts)} taken over from a dead process: {facts['state']}"],
    "alone": lambda facts: [f"{_of(facts)} is tried in a process of its own, after {facts['crashes']} crashes"],
    "alone_failed": lambda facts: [f"{_of(facts)} could not be tried in a process of its own: {facts['how']}"],
    "cannot_follow": lambda facts: [f"{_of(facts)} cannot be followed here: {_with_remedy(facts)}"],
    "claimed": lambda facts: [f"run {facts['run_id']} claimed"],
    "journal_away": lambda facts: [f"waiting for the journal: {_with_remedy(facts)}"],
    "journal_back": lambda facts: ["the journal is back"],
    "schedule": _schedule,
    "not_armed": _not_armed,
    "workspace_empty": lambda facts: [_with_remedy(facts)],
    "not_in_database": lambda facts: [_with_remedy(facts)],
    "missed": _missed,
    "skipped": lambda facts: [
        f"schedule {facts['schedule']} skipped {facts['count']} starts in a row: {facts['reason']['message']}"
    ],
    "cannot_fire": lambda facts: [
        f"schedule {facts['schedule']} cannot start its runs from here: {_with_remedy(facts)}"
    ],
    "removed": lambda facts: [f"{facts['runs']} old {'run' if facts['runs'] == 1 else 'runs'} removed"],
    "stopping": lambda facts: [
        f"stopping: {facts['running']} in hand, at most {duration(facts['grace_s'])}; a second signal does not wait"
    ],
}
