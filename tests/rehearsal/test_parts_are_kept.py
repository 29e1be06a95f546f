"""A part of a workflow is kept with all that its document needs, though the part itself does not run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.plan import Selection
from weft.plan.selection import select
from weft.rehearsal.dry_run import dry_run
from weft.runtime import Runtime

CHILD = "name: kid\nsteps: [{id: said, uses: log, with: {message: x}}]\n"
PARENT = """
name: parent
steps:
  - {id: first, uses: log, with: {message: x}}
  - {id: second, uses: "workflow:kid"}
on_failure: {workflow: kid}
"""


@pytest.mark.parametrize(
    "selection", [Selection(until="first"), Selection(only="first"), Selection(pins={"second": 1})]
)
async def test_a_part_without_the_child_of_its_workflow_is_rehearsed_and_kept(
    tmp_path: Path, selection: Selection
) -> None:
    """What is kept can be read again, and gives the same part: a worker goes on with it, and a dry run shows it."""
    (tmp_path / "kid.yaml").write_text(CHILD)
    file = tmp_path / "parent.yaml"
    file.write_text(PARENT)
    async with Runtime.open(home=tmp_path / "home") as runtime:
        part = select(runtime.compile(file), selection)
        told = await dry_run(runtime, part, {})

    assert (told.state, [step.path for step in told.steps][:1]) == ("succeeded", ["/first"])
