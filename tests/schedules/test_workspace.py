"""`workspace.yaml`: what holds for every workflow of a workspace; and which files are its workflows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weft.errors import InvalidDocument
from weft.workspace import Workspace, read_workspace, workflow_files


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, file: str = "workspace.yaml") -> None:
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text(text, encoding="utf-8")


def test_without_a_file_nothing_is_set() -> None:
    """A workspace needs no file."""
    assert read_workspace(Path("home")) == Workspace()


def test_this_directory_comes_before_the_home() -> None:
    """The file in the home counts when there is none here."""
    write("on_failure: {workflow: from-home}", "home/workspace.yaml")
    found = read_workspace(Path("home"))
    assert found.on_failure is not None
    assert found.on_failure.workflow == "from-home"

    write("on_failure: {workflow: from-here}\nbudget: {currency: CHF, day: {cost: 5.0, tokens: 1000}}\n")

    found = read_workspace(Path("home"))
    assert found.on_failure is not None
    assert found.budget is not None
    assert found.on_failure.workflow == "from-here"
    assert (found.budget.currency, found.budget.day.cost, found.budget.unknown_price) == ("CHF", 5.0, "block")


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("on_failure: {workflow: Not A Name}", 1, 24),
        ("budget:\n  day: {}", 2, 8),
        ("budget:\n  day: {cost: -1}", 2, 15),
        ("budgets: {}", 1, 1),
        ("- a list", 1, 1),
        ("on_failure: [", 2, None),
        ("# nothing yet", 1, 1),
    ],
)
def test_a_fault_is_told_with_its_place(text: str, line: int, column: int | None) -> None:
    """Each fault has a line and a column; an unknown key is one."""
    write(text)

    with pytest.raises(InvalidDocument) as refused:
        read_workspace(Path("home"))

    where = refused.value.problem.where
    assert (where.file, where.line) == ("workspace.yaml", line)
    assert column is None or where.column == column


def test_only_files_are_workflows() -> None:
    """A pipe, which nobody may ever write to, a directory and a link to nothing are none."""
    write("name: a", "workflows/a.yaml")
    os.mkfifo("workflows/b.yaml")
    Path("workflows/c.yaml").mkdir()
    Path("workflows/d.yaml").symlink_to("nowhere")

    assert [path.name for path in workflow_files().paths] == ["a.yaml"]


def test_what_lies_beside_workflows_is_none() -> None:
    """Layouts, tests and recorded answers are no workflows; a change of a file is seen."""
    for name in ("a.yaml", "a.layout.yaml", "a.test.yaml", "a.answers.yaml", "b.yaml", "notes.txt"):
        write("name: a", f"workflows/{name}")
    before = workflow_files()
    assert [path.name for path in before.paths] == ["a.yaml", "b.yaml"]
    assert before == workflow_files()

    write("name: other", "workflows/a.yaml")

    assert before != workflow_files()
    assert before.source == workflow_files().source == str(Path("workflows").resolve())
    assert workflow_files(Path("nowhere")).paths == []
