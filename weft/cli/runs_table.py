"""What a terminal shows of many runs: a line each, and what can be done about those that wait."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from weft.cli import instants
from weft.cli.live import STYLES
from weft.cli.terminal import Screen, Symbols, clean_line, symbols
from weft.engine.report import RunSummary

COLOURS = {**STYLES, "ready": "cyan", "parked": "bold yellow", "succeeded": "green"}
STAMP = 12
"""Characters of an id that stand for the time; the rest is needed only for runs of the same millisecond."""

WIDE, MIDDLE, NARROW = 100, 72, 56
"""Cells from which on a table says what started a run, why it waits or failed, when it started."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some runs, the youngest first."""

    runs: Sequence[RunSummary]
    more: bool  #: there are older ones
    orphans: Collection[str] = ()  #: runs whose process is gone
    asked: bool = False  #: not all runs were asked for
    server: bool = False  #: they are those of a server


def mark(state: str, marks: Symbols) -> str:
    """Return the mark of a run's or step's state."""
    match state:
        case "running":
            return "●" if marks.bar == "│" else "*"
        case "ready":
            return marks.pending
        case "parked":
            return "!"
        case _:
            return str(getattr(marks, state))


def show(page: Page) -> None:
    """Print a table of runs, and what to do next."""
    screen = Screen(sys.stdout)
    if not page.runs:
        if page.asked:
            screen.print(Text.assemble("No run is like that. ", ("All runs: ", "dim"), "weft runs list"))
        else:
            screen.print(Text.assemble("There are no runs yet. ", ("Start one: ", "dim"), "weft run email-results"))
        return
    now = datetime.now(UTC)
    marks = symbols(sys.stdout)
    headers = _fitting(["state", "run", "workflow", "started", "took", "", "by"], screen.width)
    table = Table(box=None, padding=(0, 2 if screen.width >= NARROW else 1, 0, 0), pad_edge=False, header_style="dim")
    for header in headers:
        table.add_column(header, no_wrap=True, overflow="ellipsis", justify="right" if header == "took" else "left")
    ids = short_ids(page.runs)
    for run in page.runs:
        table.add_row(*_fitting(_cells(run, ids[run.run_id], marks, now, page.orphans), screen.width))
    _fit(table, headers, screen.width)
    screen.print(table)
    for line in _foot(page):
        screen.print(line, soft_wrap=True)


def short_ids(runs: Sequence[RunSummary]) -> dict[str, str]:
    """Return what of each id is enough to tell it from the others here: mostly the time that it begins with."""
    stamps = [run.run_id[:STAMP] for run in runs]
    return {run.run_id: run.run_id if stamps.count(run.run_id[:STAMP]) > 1 else run.run_id[:STAMP] for run in runs}


def _fitting(cells: list[Text] | list[str], width: int) -> list[Text]:
    """Return the cells for which there is room."""
    count = 7 if width >= WIDE else 6 if width >= MIDDLE else 4 if width >= NARROW else 3
    return [Text(cell) if isinstance(cell, str) else cell for cell in cells[:count]]


def _fit(table: Table, headers: list[Text], width: int) -> None:
    """Let the workflow's name give way, then the note; nothing else is cut."""
    gap = 2 if width >= NARROW else 1
    sizes = {}
    for column, header in zip(table.columns, headers, strict=True):
        sizes[header.plain] = max(cell.cell_len for cell in [header, *column.cells])  # type: ignore[union-attr]  # all are Text
    fixed = sum(size + gap for name, size in sizes.items() if name not in ("workflow", ""))
    room = width - fixed - gap
    name = sizes["workflow"]
    if "" in sizes:
        room -= gap
        name = min(name, max(12, room // 2, room - sizes[""]))
    for column, header in zip(table.columns, headers, strict=True):
        given = {"workflow": min(name, room), "": max(0, room - name)}
        column.width = max(1, min(sizes[header.plain], given.get(header.plain, width)))


def _cells(run: RunSummary, id_: str, marks: Symbols, now: datetime, orphans: Collection[str]) -> list[Text]:
    style = COLOURS[run.state]
    took = now - run.started_at if run.state in ("running", "ready", "waiting") else None
    length = run.ms / 1000 if took is None else max(0.0, took.total_seconds())
    note = note_of(run, now, orphan=run.run_id in orphans)
    return [
        Text.assemble((mark(run.state, marks), style), " ", (run.state, style)),
        Text(clean_line(id_)),
        Text(clean_line(run.workflow), "bold"),
        Text(instants.started(run.started_at, now)),
        Text(instants.length(length), "dim"),
        Text(clean_line(note), "red" if run.state == "failed" else "yellow"),
        Text(clean_line(by(run)), "dim"),
    ]


def by(run: RunSummary) -> str:
    """Say what started a run."""
    what = run.trigger or "hand"
    return f"{what}, again" if run.origin else what


def note_of(run: RunSummary, now: datetime, *, orphan: bool = False) -> str:
    """Say what a run failed for, or what it waits for; nothing when there is nothing to say."""
    match run.state:
        case "ready":
            return "waits for a worker"
        case "waiting" if run.queued:
            return "waits until others of its kind have ended"
        case "waiting" if run.wake_at is None:
            return "waits for an answer, or for another run"
        case "waiting" if run.wake_at is not None:
            return f"waits until {instants.moment(run.wake_at, now)}"
        case "running" if orphan:
            return "its process is gone"
        case "running" if run.crashes:
            return f"{run.crashes} crashes"
        case "failed" | "parked" if run.problem is not None:
            step = f"{run.problem.where.step}: " if run.problem.where.step else ""
            return f"{step}{run.problem.code}: {run.problem.message}"
        case _:
            return ""


def plain(run: RunSummary, now: datetime, *, orphan: bool) -> str:
    """Return a line for programs: id, workflow, state, start, milliseconds, what started it, what it says."""
    cells = [run.run_id, run.workflow, run.state, run.started_at.isoformat(), str(run.ms), by(run)]
    return "\t".join(clean_line(cell) for cell in [*cells, note_of(run, now, orphan=orphan)])


def _foot(page: Page) -> Iterator[Text]:
    ready = sum(run.state == "ready" for run in page.runs)
    lines = []
    if ready:
        lines.append(_hint(f"{_runs(ready)} for a worker: ", "weft worker"))
    if page.orphans:
        one = next(iter(page.orphans))
        lines.append(_hint("A process is gone that had a run; to go on with it: ", f"weft runs resume {one}"))
    if page.more and page.server:
        lines.append(_hint("There are older ones: ", "weft runs list --limit 500"))
    elif page.more:
        lines.append(_hint("Older ones: ", f"weft runs list --before {page.runs[-1].run_id}"))
    lines.append(_hint("All about one: ", "weft runs show RUN"))
    yield Text()
    yield from lines


def _hint(words: str, command: str) -> Text:
    return Text.assemble((words, "dim"), command)


def _runs(count: int) -> str:
    return "1 run waits" if count == 1 else f"{count} runs wait"
