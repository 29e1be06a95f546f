"""`weft validate`: everything that is wrong with documents, all at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import click

from weft import manifest, source
from weft.cli import remote
from weft.cli.exits import ExitCode
from weft.cli.opening import documents, is_in_database, names_here, open_runtime, workflow_names
from weft.cli.problems import as_json, tell
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
from weft.cli.terminal import to_json
from weft.connections import unfitting
from weft.errors import InvalidDocument, NotFound, PackError, Problem, Where
from weft.runtime import Runtime, environments_file
from weft.source import Source
from weft.workflow import BESIDE
from weft.workspace import workspace_directory

Kind: TypeAlias = Literal["workflow", "manifest", "connection-type", "environments"]


@dataclass(frozen=True, slots=True)
class Checked:
    """One document and what was found in it."""

    file: Path
    kind: Kind
    problems: Sequence[Problem]
    missing: bool = False  #: there is no such document
    document: Source | None = None  #: a workflow, as far as it could be read


@click.command("validate")
@click.argument("names", metavar="[DOCUMENT]...", nargs=-1, shell_complete=workflow_names)
@click.option(
    "--manifest", "as_manifest", is_flag=True, help="Read the documents as manifests, whatever they look like."
)
@json_option
@server_option
@pack_option
@connections_option
@env_option
@home_option
@pass_state
def command(state: State, names: tuple[str, ...], as_manifest: bool, as_json: bool) -> ExitCode:
    """Check workflows and manifests, and say all that is wrong, with the lines themselves.

    DOCUMENT is a file, a directory of them, or a workflow's name; left out, every workflow of the workspace is checked.
    """
    if state.server:
        asked = [(Path(file), _kind_there(Path(file), as_manifest)) for name in names for file in _within(name)]
        told = remote.with_client(state, lambda client: remote.checked(client, asked))
        return _told([Checked(Path(file), kind, problems) for file, kind, problems in told], state, as_json=as_json)
    checker = Checker(state, as_manifest)
    stage = state.environment or os.environ.get("WEFT_ENV")
    with contextlib.closing(checker):
        if stage:
            checker.open()  # what is wrong with the environment is told once, and of no document
        files = [file for name in names for file in _within(name)] or _workspace()
        found = [checker.check(file) for file in files]
    if stage and (file := environments_file(state.find_home())) is not None:
        found.append(_environment(file, stage, found))
    return _told(found, state, as_json=as_json)


def _kind_there(file: Path, as_manifest: bool) -> Kind:
    if not file.is_file():
        raise NotFound(
            f"There is no file {file} here.",
            code="unknown_document",
            remedy="With --server, documents are files of this machine; without any, those of the server are checked.",
        )
    return _kind_by_place(file) or ("manifest" if as_manifest else "workflow")


def _told(found: Sequence[Checked], state: State, *, as_json: bool) -> ExitCode:
    """Print what was found, and return the exit code that tells it."""
    (_print_json if as_json else _print)(found, state)
    if any(checked.missing for checked in found):
        return ExitCode.NOT_FOUND
    broken = any(problem.severity == "error" for checked in found for problem in checked.problems)
    return ExitCode.INVALID_DOCUMENT if broken else ExitCode.OK


class Checker:
    """Checks documents one after another; the runtime is opened when the first needs it."""

    def __init__(self, state: State, as_manifest: bool) -> None:
        self._state = state
        self._as_manifest = as_manifest
        self._opened: Runtime | None = None

    def open(self) -> None:
        """Open the runtime now.

        Raises:
            NotFound: There is no such environment.
            InvalidConnections: A file of connections or environments has faults.
            PackError: The packs that workflows need cannot be used.
        """
        self._runtime()

    def close(self) -> None:
        """Close what asking the database has opened."""
        if self._opened is not None and is_in_database():
            asyncio.run(self._opened.close())

    def check(self, name: str) -> Checked:
        """Return what is wrong with one document; that it is not there is a problem too.

        Raises:
            PackError: The packs that workflows need cannot be used.
        """
        file = Path(name)
        try:
            document = source.read_file(file) if file.is_file() else asyncio.run(self._runtime().source_at(name))
        except NotFound as error:
            return Checked(file, "workflow", error.problems, missing=True)
        except InvalidDocument as error:
            file = Path(error.problem.where.file or name)
            return Checked(file, _kind_by_place(file) or "workflow", error.problems)
        file = Path(document.file)
        kind = self._kind(file, document)
        checks: dict[Kind, Callable[[], Iterable[Problem]]] = {
            "workflow": lambda: asyncio.run(self._runtime().compiled(document)).warnings,
            "manifest": lambda: self._manifest(document),
            "connection-type": lambda: _connection_type(document),
        }
        read = document if kind == "workflow" else None
        try:
            return Checked(file, kind, tuple(checks[kind]()), document=read)
        except InvalidDocument as error:
            return Checked(file, kind, error.problems, document=read)

    def _manifest(self, document: Source) -> Iterable[Problem]:
        """Return what is wrong with a manifest, and where its module says something else."""
        manifest.load(document)
        here = Path(document.file).resolve()
        for action in self._runtime().registry.actions():
            if Path(action.source.file).resolve() == here:
                try:
                    action.load()
                except PackError as error:
                    return error.problems
                return ()
        code = here.parent.parent / "actions" / f"{here.stem}.py"
        return [_alone(document, here.parent.parent)] if code.is_file() else ()

    def _kind(self, file: Path, document: Source) -> Kind:
        value = document.value
        keys = value.keys() if isinstance(value, dict) else set()
        if self._as_manifest:
            return "connection-type" if "fields" in keys else "manifest"
        if place := _kind_by_place(file):
            return place
        if "steps" not in keys and "parameters" in keys:
            return "manifest"
        return "connection-type" if "steps" not in keys and "fields" in keys else "workflow"

    def _runtime(self) -> Runtime:
        if self._opened is None:
            self._opened = open_runtime(self._state)
        return self._opened


def _kind_by_place(file: Path) -> Kind | None:
    folders = file.resolve().parts[-3:-1]
    if folders[-1:] == ("manifests",):
        return "manifest"
    return "connection-type" if folders == ("manifests", "connections") else None


def _alone(document: Source, pack: Path) -> Problem:
    """Say that a manifest was not compared with its code: to load that runs it, and nobody has asked for that."""
    shown = pack.relative_to(Path.cwd()) if pack.is_relative_to(Path.cwd()) else pack
    return Problem(
        "not_compared",
        "The manifest was not compared with its code, because its pack is not loaded.",
        f"Say `--pack {shown}` too.",
        Where(document.file),
        "warning",
    )


def _within(name: str) -> list[str]:
    """Return the documents of a directory, which may be a pack; a name that is none stands for itself."""
    folder = Path(name)
    if not folder.is_dir():
        return [name]
    parts = [folder / part for part in ("workflows", "manifests", "manifests/connections") if (folder / part).is_dir()]
    files = [file for part in parts or [folder] for file in sorted(part.glob("*.yaml"))]
    if not files:
        raise NotFound(f"There is no document in {name}.", code="no_documents", remedy="Documents end in .yaml.")
    return [str(file) for file in files if not file.name.endswith(BESIDE)]


def _connection_type(document: Source) -> Iterable[Problem]:
    manifest.load_connection_type(document)
    return ()


def _environment(file: Path, name: str, found: Sequence[Checked]) -> Checked:
    """Compare an environment with the workflows of the workspace and those that were named."""
    named = {Path(each.document.file).resolve(): each.document for each in found if each.document is not None}
    here = [] if is_in_database() else [path for path in documents() if path.resolve() not in named]
    try:
        workflows = [*(source.read_file(path) for path in here), *named.values()]
        problems = unfitting(source.read_file(file), name, workflows)
    except InvalidDocument:
        problems = []  # of a document that cannot be read it is not known what it uses; it is told where it is checked
    return Checked(file, "environments", problems)


def _workspace() -> list[str]:
    found = names_here() if is_in_database() else [str(path) for path in documents()]
    if not found:
        place = "the database" if is_in_database() else f"{workspace_directory()}/ here"
        raise NotFound(
            f"There are no workflows in {place}.",
            code="no_workflows",
            remedy="Name the documents to check, or go to the directory that holds them.",
        )
    return found


def _print(found: Sequence[Checked], state: State) -> None:
    problems = [problem for checked in found for problem in checked.problems]
    tell(problems, state, sys.stdout)
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    told = [_count(errors, "error")] * bool(errors) + [_count(warnings, "warning")] * bool(warnings)
    documents = _count(len(found), "document")
    click.echo(f"\n{' and '.join(told)} in {documents}." if told else f"{documents} checked, nothing is wrong.")


def _print_json(found: Sequence[Checked], state: State) -> None:
    report = {
        "documents": [
            {
                "file": str(checked.file),
                "kind": checked.kind,
                "valid": all(problem.severity != "error" for problem in checked.problems),
                "problems": [as_json(problem, state.redactor) for problem in checked.problems],
            }
            for checked in found
        ]
    }
    click.echo(to_json(report))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
