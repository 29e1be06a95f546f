"""The steps of a run as a tree: what stands within what, by their paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from weft.engine.report import StepReport


def in_tree(steps: Sequence[StepReport]) -> list[tuple[StepReport, int]]:
    """Return steps with their depth, each below the one that it is part of, turns of a loop in their order."""
    known = {step.path for step in steps}
    order = {step.path: at for at, step in enumerate(steps)}
    children: dict[str | None, list[StepReport]] = {}
    for step in steps:
        children.setdefault(_outer(step.path, known), []).append(step)

    def below(parent: str | None, depth: int) -> Iterator[tuple[StepReport, int]]:
        for step in sorted(children.get(parent, ()), key=lambda each: (_turns(each.path), order[each.path])):
            yield step, depth
            yield from below(step.path, depth + 1)

    return list(below(None, 0))


def _outer(path: str, known: set[str]) -> str | None:
    """Return the nearest step that a path is within: `/each` for `/each[3]/mail`."""
    while "/" in path.strip("/"):
        path = path.rpartition("/")[0]
        for found in (path, path.rpartition("[")[0] if path.endswith("]") else path):
            if found in known:
                return found
    return None


def _turns(path: str) -> tuple[int, ...]:
    return tuple(int(turn) for turn in re.findall(r"\[(\d+)\]", path))
