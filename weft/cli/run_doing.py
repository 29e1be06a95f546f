"""What `weft runs` does to runs: cancel, resume and answer them, and repeat them in whole or in part."""

from __future__ import annotations

import asyncio
import getpass
import shlex
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import click

from weft import repeating
from weft.cli import asking, logs, remote
from weft.cli.exits import ExitCode
from weft.cli.inputs import given
from weft.cli.opening import open_runtime
from weft.cli.run import Relay, Session
from weft.cli.run_ids import find
from weft.cli.state import (
    State,
    connections_option,
    env_option,
    home_option,
    json_option,
    pack_option,
    pass_state,
    server_option,
)
from weft.cli.terminal import clean_line, to_json
from weft.engine.events import Observer
from weft.engine.replaying import Repeat
from weft.engine.report import RunReport
from weft.errors import InvalidInputs, JournalRefused, NotFound
from weft.journal.base import ENDS, Journal, Kept, Listed
from weft.outcome import decode
from weft.plan import Plan
from weft.reading import learn_secrets, summaries
from weft.redaction import Secret
from weft.repeating import Repetition
from weft.runtime import Runtime

if TYPE_CHECKING:
    from weft.client import AsyncClient, models

F = TypeVar("F", bound=Callable[..., Any])
Answer: TypeAlias = Literal["approve", "reject"]

PATHS_NAMED: Final = 4
"""Of the places at which a step has sent before, these many are named."""


def _options(function: F) -> F:
    for option in (server_option, home_option, env_option, connections_option, pack_option, json_option):
        function = option(function)
    return function


_run_argument = click.argument("run_id", metavar="RUN")
_detach = click.option("--detach", is_flag=True, help="Leave it to a worker instead of driving it here.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="Show nothing but what went wrong.")
_input = click.option(
    "-i", "--input", "--with", "pairs", metavar="NAME=VALUE", multiple=True, help="Edit one input. May be repeated."
)
_inputs = click.option(
    "--inputs",
    "file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Edit inputs by a JSON object in a file, `-` for standard input.",
)


class _Doing:
    """One call of a command that changes a run."""

    def __init__(self, state: State, *, as_json: bool, quiet: bool = False) -> None:
        self.state, self.as_json, self.quiet = state, as_json, quiet
        self.relay = Relay()
        self.log = logs.start(state)
        self.runtime = open_runtime(state, self.relay.progress)

    def do(self, work: Callable[[Runtime], Awaitable[ExitCode]]) -> ExitCode:
        """Return the exit code of what is done with the open runtime."""

        async def whole() -> ExitCode:
            async with self.runtime as runtime:
                await runtime.opened()
                return await work(runtime)

        code = asyncio.run(whole())
        if self.log.has_errors:
            click.echo(f"The log has more: {self.log.file}", err=True)
        return code

    async def tell(self, run_id: str, sentence: str) -> ExitCode:
        """Say in one sentence what was done, or with --json how the run stands."""
        if self.as_json:
            found = await self.runtime.journal.status(run_id)
            (summary,) = await summaries(self.runtime, [found])
            click.echo(to_json(summary.model_dump(mode="json")))
        else:
            click.echo(clean_line(sentence))
        return ExitCode.OK

    async def drive(self, plan: Plan, work: Callable[[Observer, bool], Awaitable[Listed]]) -> ExitCode:
        """Show a run that is driven here to its end, as `weft run` does."""

        async def whole(observe: Observer, watched: bool) -> RunReport:
            return await self.runtime.report((await work(observe, watched)).row.id, plan)

        await learn_secrets(self.runtime, plan)
        session = Session(self.state, self.runtime, plan, self.relay, as_json=self.as_json, quiet=self.quiet)
        return await session.follow(whole)

    async def go_on(self, found: Listed) -> ExitCode:
        """Drive a known run to its end."""
        plan = self.runtime.pinned_plan(await self.runtime.journal.document(found.row.document))

        async def work(observe: Observer, watched: bool) -> Listed:
            return await self.runtime.follow(found.row.id, observe, watched=watched)

        return await self.drive(plan, work)


# ---- what goes on
@click.command("cancel", short_help="Ask a run to stop.")
@_run_argument
@click.option("--now", is_flag=True, help="Stop it at once: `finally` does not run, what is under way is cut off.")
@_options
@pass_state
def cancel(state: State, *, run_id: str, now: bool, as_json: bool) -> ExitCode:
    """Ask RUN to stop: no step is begun any more, what cannot be taken back is waited for, `finally` runs.

    The process that drives it hears of it within a moment. A run that nobody drives ends here.
    """
    if state.server:
        return remote.with_client(state, lambda client: _cancel_there(client, run_id, now=now, as_json=as_json))
    doing = _Doing(state, as_json=as_json)

    async def work(runtime: Runtime) -> ExitCode:
        run = (await find(runtime.journal, run_id)).row.id
        times = 0
        while times < (2 if now else 1):
            times = await runtime.journal.cancel(run)
        found = await runtime.journal.status(run)
        if found.status.state == "ready" or await _is_abandoned(runtime.journal, run):
            code = await doing.go_on(found)
            return ExitCode.OK if code == ExitCode.CANCELLED else code
        again = "" if times > 1 else f" At once: weft runs cancel {run} --now"
        return await doing.tell(run, f"Run {run} was asked to stop{' at once' if times > 1 else ''}.{again}")

    return doing.do(work)


@click.command("resume", short_help="Go on with a run that is parked, or left alone.")
@_run_argument
@_detach
@_quiet
@_options
@pass_state
def resume(state: State, *, run_id: str, detach: bool, quiet: bool, as_json: bool) -> ExitCode:
    """Go on with RUN: one that is parked, that waits, or whose process is gone.

    It is driven here, as `weft run` does; with --detach it is made ready for a worker.
    """
    if state.server:

        async def ask(client: AsyncClient) -> ExitCode:
            ready = await client.resume_run((await remote.find(client, run_id)).run_id)
            return await _after(state, client, ready, detach=detach, quiet=quiet, as_json=as_json)

        return remote.with_client(state, ask)
    doing = _Doing(state, as_json=as_json, quiet=quiet)

    async def work(runtime: Runtime) -> ExitCode:
        found = await find(runtime.journal, run_id)
        await _require_resumable(runtime.journal, found)
        run, before = found.row.id, found.status.state
        if before == "parked":
            await runtime.journal.resume(run)
        if not detach:
            return await doing.go_on(found)
        if before == "running":
            await runtime.journal.release(run, ends=found.status.epoch)
        if before == "waiting":
            return await doing.tell(run, f"Run {run} waits; a worker goes on with it when it is time: weft worker")
        return await doing.tell(run, f"Run {run} is ready; a worker goes on with it: weft worker")

    return doing.do(work)


async def _is_abandoned(journal: Journal, run_id: str) -> bool:
    return any(each.row.id == run_id for each in await journal.abandoned())


async def _require_resumable(journal: Journal, found: Listed) -> None:
    run, state = found.row.id, found.status.state
    if state in ENDS:
        raise JournalRefused(
            f"Run {run!r} has ended: {state}.",
            code="has_ended",
            remedy=f"Repeat it: weft runs rerun {run}, or from a step on: weft runs replay {run} --from STEP",
        )
    if state == "running" and not await _is_abandoned(journal, run):
        raise JournalRefused(
            f"Run {run!r} is in the hands of a process that lives.",
            code="another_owner",
            remedy=f"Follow it: weft runs watch {run}",
        )


@click.command("answer", short_help="Answer a step that waits for an approval.")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.argument("step", metavar="[STEP]", required=False)
@click.argument("answer_", metavar="[approve|reject]", required=False, type=click.Choice(["approve", "reject"]))
@click.option(
    "--token", metavar="TOKEN", help="Answer by the token of a link, or by the link itself; it says who answers."
)
@click.option("--approve", "said", flag_value="approve", help="With --token: approve.")
@click.option("--reject", "said", flag_value="reject", help="With --token: reject.")
@click.option("--by", metavar="NAME", help="Who answers [default: your name on this machine].")
@click.option("--comment", metavar="TEXT", help="Why; later steps can read it.")
@_options
@pass_state
def answer(
    state: State,
    *,
    run_id: str | None,
    step: str | None,
    answer_: Answer | None,
    token: str | None,
    said: Answer | None,
    by: str | None,
    comment: str | None,
    as_json: bool,
) -> ExitCode:
    """Approve or reject what STEP of RUN asks: weft runs answer RUN STEP approve.

    Where the question names who may answer, --by must be one of them. It is what you say of yourself: nobody checks it.
    A token names run, step and who answers: weft runs answer --token TOKEN --approve.
    """
    if token is not None:
        if run_id is not None or by is not None:
            raise click.UsageError("A token says which step is answered and by whom: leave out RUN, STEP and --by.")
        token, meant = _token_of(token)
        state.redactor.add(Secret(token))
        if (said or meant) is None:
            raise click.UsageError("Say what the answer is: --approve or --reject.")
        final = said or meant or "reject"
        if state.server:
            return remote.with_client(
                state, lambda client: _token_there(client, token, final, comment, as_json=as_json)
            )
        return _answer_by_token(state, token, final, comment, as_json=as_json)
    if run_id is None or step is None or answer_ is None or said is not None:
        raise click.UsageError("Give RUN, STEP and approve or reject; or --token TOKEN with --approve or --reject.")
    if state.server:
        given_ = _Answer(run_id, step, answer_, by, comment)
        return remote.with_client(state, lambda client: _answer_there(client, given_, as_json=as_json))
    doing = _Doing(state, as_json=as_json)

    async def work(runtime: Runtime) -> ExitCode:
        found = await runtime.journal.load((await find(runtime.journal, run_id)).row.id)
        path = _asking(found, step)
        _require_allowed(found, path, by)
        await runtime.answer(found.row.id, path, answer_, by=by or _name(), comment=comment)
        return await _tell_answer(doing, found, path, answer_)

    return doing.do(work)


def _answer_by_token(state: State, token: str, said: Answer, comment: str | None, *, as_json: bool) -> ExitCode:
    doing = _Doing(state, as_json=as_json)

    async def work(runtime: Runtime) -> ExitCode:
        question = await runtime.answer_by_token(token, said, comment)
        found = await runtime.journal.status(question.run_id)
        return await _tell_answer(doing, found, question.path, said)

    return doing.do(work)


async def _tell_answer(doing: _Doing, found: Listed, path: str, said: Answer) -> ExitCode:
    run, done = found.row.id, "approved" if said == "approve" else "rejected"
    later = f" Whoever has the run goes on with it; if nobody does: weft worker, or weft runs resume {run}"
    if found.status.state == "parked":
        later = f" The run is parked; to go on with it: weft runs resume {run}"
    return await doing.tell(run, f"Step {path.strip('/')} of run {run} is {done}.{later}")


def _token_of(text: str) -> tuple[str, Answer | None]:
    """Return the token that a text is or that a link holds, and the answer that the link gives."""
    parts = urlsplit(text.strip())
    if not parts.scheme or not parts.netloc:
        return text.strip(), None
    given = parse_qs(parts.query).get("answer", [""])[-1]
    meant: Answer | None = "approve" if given == "approve" else "reject" if given == "reject" else None
    return parts.path.rsplit("/", 1)[-1], meant


def _require_allowed(found: Kept, path: str, by: str | None) -> None:
    """Refuse an answer in a name that the question does not allow.

    Raises:
        InvalidInputs: It names who may answer, and `by` is none of them.
    """
    questions = [decode(each.payload) for each in found.records if each.kind == "waits" and each.path == path]
    who = questions[-1].get("who") if questions else None
    if not who or by in who:
        return
    named = " or ".join(who)
    step = path.strip("/")
    raise InvalidInputs(
        f"Only {named} may answer step {step!r}." if by else f"Step {step!r} says who may answer it: {named}.",
        code="not_allowed" if by else "by_missing",
        remedy=f"Say who answers: --by {shlex.quote(who[0])}"
        if len(who) == 1
        else "Say which of them answers: --by NAME",
    )


def _name() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name, as in containers
        return None


def _asking(found: Kept, step: str) -> str:
    """Return the path of the step that is meant; one that does not wait is left to the journal to refuse.

    Raises:
        NotFound: No step of this name was reached, and others wait.
    """
    path = f"/{step.strip('/')}"
    over = {(each.path, each.n) for each in found.records if each.kind in ("signal", "rang")}
    waits = [each for each in found.records if each.kind == "waits"]
    open_ = list(dict.fromkeys(each.path for each in waits if (each.path, each.n) not in over))
    if open_ and path not in {each.path for each in waits}:
        named = ", ".join(each.strip("/") for each in open_)
        raise NotFound(
            f"Step {step!r} of run {found.row.id!r} waits for no answer.",
            code="not_waiting",
            remedy=f"These wait: {named}.",
        )
    return path


# ---- what is repeated
@click.command("rerun", short_help="Run the same once more.")
@_run_argument
@_input
@_inputs
@click.option("--latest", is_flag=True, help="Follow the workflow's file as it is now, not as it was then.")
@_detach
@_quiet
@_options
@pass_state
def rerun(
    state: State,
    *,
    run_id: str,
    pairs: tuple[str, ...],
    file: Path | None,
    latest: bool,
    detach: bool,
    quiet: bool,
    as_json: bool,
) -> ExitCode:
    """Do all of RUN once more, as a new run: the same document, the same inputs unless they are edited.

    Mail is sent once more, with message ids of its own.
    """
    if state.server:

        async def ask(client: AsyncClient) -> ExitCode:
            from weft.client import models  # noqa: PLC0415  only commands on a server need it

            run = (await remote.find(client, run_id)).run_id
            new = await client.rerun_run(run, models.Rerun(inputs=given(pairs, file), latest=latest))
            return await _after(state, client, new, detach=detach, quiet=quiet, as_json=as_json)

        return remote.with_client(state, ask)
    doing = _Doing(state, as_json=as_json, quiet=quiet)

    async def work(runtime: Runtime) -> ExitCode:
        found = await find(runtime.journal, run_id)
        now = await runtime.plan_at(found.row.workflow) if latest else None
        prepared = await repeating.rerun(runtime, found.row.id, given(pairs, file), now)
        return await _start(doing, prepared, detach=detach)

    return doing.do(work)


@click.command("replay", short_help="Repeat a run from a step on.")
@_run_argument
@click.option(
    "--from",
    "steps",
    metavar="STEP",
    multiple=True,
    required=True,
    help="Begin here: `mail`, `each/mail`, or one turn: `each[3]/mail`. May be repeated.",
)
@_input
@_inputs
@click.option("--yes", is_flag=True, help="Send again without being asked.")
@_detach
@_quiet
@_options
@pass_state
def replay(
    state: State,
    *,
    run_id: str,
    steps: tuple[str, ...],
    pairs: tuple[str, ...],
    file: Path | None,
    yes: bool,
    detach: bool,
    quiet: bool,
    as_json: bool,
) -> ExitCode:
    """Repeat RUN from STEP on, as a new run that inherits what was done before it.

    STEP, what needs it, and what edited inputs change are performed anew; so are `finally` and `on_failure`. What is sent
    again is told first.
    """
    edits = given(pairs, file)
    if state.server:

        async def ask(client: AsyncClient) -> ExitCode:
            from weft.client import models  # noqa: PLC0415  only commands on a server need it

            run = (await remote.find(client, run_id)).run_id
            asked = models.Replay(steps=list(steps), inputs=edits, send_again=True)
            plan = await client.plan_replay(run, asked)
            sends = tuple(_Sent(each.step, each.title, tuple(each.again)) for each in plan.sends)
            if sends and not yes and not _is_confirmed(sends, run):
                click.echo("Nothing was repeated.", err=True)
                return ExitCode.RUN_FAILED
            new = await client.replay_run(run, asked)
            return await _after(state, client, new, detach=detach, quiet=quiet, as_json=as_json)

        return remote.with_client(state, ask)
    doing = _Doing(state, as_json=as_json, quiet=quiet)

    async def work(runtime: Runtime) -> ExitCode:
        run = (await find(runtime.journal, run_id)).row.id
        prepared = await repeating.replay(runtime, run, steps, edits)
        if prepared.sends and not yes:
            if not _is_confirmed(tuple(map(_sent, prepared.sends)), run):
                click.echo("Nothing was repeated.", err=True)
                return ExitCode.RUN_FAILED
            prepared = await repeating.replay(runtime, run, steps, edits)  # it starts now, not when it was asked about
        return await _start(doing, prepared, detach=detach)

    return doing.do(work)


async def _start(doing: _Doing, prepared: Repetition, *, detach: bool) -> ExitCode:
    runtime = doing.runtime
    if detach:
        await repeating.submit(runtime, prepared)
        run = prepared.row.id
        return await doing.tell(run, f"Run {run} is ready; a worker goes on with it: weft worker")

    async def work(observe: Observer, watched: bool) -> Listed:
        return await repeating.start(runtime, prepared, observe, watched=watched)

    return await doing.drive(prepared.plan, work)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A step that a repetition lets send."""

    name: str
    title: str
    again: tuple[str, ...]  #: where it has sent before, or may have


def _sent(repeat: Repeat) -> _Sent:
    return _Sent(repeat.step.name, repeat.step.title, tuple(repeat.again))


def _is_confirmed(sends: tuple[_Sent, ...], run: str) -> bool:
    """List what will be sent, and ask whether it may be; without a person, only what is sent for the first time may."""
    possible = asking.possible()
    if not any(each.again for each in sends) and not possible:
        return True
    for line in _sends(sends, run):
        click.echo(clean_line(line) if not line.startswith(" ") else f"  {clean_line(line)}", err=True)
    if not possible:
        raise click.UsageError("This would send again. Say --yes if it may.")
    return click.confirm("Go on?", default=False, err=True)


def _sends(sends: tuple[_Sent, ...], run: str) -> Iterator[str]:
    again = [each for each in sends if each.again]
    first = [each for each in sends if not each.again]
    if again:
        yield f"Sends again, with message ids and keys of its own, what run {run} has sent or may have sent:"
        for each in again:
            paths = [path.strip("/") for path in each.again]
            more = f" and {len(paths) - PATHS_NAMED} more" if len(paths) > PATHS_NAMED else ""
            yield f" {each.title}: {', '.join(paths[:PATHS_NAMED])}{more}"
    if first:
        yield "May send what was not sent before:" if not again else "May send besides:"
        for each in first:
            yield f" {each.title}: {each.name}"


# ---- on a server
async def _cancel_there(client: AsyncClient, run_id: str, *, now: bool, as_json: bool) -> ExitCode:
    from weft.client import models  # noqa: PLC0415  only commands on a server need it

    run = (await remote.find(client, run_id)).run_id
    found = await client.cancel_run(run, models.Cancel(now=now))
    again = "" if now else f" At once: weft runs cancel {run} --now"
    return remote.tell_done(found, f"Run {run} was asked to stop{' at once' if now else ''}.{again}", as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Answer:
    run_id: str
    step: str
    answer: Answer
    by: str | None
    comment: str | None


async def _answer_there(client: AsyncClient, given_: _Answer, *, as_json: bool) -> ExitCode:
    from weft.client import models  # noqa: PLC0415  only commands on a server need it

    run = (await remote.find(client, given_.run_id)).run_id
    asked = models.Answer(step=given_.step, answer=given_.answer, by=given_.by, comment=given_.comment)
    found = await client.answer_run(run, asked)
    done = "approved" if given_.answer == "approve" else "rejected"
    return remote.tell_done(found, f"Step {given_.step.strip('/')} of run {run} is {done}.", as_json=as_json)


async def _token_there(
    client: AsyncClient, token: str, said: Answer, comment: str | None, *, as_json: bool
) -> ExitCode:
    from weft.client import models  # noqa: PLC0415  only commands on a server need it

    found = await client.answer_by_token(models.TokenAnswer(token=token, answer=said, comment=comment))
    done = "approved" if said == "approve" else "rejected"
    return remote.tell_done(found, f"The step of run {found.run_id} that was asked for is {done}.", as_json=as_json)


async def _after(
    state: State, client: AsyncClient, new: models.RunSummary, *, detach: bool, quiet: bool, as_json: bool
) -> ExitCode:
    """Show a run that a server goes on with, or with --detach say which it is."""
    if detach:
        sentence = f"Run {new.run_id} is ready; a worker of the server goes on with it."
        return remote.tell_done(new, sentence, as_json=as_json)
    return await remote.Follower(state, client, as_json=as_json, quiet=quiet, stops=True).follow(new.run_id)


COMMANDS: Final = (cancel, resume, rerun, replay, answer)
"""Of the group `weft runs`, in the order of its help."""
