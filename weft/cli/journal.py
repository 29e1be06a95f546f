"""`weft journal`: where runs are kept, how that is, and how it gets to another place."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.table import Table
from rich.text import Text

from weft.cli import instants, logs
from weft.cli.exits import ExitCode
from weft.cli.problems import as_json as problem_json
from weft.cli.problems import tell
from weft.cli.state import State, home_option, json_option, pass_state
from weft.cli.terminal import Screen, clean_line, is_live, size, to_json
from weft.errors import JournalRefused, NotFound
from weft.journal.base import ENDS, OPEN
from weft.journal.carrying import Moved, move
from weft.journal.checking import Checked, check_database, check_file
from weft.journal.health import Health, no_journal, of_database, of_file
from weft.journal.moving import note_of
from weft.journal.restoring import hold, restore
from weft.journal.sqlite import SqliteJournal
from weft.redaction import Secret
from weft.registry import Registry
from weft.runtime import DATABASE_URL, JOURNAL, Runtime

if TYPE_CHECKING:
    from weft.upkeep.moving import Carried

_FILE: Final = click.Path(dir_okay=False, path_type=Path)


@click.group("journal")
def command() -> None:
    """See where runs are kept; back up, check and move them.

    \b
    weft journal status               where they are, and how that is
    weft journal backup runs.backup   a copy, made while work goes on
    weft journal check runs.backup    whether it is sound
    weft journal restore runs.backup  put it in the journal's place
    weft journal hold                 after a database was restored
    weft journal move --dry-run       what would go to the database of WEFT_DATABASE_URL
    """


def _url(state: State) -> str | None:
    """Return the database that holds the journal, if one does; its password is masked from now on."""
    url = os.environ.get(DATABASE_URL) or None
    if url is not None:
        state.redactor.add(Secret(url))
    return url


def _file(state: State) -> Path:
    return state.find_home() / JOURNAL


# ---- status
@command.command("status", short_help="Where runs are, and how that is.")
@json_option
@home_option
@pass_state
def status(state: State, *, as_json: bool) -> None:
    """Tell where runs are kept, what waits there, and what may harm it."""
    url = _url(state)
    found = of_file(_file(state)) if url is None else asyncio.run(of_database(url))
    if as_json:
        click.echo(to_json(_health_json(found, state)))
        return
    _print_facts(_facts(found))
    if found.warnings:
        tell(found.warnings, state)


def _health_json(found: Health, state: State) -> dict[str, Any]:
    told = asdict(found)
    told["runs"] = {each: found.runs.get(each, 0) for each in (*OPEN, *ENDS)}
    if found.oldest is not None:
        told["oldest"]["started_at"] = _instant(found.oldest.started_at).isoformat()
    if found.held is not None:
        told["held"]["last_write"] = _instant(found.held.last_write).isoformat()
    told["warnings"] = [problem_json(each, state.redactor) for each in found.warnings]
    return told


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _facts(found: Health) -> Iterator[tuple[str, str]]:
    now = datetime.now(UTC)
    yield "journal", f"{found.place} ({'SQLite' if found.kind == 'sqlite' else 'PostgreSQL'})"
    yield "version", str(found.version)
    yield "lineage", found.lineage
    yield "runs", _runs(found.runs)
    if found.review:
        yield "for review", f"{_count(found.review, 'run')}, held since the journal was restored"
    if found.oldest is not None:
        since = instants.started(_instant(found.oldest.started_at), now)
        yield "oldest", f"{found.oldest.run_id} of {found.oldest.workflow}, {found.oldest.state}, started {since}"
    yield "size", size(found.size)
    if found.log_size is not None:
        kept = f", {size(found.log_held)} of it kept by a reader" if found.log_held else ""
        yield "log", f"{size(found.log_size)}{kept}"
    yield "artifacts", f"{found.artifacts}, {size(found.artifact_size)}" if found.artifacts else "none"
    yield "processes", f"{found.processes} alive" if found.processes else "none alive"
    if found.held is not None:
        who = f"process {found.held.pid} ({found.held.program})" if found.held.pid else "another program"
        last = instants.moment(_instant(found.held.last_write), now)
        yield "held by", f"{who}: nobody else can write; the last write was at {last}"
    if found.kind == "postgresql":
        age = "none" if found.snapshot_s is None else f"open for {instants.length(found.snapshot_s)}"
        yield "oldest transaction", age


def _runs(counts: Any) -> str:
    return ", ".join(f"{counts[state]:,} {state}" for state in (*OPEN, *ENDS) if counts.get(state)) or "none"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _print_facts(facts: Iterator[tuple[str, str]]) -> None:
    if not is_live(sys.stdout):
        for name, value in facts:
            click.echo(f"{name}\t{clean_line(value)}")
        return
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(name), Text(clean_line(value)))
    Screen(sys.stdout).print(table)


# ---- backup and back
@command.command("backup", short_help="Copy the journal while it works.")
@click.argument("to", metavar="FILE", type=_FILE)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@home_option
@pass_state
def backup(state: State, *, to: Path, force: bool) -> None:
    """Write a copy of the journal to FILE, complete or not at all. Work goes on meanwhile.

    It holds inputs and outputs of runs as they are: keep it as safe as the journal itself.
    """
    _refuse_database(state, "Back it up with PostgreSQL's own means: pg_dump, or a base backup with its archive.")
    logs.start(state)
    file = _file(state)
    if not file.exists():
        raise no_journal(str(file), "There is nothing to back up.")
    if to.exists() and not force:
        raise JournalRefused(f"{to} is there already.", code="file_exists", remedy="Name another file, or add --force.")
    if not to.parent.is_dir() or not os.access(to.parent, os.W_OK | os.X_OK):
        why = errno.EACCES if to.parent.is_dir() else errno.ENOENT
        raise OSError(why, os.strerror(why), str(to))
    asyncio.run(_back_up(file, to))
    click.echo(f"{to}: {size(to.stat().st_size)}. To check it: weft journal check {to}")


async def _back_up(file: Path, to: Path) -> None:
    journal = SqliteJournal(file)
    await journal.open()
    try:
        await journal.back_up(to)
    finally:
        await journal.close()


def _refuse_database(state: State, remedy: str) -> None:
    if _url(state) is not None:
        raise JournalRefused(
            f"{DATABASE_URL} is set: the journal is in PostgreSQL, not in a file.", code="no_file", remedy=remedy
        )


@command.command("restore", short_help="Put a backup in the journal's place.")
@click.argument("copy", metavar="FILE", type=_FILE)
@home_option
@pass_state
def restore_(state: State, *, copy: Path) -> None:
    """Put the backup FILE in the journal's place. What was there is kept beside it.

    What the runs in it have done since the backup is not known, so that those which have not ended are held for review:
    look at each, then `weft runs resume` or `weft runs cancel`. No process may be at work meanwhile.
    """
    _refuse_database(state, "Restore it with PostgreSQL's own means, then: weft journal hold")
    logs.start(state)
    file = _file(state)
    aside = restore(file, copy)
    asyncio.run(_begin_lineage(file))
    found = of_file(file)
    click.echo(f"{file} is what {copy} was." + (f" What was there is {aside.name}." if aside else ""))
    if found.review:
        click.echo(f"{_count(found.review, 'run')} held for review: weft runs list --state parked")


async def _begin_lineage(file: Path) -> None:
    """Open the journal: that is when it finds that it was restored."""
    journal = SqliteJournal(file)
    await journal.open()
    await journal.close()


@command.command("hold", short_help="Hold a restored database's runs for review.")
@home_option
@pass_state
def hold_(state: State) -> None:
    """Hold all runs that have not ended for review: the database was restored, and what they did since is not known.

    A file that was restored is known by itself; a database is not. Call this before any worker starts.
    """
    url = _url(state)
    if url is None:
        raise JournalRefused(
            "The journal is in a file; where that was restored, its runs are held by themselves.", code="no_database"
        )
    count = asyncio.run(hold(url))
    click.echo(f"{_count(count, 'run')} held for review: weft runs list --state parked")


# ---- check
@command.command("check", short_help="Look whether it is sound.")
@click.argument("file", metavar="[FILE]", required=False, type=_FILE)
@json_option
@home_option
@pass_state
def check(state: State, *, file: Path | None, as_json: bool) -> ExitCode:
    """Check the journal, or the backup FILE, and change nothing. Exit code 1: it is not sound."""
    url = None if file is not None else _url(state)
    own = _file(state)
    is_copy = file is not None and file.resolve() != own.resolve()
    found = check_file(file or own, is_copy=is_copy) if url is None else asyncio.run(check_database(url))
    if as_json:
        told = asdict(found) | {
            "sound": found.sound,
            "problems": [problem_json(each, state.redactor) for each in found.problems],
        }
        click.echo(to_json(told))
    else:
        tell(found.problems, state)
        click.echo(_verdict(found))
    return ExitCode.OK if found.sound else ExitCode.RUN_FAILED


def _verdict(found: Checked) -> str:
    if not found.sound:
        return f"Not sound: {_count(sum(each.severity == 'error' for each in found.problems), 'fault')}."
    looked = (
        f"{_count(found.runs, 'run')}, {_count(found.documents, 'document')}, {_count(found.artifacts, 'artifact')}"
    )
    read = f"{found.unfinished:,} that {'has' if found.unfinished == 1 else 'have'} not ended can be read"
    return f"Sound: {looked}; {read}, with {_count(found.records, 'record')}."


# ---- move
@command.command("move", short_help="Move it from its file to PostgreSQL.")
@click.option("--to", "url", metavar="URL", help=f"The database [default: ${DATABASE_URL}].")
@click.option("--unfinished-only", is_flag=True, help="Leave behind what has ended, except effects in doubt.")
@click.option("--dry-run", is_flag=True, help="Only say what would be moved.")
@json_option
@home_option
@pass_state
def move_(state: State, *, url: str | None, unfinished_only: bool, dry_run: bool, as_json: bool) -> None:
    """Move the journal from its file to PostgreSQL, with what lies beside it, and close the files for good.

    Runs go on there where they are; versions of workflows, tokens, the audit log, webhooks and stored connections go along. No process may be at work on the file. If it is cut off, call it again: until it has
    come to its end, nothing runs on either side.
    """
    address = url or _url(state)
    if address is None:
        raise click.UsageError(f"Name the database: --to URL, or set {DATABASE_URL}.")
    state.redactor.add(Secret(address))
    logs.start(state)
    telling = _Telling(silent=as_json)

    async def work() -> Moved:
        runtime = Runtime(state.find_home(), Registry(), environ={**os.environ, DATABASE_URL: address})
        file = _file(state)
        if not dry_run and file.exists():  # else nothing is made there
            await runtime.journal.open()
            await runtime.journal.close()
            await runtime.dispatcher.install()
        return await move(
            file,
            address,
            runtime.dispatcher.enqueue,
            unfinished_only=unfinished_only,
            dry_run=dry_run,
            progress=telling,
        )

    from weft.upkeep.moving import carry, left_beside  # noqa: PLC0415  loads SQLAlchemy

    home = state.find_home()
    keys = _keys(home)
    moved: Moved | None = None
    try:
        moved = asyncio.run(work())
    except NotFound:
        if not (note_of(_file(state)).exists() and left_beside(home)):
            raise  # else an earlier call was cut off after the journal
    finally:
        telling.end()
    carried = carry(home, address, dry_run=dry_run)
    if as_json:
        told = {} if moved is None else {**moved._asdict(), "file": None if moved.file is None else str(moved.file)}
        files = {"files": [str(file) for file in carried.files], "keys": [str(file) for file in keys]}
        click.echo(to_json({**told, "beside": carried.rows, **files}))
        return
    for line in (*(() if moved is None else _told(moved)), *_told_beside(carried, keys)):
        click.echo(clean_line(line))


def _told(moved: Moved) -> Iterator[str]:
    counts = moved.counts
    parts = ", ".join(
        _count(counts[name], what)
        for name, what in (("runs", "run"), ("records", "record"), ("documents", "document"), ("artifacts", "artifact"))
    )
    what = "Would move" if moved.file is None else "Was moved before" if moved.again else "Moved"
    yield f"{what} to {moved.place}: {parts}."
    if moved.states:
        yield f"Runs: {_runs(moved.states)}."
    if moved.released:
        yield f"{_count(moved.released, 'run')} had lost {'its' if moved.released == 1 else 'their'} process."
    if moved.held:
        yield "The file was restored from a copy: its unfinished runs are held for review."
    if moved.file is not None:
        yield f"What the file held is kept in {moved.file.name}; nothing runs in it any more."
        yield f"From now on set {DATABASE_URL} wherever weft runs."


def _keys(home: Path) -> list[Path]:
    """Return the files of the keys that only this machine has; that of the connections first."""
    from weft.upkeep.members import APPROVALS, key_files  # noqa: PLC0415  only a move needs it

    if os.environ.get("WEFT_KEY_FILE"):
        return []
    return sorted(key_files(home, os.environ), key=lambda file: file.stem == APPROVALS)


def _told_beside(carried: Carried, keys: Sequence[Path]) -> Iterator[str]:
    if carried.rows:
        parts = ", ".join(
            f"{count} {name.removeprefix('weft_').replace('_', ' ')}" for name, count in carried.rows.items()
        )
        yield f"Beside the journal: {parts}."
    for file in carried.files:
        yield f"What lay there is kept in {file.name}."
    if keys:
        names = " and ".join(map(str, keys))
        copy = (
            f"name a copy of {names}" if len(keys) == 1 else f"put {names}, in this order, into one file, and name it"
        )
        yield f"Every process on the database needs the same key: {copy} in WEFT_KEY_FILE."


TOLD: Final = {
    "documents": "documents",
    "runs": "runs",
    "records": "records",
    "artifacts": "artifacts",
    "compared": "compared",
}
"""What a move tells of how far it is; other tables and steps of it mean nothing to people."""


class _Telling:
    """Says on standard error how far a move is: a line that changes, or one for each part."""

    def __init__(self, *, silent: bool) -> None:
        self._live = is_live(sys.stderr) and not silent
        self._silent = silent
        self._open = False

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in TOLD:
            return
        if self._live:
            click.echo(f"\r\x1b[K{TOLD[what]} {done:,}/{total:,}", nl=False, err=True)
            self._open = True
        elif done == total and not self._silent and what != "compared":
            click.echo(f"{TOLD[what]} {done}", err=True)

    def end(self) -> None:
        if self._open:
            click.echo("\r\x1b[K", nl=False, err=True)
