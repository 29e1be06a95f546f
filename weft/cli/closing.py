"""The last lines of a run: what became of its steps, and where the mail is."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from weft.cli.terminal import clean_line, duration
from weft.cli.view import RunView, StepView, answer, is_mail, mail_facts, name_of, object_at
from weft.engine.events import StepState

LONGEST = 200
"""Characters of an output that are shown; `--json` has all of it."""

ORDER: tuple[StepState, ...] = ("succeeded", "failed", "cancelled", "skipped", "waiting", "running", "pending")

_WITHIN = re.compile(r"/(?!(?:@\d+/)?@[a-z])|\[")
"""Where the path of a step has that of one that it is a part of; what is done beside one, `/ask/@notify/tell`, is no part."""


def summary(view: RunView) -> str:
    """Say how the run ended: `2 steps succeeded in 6.1 s`."""
    counts = Counter(step.state for step in _leaves(view.steps))
    states = [state for state in ORDER if counts[state]]
    parts = [f"{counts[state]}{_noun(counts[state]) if state == states[0] else ''} {_word(state)}" for state in states]
    told = ", ".join(parts)
    took = duration((view.ms or 0) / 1000)
    match view.state:
        case "cancelled":
            return f"Cancelled after {took}" + (f": {told}" if told else "")
        case "parked":
            return (
                f"Parked after {took}" + (f": {told}" if told else "") + f". Try again: weft runs resume {view.run_id}"
            )
        case "failed" if not counts["failed"]:
            return f"Failed after {took}" + (f": {told}" if told else "")
        case _:
            return f"{told or 'No steps'} in {took}"


def outputs(view: RunView) -> Iterator[str]:
    """Say what the run returned, but for what its steps show already: answers, and the ids of mails."""
    told = [text for step in view.steps for text in (answer(step.output), object_at(step.output).get("message_id"))]
    for name, value in object_at(view.outputs).items():
        if value not in told:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            line = clean_line(text)
            yield f"output {clean_line(name)}: {line if len(line) <= LONGEST else line[: LONGEST - 1] + '…'}"


def mails(
    view: RunView, connections: Mapping[str, str | None], number_of: Callable[[str], int | None], command: str
) -> Iterator[str]:
    """Say where the mails are that the run itself sent.

    Args:
        view: The run.
        connections: Name of a step → the connection that it uses.
        number_of: The outbox's answer to a mail → the mail's number there, None when it is gone.
        command: How the reader calls this program's outbox: `weft outbox`.
    """
    kept: list[int | None] = []
    for step in view.steps:
        if step.inherited or not is_mail(step.output):
            continue
        connection = connections.get(name_of(step.path))
        if connection == "outbox":
            kept.append(number_of(str(object_at(step.output).get("server_reply"))))
        else:
            through = f" through {connection}" if connection else ""
            yield f"Mail sent {', '.join(mail_facts(step.output))}{through}"
    if len(kept) == 1:
        yield f"Mail kept in the outbox: {command} show{'' if kept[0] is None else f' {kept[0]}'}"
    elif kept:
        yield f"{len(kept)} mails kept in the outbox: {command} list"


def _leaves(steps: list[StepView]) -> Iterator[StepView]:
    """Yield the steps that nothing else is part of."""
    outer = {step.path[: found.start()] for step in steps for found in _WITHIN.finditer(step.path)}
    return (step for step in steps if step.path not in outer)


def _noun(count: int) -> str:
    return " step" if count == 1 else " steps"


def _word(state: str) -> str:
    return "not started" if state == "pending" else state
