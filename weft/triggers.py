"""The ids of runs that something else than a person starts.

Such an id follows from what starts the run: the same instant, request or step gives the same id, and a journal accepts
no id twice (rule A11).
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["schedule", "child", "webhook", "request"]
"""What starts runs besides people: `request` is a start over the API that names a key of its own."""

DIGITS: Final = 40
"""Of an id, hexadecimal: 160 bits, so that nobody who chooses keys finds two with one id."""


def trigger_run_id(kind: Kind, workflow: str, trigger: str, key: str) -> str:
    """Return the id of the run that a trigger starts; the same facts give the same id, other facts another one.

    Each fact is hashed behind its length: where one ends and the next begins is never a question.

    Args:
        kind: What starts it.
        workflow: The workflow's name; for a child run the id of its parent.
        trigger: Which schedule or webhook; for a child run the path of the step; for a request who asks.
        key: Which of its starts: an instant, the id of a message or a request, the number of an attempt.
    """
    digest = hashlib.sha256()
    for fact in (kind, workflow, trigger, key):
        content = fact.encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:DIGITS]
