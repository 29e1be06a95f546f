"""`weft workspace`: the documents of the workspace, what they were, and their way between directory and database."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from click.shell_completion import CompletionItem

from weft.cli import workspace_view as view
from weft.cli.exits import ExitCode
from weft.cli.opening import open_runtime, workflow_names
from weft.cli.runs import runtime_options
from weft.cli.state import State, json_option, pass_state
from weft.cli.terminal import Screen, clean_line, is_live, to_json
from weft.errors import Conflict, InvalidInputs
from weft.runtime import DATABASE_URL, STATE, Runtime
from weft.workspace import workspace_directory

if TYPE_CHECKING:
    from weft.documents.moving import Sides, Step

T = TypeVar("T")


class _Workspace(click.Group):
    """Without a command it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = bool(args) and args[0].startswith("-") and args[0] not in ctx.help_option_names
        if options or not (args or ctx.resilient_parsing):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("workspace", cls=_Workspace)
def command() -> None:
    """See the documents of the workspace and what they were; bring a directory and the database together.

    \b
    weft workspace                     all documents
    weft workspace history digest      its versions: when, by whom, why
    weft workspace diff digest 3       what has changed since version 3
    weft workspace restore digest 3    let it be version 3 again
    weft workspace push --dry-run      what would go from workflows/ to the database
    weft workspace pull                bring workflows/ to what the database has
    """


def _names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return workflow_names(context, parameter, incomplete)


_NAME = click.argument("name", metavar="NAME", shell_complete=_names)


def _with_documents(state: State, work: Callable[[Runtime], Awaitable[T]]) -> T:
    async def whole() -> T:
        async with open_runtime(state) as runtime:
            return await work(runtime)

    return asyncio.run(whole())


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name, as in containers
        return "somebody"


# ---- looking
@command.command("list", short_help="List the documents.")
@json_option
@runtime_options
@pass_state
def list_(state: State, *, as_json: bool) -> None:
    """List the workflows of the workspace, and when each was changed last."""

    async def work(runtime: Runtime) -> view.Listing:
        return view.Listing(runtime.documents.place, list(await runtime.documents.list()))

    listing = _with_documents(state, work)
    if as_json:
        click.echo(to_json(listing.as_json()))
    elif is_live(sys.stdout):
        view.show_list(listing)
    else:
        for facts in listing.documents:
            click.echo(view.plain(facts))


@command.command("history", short_help="List the versions of a document.")
@_NAME
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="How many.")
@click.option("--before", type=click.IntRange(1), help="Only versions before this one.")
@json_option
@runtime_options
@pass_state
def history(state: State, *, name: str, limit: int, before: int | None, as_json: bool) -> None:
    """List the versions of NAME, the youngest first: when each was saved, by whom, and why.

    What an editor or git has changed is a version by "outside", as soon as it is seen. NAME may be one that was removed.
    """

    async def work(runtime: Runtime) -> view.History:
        return view.History(name, list(await runtime.documents.versions(name, before=before, limit=limit)))

    found = _with_documents(state, work)
    if as_json:
        click.echo(to_json(found.as_json()))
    elif is_live(sys.stdout):
        view.show_history(found)
    else:
        for version in found.versions:
            click.echo(view.plain_version(version))


@command.command("diff", short_help="Show what has changed between two versions.")
@_NAME
@click.argument("old", type=click.IntRange(1), metavar="VERSION")
@click.argument("new", type=click.IntRange(1), metavar="[VERSION]", required=False)
@runtime_options
@pass_state
def diff(state: State, *, name: str, old: int, new: int | None) -> None:
    """Show what has changed from one version of NAME to another, or to what it is now."""

    async def work(runtime: Runtime) -> str:
        documents = runtime.documents
        before = await documents.version(name, old)
        after = (await documents.read(name)).text if new is None else await documents.version(name, new)
        return view.difference(name, before, after)

    view.show_difference(_with_documents(state, work))


# ---- bringing back
@command.command("restore", short_help="Let a document be what it was.")
@_NAME
@click.argument("number", type=click.IntRange(1), metavar="VERSION")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@json_option
@runtime_options
@pass_state
def restore(state: State, *, name: str, number: int, dry_run: bool, as_json: bool) -> None:
    """Save an old VERSION of NAME as its newest. Nothing is lost: what it is now stays a version.

    A document that was removed comes back.
    """

    async def work(runtime: Runtime) -> dict[str, Any]:
        documents = runtime.documents
        text = await documents.version(name, number)
        newest = (await documents.versions(name, limit=1))[0]
        now = await documents.read(name) if newest.etag else None
        change = view.difference(name, "" if now is None else now.text, text)
        if not dry_run:
            if_match = None if now is None else now.etag
            await documents.save(name, text, if_match=if_match, by=_who(), why=f"restored version {number}")
            newest = (await documents.versions(name, limit=1))[0]
        return {"name": name, "restored": number, "version": newest.number, "diff": change}

    found = _with_documents(state, work)
    if as_json:
        click.echo(to_json(found))
    elif dry_run or not found["diff"]:
        view.show_difference(found["diff"])
        click.echo(
            f"{name} would be version {number} again." if found["diff"] else f"{name} is version {number}.", err=True
        )
    else:
        click.echo(f"{name} is what version {number} was; that is version {found['version']} now.")


# ---- directory and database
_DIRECTORY = click.argument(
    "directory", metavar="[DIRECTORY]", required=False, type=click.Path(file_okay=False, path_type=Path)
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only show what would change.")
_FORCE = click.option("--force", is_flag=True, help="Also overwrite what is newer there, or changed on both sides.")
_PRUNE = click.option("--prune", is_flag=True, help="Also remove there what was removed here.")


@command.command("push", short_help="Bring the database to what a directory has.")
@_DIRECTORY
@_DRY_RUN
@_FORCE
@_PRUNE
@json_option
@runtime_options
@pass_state
def push(state: State, *, directory: Path | None, dry_run: bool, force: bool, prune: bool, as_json: bool) -> ExitCode:
    """Save the workflows of DIRECTORY (workflows/) in the database of WEFT_DATABASE_URL.

    First it is shown what changes. What somebody has changed in the database since the last push or pull is not
    overwritten, and the exit code is 1. Each document is saved whole, with its layout, as a version of its own.
    """
    return _carried(state, "push", directory, dry_run=dry_run, force=force, prune=prune, as_json=as_json)


@command.command("pull", short_help="Bring a directory to what the database has.")
@_DIRECTORY
@_DRY_RUN
@_FORCE
@_PRUNE
@json_option
@runtime_options
@pass_state
def pull(state: State, *, directory: Path | None, dry_run: bool, force: bool, prune: bool, as_json: bool) -> ExitCode:
    """Write the workflows of the database into DIRECTORY (workflows/), as `push` does the other way round."""
    return _carried(state, "pull", directory, dry_run=dry_run, force=force, prune=prune, as_json=as_json)


def _carried(
    state: State,
    which: Literal["push", "pull"],
    directory: Path | None,
    *,
    dry_run: bool,
    force: bool,
    prune: bool,
    as_json: bool,
) -> ExitCode:
    place = directory or workspace_directory()
    if which == "push" and not place.is_dir():
        raise InvalidInputs(f"There is no directory {place}.", code="no_directory")
    screen = Screen(sys.stdout)

    async def work(runtime: Runtime) -> ExitCode:
        from weft.documents import moving  # noqa: PLC0415  it loads SQLAlchemy, which other commands do without

        async with _sides(runtime, which, place) as sides:
            steps = await moving.compare(sides, prune=prune)
            plan = view.Plan(which, f"{place}/", steps, force=force, dry_run=dry_run)
            if not as_json:
                for line in view.planned(plan):
                    screen.print(line, soft_wrap=True)
            carried: list[Step] = []
            if not dry_run:
                why = f"pushed from {place}/" if which == "push" else "pulled from the database"
                try:
                    await moving.carry(sides, steps, by=_who(), why=why, force=force, done=carried.append)
                except Conflict as conflict:
                    if carried:
                        click.echo(f"{len(carried)} carried before that.", err=True)
                    raise conflict from None
            if as_json:
                click.echo(to_json(plan.as_json(carried)))
            else:
                click.echo(clean_line(view.outcome(plan, carried)))
            return ExitCode.RUN_FAILED if plan.refused else ExitCode.OK

    return _with_documents(state, work)


@asynccontextmanager
async def _sides(runtime: Runtime, which: Literal["push", "pull"], place: Path) -> AsyncIterator[Sides]:
    """Open both sides for one command."""
    from weft.documents.database import DatabaseDocuments  # noqa: PLC0415
    from weft.documents.directory import DirectoryDocuments  # noqa: PLC0415
    from weft.documents.moving import Sides  # noqa: PLC0415
    from weft.state import State as Tables  # noqa: PLC0415

    if runtime.state.dialect != "postgresql":
        raise InvalidInputs(
            f"There is no database: {DATABASE_URL} is not set. The workspace is {place}/ itself.",
            code="no_database",
            remedy=f"Set {DATABASE_URL} to the address that server and workers use.",
        )
    home = Tables(runtime.home / STATE)

    async def opened() -> Tables:
        await home.open()
        return home

    try:
        directory, database = DirectoryDocuments(place, runtime.home, opened), DatabaseDocuments(runtime.opened_state)
        if which == "push":
            yield Sides(directory, database, home, place)
        else:
            yield Sides(database, directory, home, place)
    finally:
        await home.close()
