"""A workflow checked against the registry, ready to run.

    compile(workflow, source, registry) ──▶ Plan ──▶ engine

`compile` finds every fault that can be known before a run and tells them all at once; what is left for a run
to fail on is the world. The modules, lowest first: `model` (what a plan is), `hooks` (what actions say of their own
arguments), `references` (which names an expression may use where), `signing` (which connections can prove who has
sent a request), `compiler` (the checks).
"""

from weft.plan.compiler import ConnectionFacts, ConnectionsKnown, Document, Documents, compile, variable  # noqa: A004 (as in `re`)
from weft.plan.model import CHILD, Located, Plan, PlannedStep, Selection, Value, ancestors, render, templates

__all__ = [
    "CHILD",
    "ConnectionFacts",
    "ConnectionsKnown",
    "Document",
    "Documents",
    "Located",
    "Plan",
    "PlannedStep",
    "Selection",
    "Value",
    "ancestors",
    "compile",
    "render",
    "templates",
    "variable",
]
