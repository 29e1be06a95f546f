"""A run drawn on a terminal, again and again, until it has ended."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from weft.cli.terminal import Screen, Symbols, clean_line, duration, share_of, symbols, whole
from weft.cli.view import AttemptView, Fetch, RunView, StepView, completion_facts, how_to_answer, mail_facts, own_name
from weft.engine.events import Asked, Event

FRAMES_PER_S = 10
TEXT_LINES = 6
"""Lines of streamed text that one step shows."""

STYLES = {
    "pending": "dim",
    "running": "cyan",
    "waiting": "yellow",
    "succeeded": "green",
    "failed": "bold red",
    "skipped": "dim",
    "cancelled": "yellow",
}


class LiveDisplay:
    """Draws a run in place; what it has drawn last stays on the terminal."""

    def __init__(self, stream: TextIO, title: str, view: RunView | None = None) -> None:
        self.view = view or RunView()
        self.screen = Screen(stream)
        self.title = clean_line(title)
        self.marks = symbols(stream)
        self.note = ""
        self.closing: Sequence[str] = ()
        self.ended = False
        self._lock = threading.Lock()  # a thread of rich's draws while events come in
        self._live = Live(
            console=self.screen, get_renderable=lambda: self, refresh_per_second=FRAMES_PER_S, vertical_overflow="crop"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ended = True
        self._live.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self.view.apply(event)
        if not self._live.is_started:  # not before: a run that is refused has no picture
            self._live.start(refresh=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far something is fetched."""
        with self._lock:
            self.view.progress(what, done, total)

    def remark(self, text: str) -> None:
        """Show a line below the steps until the run ends."""
        self.note = text

    def settle(self, work: Callable[[RunView], None]) -> None:
        """Let something else than an event change what is shown."""
        with self._lock:
            work(self.view)

    def finish(self, sentences: Sequence[str]) -> None:
        """Show the last lines."""
        self.closing = sentences

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            frame = Frame(self.view, self.title, self.marks, console, options.max_width)
            height = None if self.ended else console.height - 1
            lines = frame.lines(height, note="" if self.ended else self.note, closing=self.closing)
        return iter(lines)


class Frame:
    """One picture of a run, as lines that fit the width."""

    def __init__(self, view: RunView, title: str, marks: Symbols, console: Console, width: int) -> None:
        self.view, self.title, self.marks, self.console, self.width = view, title, marks, console, width
        self.now = view.clock()
        self.steps = view.steps
        self._titles = Counter(step.title for step in self.steps)

    def lines(self, height: int | None, *, note: str, closing: Sequence[str]) -> list[Text]:
        """Return the picture; with a height, what does not fit is summed up above and below the steps at work."""
        head = [*self._header(), Text()]
        foot = [*([Text(), Text(note, "yellow")] if note else []), *self._closing(closing)]
        if self.view.fetch and not self._fetching_step():
            foot = [self._bar(self.view.fetch, 1), *foot]
        if height is None:
            blocks = [self._block(step) for step in self.steps]
        else:
            foot.append(Text())  # where the terminal echoes `^C`, instead of at the edge of a full line
            blocks = self._windowed(height - len(head) - len(foot))
        return [*head, *(line for block in blocks for line in block), *foot]

    def _header(self) -> Iterator[Text]:
        run = f"run {self.view.run_id}" if self.view.run_id else ""
        if cell_len(self.title) + len(run) + 2 > self.width:
            yield self._line(Text(self.title, "bold"))
            yield self._line(Text(run, "dim"))
        else:
            yield self._line(Text(self.title, "bold"), Text(run, "dim"))

    def _closing(self, sentences: Sequence[str]) -> Iterator[Text]:
        if not sentences:
            return
        yield Text()
        whole = f" {self.marks.dot} ".join(sentences)
        style = {"succeeded": "bold", "failed": "bold red"}.get(self.view.state, "bold yellow")
        for line in [whole] if len(whole) <= self.width else sentences:
            text = Text(line, overflow="fold")
            text.highlight_words([sentences[0]], style)
            text.highlight_regex(r"weft (?:.* )?outbox .*$", "cyan")
            yield text

    def _windowed(self, height: int) -> list[list[Text]]:
        """Keep what fits, with the steps at work in the middle; say how many are left out on each side."""
        steps = self.steps
        if len(steps) <= height:  # otherwise they do not fit, and most need not be drawn
            blocks = [self._block(step) for step in steps]
            if sum(map(len, blocks)) <= height:
                return blocks
        busy = next((n for n, step in enumerate(steps) if step.state in ("running", "waiting")), None)
        first = last = min(len([s for s in steps if s.ms is not None]) if busy is None else busy, len(steps) - 1)
        shown = deque([self._block(steps[first])])
        room = height - 2 - len(shown[0])
        while True:  # grow downwards first: what comes next matters more than what is done
            if last + 1 < len(steps) and len(block := self._block(steps[last + 1])) <= room:
                last += 1
                shown.append(block)
            elif first > 0 and len(block := self._block(steps[first - 1])) <= room:
                first -= 1
                shown.appendleft(block)
            else:
                break
            room -= len(block)
        above = [[self._more(first, "above")]] if first else []
        below = [[self._more(len(steps) - 1 - last, "below")]] if last + 1 < len(steps) else []
        return [*above, *shown, *below]

    def _more(self, count: int, where: str) -> Text:
        return self._line(Text(f" {self.marks.more} {count} more {where}", "dim"))

    def _block(self, step: StepView) -> list[Text]:
        inset = 3 + 2 * step.depth
        lines = [self._row(step)]
        lines += [self._sub(self._failed(attempt), inset) for attempt in step.failed_attempts]
        if step is self._fetching_step() and self.view.fetch:
            lines.append(self._bar(self.view.fetch, inset))
        elif facts := self._facts(step):
            lines.append(self._sub(Text(facts, "dim"), inset))
        if step.question is not None:
            lines += self._asks(step.question, inset)
        return [*lines, *self._text(step, inset)]

    def _asks(self, question: Asked, inset: int) -> Iterator[Text]:
        """Return what is asked, and the command that answers it, which is never cut."""
        how = how_to_answer(self.view.run_id, question.path, question.who)
        until = "" if question.deadline is None else f" (until {question.deadline.astimezone():%Y-%m-%d %H:%M:%S})"
        for words, style in ((clean_line(question.message) + until, "yellow"), (how, "cyan")):
            for part in Text(words, style).wrap(self.console, max(10, self.width - inset)):
                part.rstrip()
                yield Text(" " * inset) + part

    def _row(self, step: StepView) -> Text:
        mark = self.marks.running if step.state == "running" else getattr(self.marks, step.state)
        style = STYLES[step.state]
        left = Text.assemble(
            " " * (1 + 2 * step.depth),
            (mark[int(self.now * FRAMES_PER_S) % len(mark)], style),
            " ",
            (step.title, "dim" if step.state in ("pending", "skipped") else ""),
        )
        name = clean_line(own_name(step.path))
        is_told_by_title = not name.startswith("[") and self._titles[step.title] == 1
        elapsed = step.elapsed(self.now)
        took = "" if elapsed is None else duration(elapsed)
        right = Text.assemble((step.state, style if step.state != "succeeded" else "dim"), (f"{took:>9}", "dim"))
        if not is_told_by_title and left.cell_len + 2 + cell_len(name) + 2 + right.cell_len <= self.width:
            left.append(f"  {name}", "dim")
        return self._line(left, right)

    def _failed(self, attempt: AttemptView) -> Text:
        facts = [
            f"attempt {attempt.number}",
            "" if attempt.variant == "default" else attempt.variant,
            attempt.problem.code if attempt.problem else "",
            "" if attempt.ms is None else duration(attempt.ms / 1000),
        ]
        told = f" {self.marks.dot} ".join(clean_line(fact) for fact in facts if fact)
        return Text.assemble((self.marks.failed, "red"), " ", (told, "dim"))

    def _facts(self, step: StepView) -> str:
        """Say what a step is busy with, or what it has used."""
        if step.question is not None:
            return ""
        if step.state == "waiting":
            left = max(0.0, (step.wait_until or self.now) - self.now)
            return f"waiting {whole(left)} for a retry"
        attempt = step.attempt
        if attempt is None or step.state not in ("running", "succeeded"):
            return ""
        facts = ["" if attempt.variant == "default" else attempt.variant]
        if step.state == "running":
            facts += [f"attempt {attempt.number}"] if attempt.number > 1 else []
            facts += [f"~{step.pieces} tokens"] if step.pieces else [step.log or attempt.note]
        else:
            facts += [*completion_facts(step.output), *mail_facts(step.output)]
            facts += [f"{pace:.0f} tokens/s"] if (pace := step.pace()) else []
        return f" {self.marks.dot} ".join(clean_line(fact) for fact in facts if fact)

    def _text(self, step: StepView, inset: int) -> Iterator[Text]:
        """Return the last lines of the text being written, or the first lines of the one that was."""
        text = step.text().strip()
        if not text:
            return
        lines = list(Text(text, "dim").wrap(self.console, max(10, self.width - inset - 2), tab_size=4))
        hidden = len(lines) - TEXT_LINES
        if hidden > 0 and step.state == "succeeded":  # a line saying "1 more" would take the place of that line
            lines = [*lines[: TEXT_LINES - 1], Text(f"{self.marks.more} {hidden + 1} more lines", "dim")]
        for line in lines[-TEXT_LINES:]:
            line.rstrip()
            yield self._sub(Text.assemble((f"{self.marks.bar} ", "dim"), line), inset)

    def _fetching_step(self) -> StepView | None:
        waiting = (step for step in self.steps if step.state == "running" and not step.pieces)
        return next(waiting, None) if self.view.fetch else None

    def _bar(self, fetch: Fetch, inset: int) -> Text:
        share = min(1.0, fetch.done / fetch.total) if fetch.total else 0.0
        spent = self.now - fetch.began
        amount = share_of(fetch.done, fetch.total)
        left = whole(spent / share - spent) if share > 0.02 and spent > 0.5 else ""
        what = f"fetching {clean_line(fetch.what)} "
        told = f" {amount}" + (f" {self.marks.dot} {left} left" if left else "")
        cells = max(4, min(40, self.width - inset - len(what) - len(told)))
        full = round(cells * share)
        mark = "━" if self.marks.bar == "│" else "="
        bar = Text.assemble((what, "dim"), (mark * full, "cyan"), (mark * (cells - full), "dim"), (told, "dim"))
        return self._sub(bar, inset)

    def _sub(self, text: Text, inset: int) -> Text:
        return self._line(Text(" " * inset).append_text(text))

    def _line(self, left: Text, right: Text | None = None) -> Text:
        """Return one line: `left` cut where it must be, `right` at the right edge."""
        room = self.width - (right.cell_len + 2 if right else 0)
        left.truncate(max(1, room), overflow="ellipsis")
        left.no_wrap = True
        if right:
            left.append(" " * (self.width - left.cell_len - right.cell_len)).append_text(right)
        return left
