"""What keeps too many runs of one kind from going on at once: the `concurrency` of their document."""

from __future__ import annotations

from weft.engine.results import RunFacts
from weft.journal.base import Gate
from weft.outcome import encode, request_hash
from weft.plan import Plan, render


def gate_of(planned: Plan, facts: RunFacts) -> Gate | None:
    """Return the gate that a new run has to pass; runs of one workflow with the same key share it.

    Raises:
        ExpressionError: The key cannot be evaluated.
    """
    wanted = planned.workflow.concurrency
    if wanted is None:
        return None
    key = planned.concurrency_key
    text = "" if key is None else encode(render(key, facts.scope(planned.workflow.variables)))
    return Gate(request_hash("concurrency", planned.workflow.name, text), wanted.limit, wanted.policy)
