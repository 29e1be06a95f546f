"""A run told in plain lines, one for each event of interest: for pipes, logs and screen readers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TextIO

from weft.cli.terminal import clean_line, duration, size
from weft.cli.view import RunView, completion_facts, how_to_answer, mail_facts
from weft.engine.events import (
    Asked,
    AttemptEnded,
    AttemptStarted,
    Event,
    Logged,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
)
from weft.errors import Problem


class PlainLines:
    """Writes lines whose first words stay the same from release to release.

    A reader that goes away (`| head`) does not stop the run: the rest is written to nobody.
    """

    def __init__(self, stream: TextIO, title: str, view: RunView | None = None) -> None:
        self.view = view or RunView()
        self.title = title
        self._stream: TextIO | None = stream
        self._begun: dict[str, int] = {}  #: path → the attempt that was told to have started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    def __call__(self, event: Event) -> None:
        self.view.apply(event)
        if line := self._told(event):
            self._write(line)

    def progress(self, what: str, done: int, total: int) -> None:
        """Say once that something is being fetched, and once that it is there."""
        before = self.view.fetch
        self.view.progress(what, done, total)
        if self.view.fetch is not None and self.view.fetch is not before:
            self._write(f"fetching {what}: {size(total)}")
        elif before is not None and self.view.fetch is None:
            self._write(f"fetched {what} in {duration(self.view.clock() - before.began)}")

    def remark(self, text: str) -> None:
        """Write a line that no event tells."""
        self._write(text)

    def settle(self, work: Callable[[RunView], None]) -> None:
        """Let something else than an event change what is shown."""
        work(self.view)

    def finish(self, sentences: Sequence[str]) -> None:
        """Write the last lines."""
        for sentence in sentences:
            self._write(sentence)

    def _told(self, event: Event) -> str | None:
        match event:
            case RunStarted():
                return f"run {event.run_id} started: {self.title}"
            case StepStarted():
                uses = self.view.step(event.path).uses
                return f"step {event.path} started" + (f": {uses}" if uses else "")
            case AttemptStarted(note=""):
                begun = self._begun.get(event.path)
                self._begun[event.path] = event.attempt
                return (
                    None
                    if begun == event.attempt
                    else f"step {event.path} attempt {event.attempt}{_of(event.variant)} started"
                )
            case AttemptStarted():
                return f"step {event.path} attempt {event.attempt}{_of(event.variant)}: {event.note}"
            case AttemptEnded(problem=Problem() as problem):  # a good end is told by the step's
                again = f"; again in {duration(event.wait_s)}" if event.wait_s else ""
                what = f"{problem.code}: {problem.message}"
                return f"step {event.path} attempt {event.attempt}{_of(event.variant)} failed: {what}{again}"
            case Asked():
                how = how_to_answer(self.view.run_id, event.path, event.who)
                return f"step {event.path} waits for an answer: {event.message} {how}"
            case StepEnded():
                facts = ", ".join([*completion_facts(event.output), *mail_facts(event.output)])
                return f"step {event.path} {event.state} in {duration(event.ms / 1000)}" + (
                    f": {facts}" if facts else ""
                )
            case Logged():
                return f"step {event.path} says: {event.message}"
            case RunEnded():
                return f"run {event.run_id} {event.state} in {duration(event.ms / 1000)}"
            case _:
                return None

    def _write(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(f"{clean_line(line)}\n")
            self._stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._stream = None


class Silence(PlainLines):
    """Takes in the events and says nothing; for `--quiet`."""

    def _write(self, line: str) -> None:
        return None


def _of(variant: str) -> str:
    return "" if variant == "default" else f" of {variant}"
