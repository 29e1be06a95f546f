"""Opens the runtime as the options say, and knows the names that a shell may complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from weft import packs
from weft.cli.state import State
from weft.errors import WeftError
from weft.registry import Registry
from weft.runtime import Runtime
from weft.workflow import BESIDE

WORKSPACE = Path("workflows")


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


def documents() -> list[Path]:
    """Return the workflows of the workspace, without the files that lie beside them."""
    return [path for path in sorted(WORKSPACE.glob("*.yaml")) if not path.name.endswith(BESIDE)]


def workflow_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a workflow, or a path."""
    names = {path.stem for path in documents()} | set(_registry(context).workflows())
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
