"""What a terminal shows of one run: its steps as a tree, when each was at work, and what each attempt was given and gave."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from weft.cli import instants, usage
from weft.cli.run_tree import in_tree
from weft.cli.runs_table import COLOURS, mark, note_of
from weft.cli.terminal import Screen, Symbols, clean, clean_line, duration, symbols
from weft.cli.view import answer, how_to_answer, mail_facts, own_name
from weft.engine.report import AttemptReport, ProblemReport, QuestionReport, RunReport, RunSummary, StepReport
from weft.types import Json

ATTEMPTS, ARGUMENTS, TURNS = 8, 8, 20
"""How many of a step's attempts, of its arguments, and of a loop's rows stand on the page; `--step` shows all."""
TEXT_LINES = 4
PROBLEM_LINES = 3


def page(report: RunReport, summary: RunSummary, screen: Screen, why: str = "") -> list[Text]:
    """Return all that is worth knowing of a run, as lines.

    Args:
        report: The run, secrets masked.
        summary: The same run as lists tell it.
        screen: Where it will be shown.
        why: Why what it follows cannot be read here.
    """
    return list(_Page(report, summary, screen, why).lines())


def step_page(steps: Sequence[StepReport], report: RunReport, screen: Screen) -> list[Text]:
    """Return everything about some steps, nothing cut."""
    picture = _Page(report, None, screen, whole=True)
    return [line for step in steps for line in picture.step(step, 0)]


class _Page:
    def __init__(
        self, report: RunReport, summary: RunSummary | None, screen: Screen, why: str = "", *, whole: bool = False
    ) -> None:
        self._why = why
        self._report, self._summary, self._screen, self._whole = report, summary, screen, whole
        self._width = screen.width
        self._marks: Symbols = symbols(screen.file)  # type: ignore[arg-type]  # the stream that it was made of
        self._now = datetime.now(UTC)
        self._hidden = False  #: something was cut or left out

    # ---- the whole
    def lines(self) -> Iterator[Text]:
        yield from self._head()
        yield Text()
        rows = in_tree(self._report.steps)
        if not rows and self._report.complete:
            yield Text(" Nothing has begun yet.", "dim")
        yield from self._rows(rows)
        yield from self._end()

    def _head(self) -> Iterator[Text]:
        report = self._report
        style = COLOURS[report.state]
        name = Text.assemble((clean_line(report.workflow), "bold"), "  ")
        state = Text.assemble((mark(report.state, self._marks), style), " ", (report.state, style))
        run = Text(f"run {clean_line(report.run_id)}", "dim")
        first = name + state
        if first.cell_len + run.cell_len + 2 <= self._width:
            yield self._line(first, run)
        else:
            yield self._line(first)
            yield self._line(run)
        at = report.started_at
        told = f"started {instants.started(at, self._now)} ({at.astimezone():%Y-%m-%d %H:%M:%S}), "
        running = report.state in ("running", "ready", "waiting")
        yield from self._wrapped(told + ("so far " if running else "took ") + self._took(), "dim")
        if report.origin:
            yield from self._wrapped(f"repeats run {clean_line(report.origin)}", "dim")
        note = note_of(self._summary, self._now) if self._summary and not report.problem else ""
        if note:
            worker = ": weft worker" if report.state == "ready" else ""
            yield from self._wrapped(clean_line(note) + worker, "yellow")
        if not report.complete:
            told = (
                "What it follows cannot be read here, so this is what stands on record, without titles and arguments."
            )
            yield from self._wrapped(f"{told} {clean_line(self._why)}".rstrip(), "yellow")
        if report.inputs:
            yield Text()
            yield from self._values("inputs", report.inputs, 0)

    def _took(self) -> str:
        report = self._report
        if report.state in ("running", "ready", "waiting"):
            return duration(max(0.0, (self._now - report.started_at).total_seconds()))
        return _took(report.ms)

    def _rows(self, rows: list[tuple[StepReport, int]]) -> Iterator[Text]:
        shown: dict[str, int] = {}
        for step, depth in rows:
            loop = step.path.rpartition("[")[0] if depth else ""
            shown[loop] = shown.get(loop, 0) + 1
            if loop and shown[loop] > TURNS and step.state in ("succeeded", "skipped", "pending"):
                continue
            yield from self.step(step, depth)
        for loop, count in shown.items():
            if loop and count > TURNS:
                yield self._sub(
                    Text(f"{self._marks.more} {count - TURNS} more rows: add --step {loop.strip('/')}", "dim"), 3
                )

    def _end(self) -> Iterator[Text]:
        report = self._report
        if report.problem is not None:
            yield Text()
            yield from self._problem(report.problem, 0, remedy=True)
        if isinstance(report.outputs, dict) and report.outputs:
            yield Text()
            yield from self._values("outputs", report.outputs, 0)
        used = list(usage.total(attempt for step in report.steps for attempt in step.attempts).told())
        hint = Text.assemble(("One step in full: add ", "dim"), "--step STEP")
        if used or self._hidden:
            yield Text()
        if used:
            own = " by this run itself" if report.origin else ""
            yield from self._wrapped(f"used {f' {self._marks.dot} '.join(used)}{own}", "dim")
        if self._hidden:
            yield hint

    # ---- one step
    def step(self, step: StepReport, depth: int) -> Iterator[Text]:
        """Yield the lines of a step: itself, its attempts, what it was given, what it gave."""
        inset = 3 + 2 * depth
        yield self._row(step, depth)
        if step.question is not None:
            yield from self._hung(Text("asks  ", "dim"), Text(clean_line(step.question)), inset)
        for ask in step.asks:
            yield from self._hung(Text("help: ", "bold"), Text(self._how(ask)), inset)
        if step.question is not None and step.state == "waiting" and not step.asks:  # told from its records alone
            how = how_to_answer(self._report.run_id, step.path, ())
            yield from self._hung(Text("help: ", "bold"), Text(how), inset)
        attempts = step.attempts if self._whole else _first_and_last(step.attempts, ATTEMPTS)
        turns = any(attempt.turn is not None for attempt in attempts)
        for attempt in attempts:
            if len(step.attempts) > 1 or turns or _is_worth_a_line(attempt):
                yield from self._attempt(attempt, inset)
        if len(attempts) < len(step.attempts):
            yield self._more(len(step.attempts) - len(attempts), "attempts", inset)
        if not turns and step.attempts:
            yield from self._values("with", step.attempts[-1].arguments, inset)
        elif self._whole:
            for attempt in attempts:
                yield from self._values(f"with [{attempt.turn}]", attempt.arguments, inset)
        yield from self._gave(step, inset)
        told = {attempt.problem.message for attempt in attempts if attempt.problem}
        if step.problem is not None and step.problem.message not in told:
            yield from self._problem(step.problem, inset, remedy=self._whole)

    def _how(self, ask: QuestionReport) -> str:
        until = "" if ask.deadline is None else f"until {ask.deadline.astimezone():%Y-%m-%d %H:%M:%S}. "
        return f"{until}{how_to_answer(self._report.run_id, ask.path, ask.who)}"

    def _row(self, step: StepReport, depth: int) -> Text:
        style = COLOURS[step.state]
        quiet = step.state in ("pending", "skipped")
        name = clean_line(own_name(step.path))
        title = clean_line(step.title)
        left = Text.assemble(
            " " * (1 + 2 * depth), (mark(step.state, self._marks), style), " ", (title, "dim" if quiet else "bold")
        )
        if name.casefold() != title.casefold():
            left.append(f"  {name}", "dim")
        took = _took(step.ms) if step.started_at is not None and not quiet else ""
        state = Text.assemble((f"{step.state:>9}", style), (f"{took:>9}" if took or not quiet else "", "dim"))
        if quiet:
            state.append(" " * 9)
        cells = 0 if self._width < 60 else 12 if self._width < 90 else 28
        if cells:
            state = self._bar(step, cells) + Text("  ") + state
        return self._line(left, state)

    def _bar(self, step: StepReport, cells: int) -> Text:
        """Return when the step was at work, within the time of the run; nothing for what the run inherited."""
        begin, whole = self._report.started_at, max(self._whole_s(), 0.001)
        line, rest = ("━", "─") if self._marks.bar == "│" else ("=", ".")
        if step.started_at is None or step.started_at < begin or step.state in ("pending", "skipped"):
            return Text(rest * cells, "bright_black")
        from_s = (step.started_at - begin).total_seconds()
        open_ = step.state in ("running", "waiting")
        to_s = whole if open_ else from_s + step.ms / 1000
        first = min(cells - 1, int(from_s / whole * cells))
        last = min(cells, max(first + 1, round(to_s / whole * cells)))
        return Text.assemble(
            (rest * first, "bright_black"),
            (line * (last - first), COLOURS[step.state]),
            (rest * (cells - last), "bright_black"),
        )

    def _whole_s(self) -> float:
        """Return how long the run has taken, up to now if it goes on."""
        if self._report.state in ("running", "ready", "waiting"):
            return (self._now - self._report.started_at).total_seconds()
        return self._report.ms / 1000

    def _attempt(self, attempt: AttemptReport, inset: int) -> Iterator[Text]:
        turn = f"[{attempt.turn}] " if attempt.turn is not None else ""
        number = f"attempt {attempt.number}"
        facts = [
            turn + number,
            "" if attempt.variant == "default" else attempt.variant,
            _took(attempt.ms),
            " ".join(str(fact) for fact in (attempt.status, attempt.kind) if fact),
            *usage.of_attempt(attempt).told(),
            "repeated: one before it may have had its effect" if attempt.repeated else "",
            f"made by run {self._report.origin}" if attempt.inherited else "",
            f"then waited {duration(attempt.wait_s)}" if attempt.wait_s else "",
        ]
        style = COLOURS[attempt.state]
        told = f" {self._marks.dot} ".join(clean_line(fact) for fact in facts if fact)
        head = Text.assemble((mark(attempt.state, self._marks), style), " ")
        yield from self._hung(head, Text(told, "dim"), inset)
        if attempt.problem is not None:
            yield from self._problem(attempt.problem, inset + 2, remedy=self._whole)
        if self._whole and attempt.details:
            yield from self._values("details", attempt.details, inset + 2)

    def _problem(self, problem: ProblemReport, inset: int, *, remedy: bool) -> Iterator[Text]:
        words = clean_line(problem.message)
        lines = list(self._hung(Text(), Text(f"{problem.code}: {words}" if not inset else words, "red"), inset))
        if len(lines) > PROBLEM_LINES and not self._whole and inset:
            self._hidden = True
            lines = lines[:PROBLEM_LINES]
            lines[-1].truncate(self._width - 1)
            lines[-1].append(self._marks.more)
        yield from lines
        place = ":".join(str(part) for part in (problem.where.file, problem.where.line, problem.where.column) if part)
        if place and (remedy or self._whole):
            yield self._sub(Text(f"at {clean_line(place)}", "dim"), inset)
        if problem.remedy and remedy:
            yield from self._hung(Text("help: ", "bold"), Text(clean_line(problem.remedy)), inset)

    # ---- values
    def _gave(self, step: StepReport, inset: int) -> Iterator[Text]:
        if step.output is None or (step.path.endswith("]") and not self._whole):
            return
        if self._whole:
            yield self._sub(Text("gave", "dim"), inset)
            yield from self._json(step.output, inset + 2)
            return
        if step.uses == "group" or any(attempt.turn is not None for attempt in step.attempts):
            return  # what its members gave stands there
        if mail := list(mail_facts(step.output)):
            yield from self._hung(Text("gave  ", "dim"), Text(f" {self._marks.dot} ".join(mail)), inset)
        elif text := answer(step.output).strip():
            yield from self._text(text, inset)
        else:
            yield self._value("gave", step.output, inset, 6)

    def _text(self, text: str, inset: int) -> Iterator[Text]:
        lines = list(Text(text).wrap(self._screen, max(10, self._width - inset - 2), tab_size=4))
        hidden = len(lines) - TEXT_LINES
        if hidden > 0:
            self._hidden = True
            lines = [*lines[: TEXT_LINES - 1], Text(f"{self._marks.more} {hidden + 1} more lines", "dim")]
        for line in lines:
            line.rstrip()
            yield self._sub(Text.assemble((f"{self._marks.bar} ", "dim"), line), inset)

    def _values(self, label: str, values: dict[str, Any], inset: int) -> Iterator[Text]:
        """Yield a line for each value that is there, names in one column."""
        given = {name: value for name, value in values.items() if value is not None}
        if not given:
            return
        if self._whole:
            yield self._sub(Text(label, "dim"), inset)
            yield from self._json(given, inset + 2)
            return
        names = list(given) if len(given) <= ARGUMENTS else list(given)[: ARGUMENTS - 1]
        column = min(max(cell_len(clean_line(name)) for name in names), max(8, self._width // 4)) + 2
        for number, name in enumerate(names):
            head = (label if not number else "").ljust(len(label) + 2)
            yield self._value(head, given[name], inset, len(head), name=clean_line(name), column=column)
        if len(names) < len(given):
            yield self._more(len(given) - len(names), "more", inset + len(label) + 2)

    def _value(self, label: str, value: Json, inset: int, width: int, *, name: str = "", column: int = 0) -> Text:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        head = Text.assemble((label.ljust(width), "dim"))
        if name:
            label_cells = Text(name)
            label_cells.truncate(column - 2, overflow="ellipsis", pad=True)
            head.append_text(label_cells).append("  ")
        room = max(6, self._width - inset - head.cell_len)
        line = clean_line(text[: 4 * room])
        if cell_len(line) > room or len(text) > 4 * room:
            self._hidden = True
            more = f"{self._marks.more} {len(text):,} characters" if room > 40 else self._marks.more
            cut = Text(line)
            cut.truncate(room - cell_len(more))
            return self._sub(Text.assemble(head, cut, (more, "dim")), inset)
        return self._sub(Text.assemble(head, line), inset)

    def _json(self, value: Json, inset: int) -> Iterator[Text]:
        """Yield a value whole; texts of several lines as they read."""
        for line in clean(json.dumps(value, indent=2, ensure_ascii=False)).split("\n"):
            yield Text(" " * inset + line)

    # ---- lines
    def _more(self, count: int, what: str, inset: int) -> Text:
        self._hidden = True
        return self._sub(
            Text(
                f"{self._marks.more} {count} {what}" if what == "more" else f"{self._marks.more} {count} more {what}",
                "dim",
            ),
            inset,
        )

    def _hung(self, head: Text, body: Text, inset: int) -> Iterator[Text]:
        """Yield a text beside its head, further lines below its first."""
        room = max(10, self._width - inset - head.cell_len)
        for number, part in enumerate(body.wrap(self._screen, room)):
            part.rstrip()
            yield Text(" " * inset) + (head if not number else Text(" " * head.cell_len)) + part

    def _wrapped(self, text: str, style: str) -> Iterator[Text]:
        for part in Text(text, style).wrap(self._screen, max(10, self._width)):
            part.rstrip()
            yield part

    def _sub(self, text: Text, inset: int) -> Text:
        return self._line(Text(" " * inset).append_text(text))

    def _line(self, left: Text, right: Text | None = None) -> Text:
        room = self._width - (right.cell_len + 2 if right else 0)
        left.truncate(max(1, room), overflow="ellipsis")
        left.no_wrap = True
        if right:
            left.append(" " * max(1, self._width - left.cell_len - right.cell_len)).append_text(right)
        return left


def _is_worth_a_line(attempt: AttemptReport) -> bool:
    facts = attempt.variant != "default" or attempt.status or attempt.wait_s
    return bool(facts or attempt.state != "succeeded" or attempt.repeated or attempt.inherited)


def _took(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else duration(ms / 1000)


def _first_and_last(attempts: list[AttemptReport], most: int) -> list[AttemptReport]:
    """Return attempts for which there is room: those that failed before the others, in their order."""
    if len(attempts) <= most:
        return attempts
    chosen = sorted(range(len(attempts)), key=lambda at: (attempts[at].state == "succeeded", at))[:most]
    return [attempts[at] for at in sorted(chosen)]
