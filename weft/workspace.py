"""The workspace: the directory of a person's workflows, and what holds for all of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from weft import source, validation
from weft.errors import InvalidDocument
from weft.source import Source
from weft.types import Name
from weft.validation import Findings
from weft.workflow import BESIDE, DayBudget, Model

FILE: Final = "workspace.yaml"
WORKFLOWS: Final = Path("workflows")


class FailureDefault(Model):
    """Who is told of a failed run whose workflow does not say so itself."""

    workflow: Name
    """The name of a workflow; it is given the failed run as input."""


class WorkspaceBudget(Model):
    """Caps of everything that is run from this workspace."""

    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    """The currency of all costs here, by its ISO 4217 code."""
    day: DayBudget
    """What all runs together may use up on a day of the calendar in UTC."""
    unknown_price: Literal["block", "allow"] = "block"
    """Whether a call may be made of which nobody knows beforehand what it may cost."""


class McpAction(Model):
    """An action that agents may use as a tool."""

    id: Name
    """Of the action."""
    connections: list[Name] | None = None
    """What may be used with it; left out, every connection of its type."""


class Mcp(Model):
    """What agents may use over MCP, besides workflows that say `expose: true`."""

    actions: list[McpAction] = Field(default_factory=list)
    """Actions that are tools of their own."""


class Workspace(Model):
    """What holds for every workflow of a workspace."""

    on_failure: FailureDefault | None = None
    """Who is told when a run has failed; a workflow's own `on_failure` takes its place."""
    budget: WorkspaceBudget | None = None
    """What all runs together may use up."""
    mcp: Mcp = Field(default_factory=Mcp)
    """What agents may use over MCP."""


def workspace_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of the workflows: the one that `WEFT_WORKSPACE` names, or `workflows` here."""
    return Path(environ.get("WEFT_WORKSPACE") or WORKFLOWS)


def read_workspace(home: Path) -> Workspace:
    """Return what `workspace.yaml` says, the one in this directory or else the one in the home; nothing when there is none.

    Raises:
        InvalidDocument: It has faults; all of them are told.
    """
    file = next((file for file in workspace_files(home) if file.is_file()), None)
    return Workspace() if file is None else load(source.read_file(file))


def workspace_files(home: Path) -> Sequence[Path]:
    """Return where the file is looked for, the first that is there counts."""
    return Path(FILE), home / FILE


def load(document: Source) -> Workspace:
    """Return the settings that a document holds.

    Raises:
        InvalidDocument: It has faults; all of them are told, with their places.
    """
    return validation.document(Workspace, document, InvalidDocument, _check)


def _check(workspace: Workspace, findings: Findings) -> None:
    if workspace.budget is not None and not workspace.budget.day.model_fields_set:
        findings.add(("budget", "day"), "no_cap", "The budget caps nothing.", "Give 'cost', 'tokens' or 'steps'.")


# ---- its workflows
@dataclass(frozen=True, slots=True)
class Files:
    """The workflows of a workspace as they lie on the disk at one moment."""

    directory: Path
    stamps: tuple[tuple[str, int, int], ...]  #: name, time of the last change, size
    identity: tuple[int, int] | None = None  #: what tells the directory from another that is mounted in its place

    @property
    def source(self) -> str:
        """Name the workspace: what is armed from it is its own."""
        return str(self.directory.resolve())

    @property
    def paths(self) -> list[Path]:
        return [self.directory / name for name, _, _ in self.stamps]


def workflow_files(directory: Path | None = None) -> Files:
    """Return the documents of a workspace, without the files that lie beside them."""
    directory = directory or workspace_directory()
    stamps = []
    for path in sorted(directory.glob("*.yaml")):
        if path.name.endswith(BESIDE):
            continue
        try:
            facts = path.stat()
        except FileNotFoundError:  # removed a moment ago
            continue
        if not stat.S_ISREG(facts.st_mode):  # to read a pipe would never end
            continue
        stamps.append((path.name, facts.st_mtime_ns, facts.st_size))
    return Files(directory, tuple(stamps), _identity(directory))


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        facts = directory.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
