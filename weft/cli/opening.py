"""Opens the runtime as the options say, and knows the names that a shell may complete."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from weft import packs
from weft.cli.state import State
from weft.errors import WeftError
from weft.plan import Plan
from weft.registry import Registry
from weft.runtime import DATABASE_URL, WORKSPACE_VARIABLE, Runtime
from weft.workflow import BESIDE
from weft.workspace import workspace_directory


def open_runtime(state: State, on_progress: Callable[[str, int, int], None] | None = None) -> Runtime:
    """Open the runtime, and mask its secrets in everything that is told from now on."""
    runtime = Runtime.open(
        home=state.home,
        packs=state.packs,
        connections=state.connections,
        environment=state.environment,
        on_progress=on_progress,
    )
    state.redactor = runtime.redactor
    here = {path.stem for path in Path("manifests").glob("*.yaml")}
    state.beside = frozenset(
        here - {action.id for action in runtime.registry.actions()} - runtime.registry.broken.keys()
    )
    return runtime


def plan_at(runtime: Runtime, name_or_path: str) -> Plan:
    """Return the plan of a workflow by name or path; raises what `Runtime.plan_at` raises, and then closes the runtime."""

    async def planned() -> Plan:
        try:
            return await runtime.plan_at(name_or_path)
        except BaseException:
            await runtime.close()
            raise

    return asyncio.run(planned())


def documents() -> list[Path]:
    """Return the workflows of the workspace, without the files that lie beside them."""
    return [path for path in sorted(workspace_directory().glob("*.yaml")) if not path.name.endswith(BESIDE)]


def is_in_database() -> bool:
    """Tell whether the workspace is in the database, and not a directory."""
    return bool(os.environ.get(DATABASE_URL)) and not os.environ.get(WORKSPACE_VARIABLE)


def names_here() -> list[str]:
    """Return the names of the workflows of the workspace, wherever it is.

    Raises:
        StateUnavailable: The database that it is in is away.
    """
    if is_in_database():
        return asyncio.run(_names_in_database())
    return [path.stem for path in documents()]


async def _names_in_database() -> list[str]:
    from weft.documents.database import DatabaseDocuments  # noqa: PLC0415  it loads SQLAlchemy
    from weft.state import State as Tables  # noqa: PLC0415

    tables = Tables(os.environ[DATABASE_URL])

    async def opened() -> Tables:
        await tables.open()
        return tables

    try:
        return [facts.name for facts in await DatabaseDocuments(opened).list()]
    finally:
        await tables.close()


def workflow_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a workflow, or a path."""
    names = set(_registry(context).workflows())
    with contextlib.suppress(WeftError):  # nowhere to tell that the database is away
        names |= set(names_here())
    found = [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def action_ids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the id of an action."""
    return [
        CompletionItem(action.id, help=action.manifest.purpose)
        for action in _registry(context).actions()
        if action.id.startswith(incomplete)
    ]


def parameter_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a parameter of the action that the command line names."""
    try:
        action = _registry(context).action(str(context.params.get("action")))
    except WeftError:
        return []
    found = action.manifest.all_parameters
    return [CompletionItem(each.name, help=each.title) for each in found if each.name.startswith(incomplete)]


def _registry(context: click.Context) -> Registry:
    state = context.find_object(State)
    try:
        return packs.discover(state.packs if state else ())
    except WeftError:  # nowhere to tell it: the shell shows only what can be completed
        return Registry()
