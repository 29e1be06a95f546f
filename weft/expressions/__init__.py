"""Expressions in documents: Jinja's syntax, bounded and typed.

    compile("Dear {{ inputs.name }}") ──▶ Template ──render(scope)──▶ text
    compile("{{ steps.rows.output }}") ─▶ Template ──render(scope)──▶ the value, with its type

Values in scope are JSON and are data: they are never read as templates. `docs/expressions.md` lists all that an
expression may use; the modules, lowest first: `limits`, `values`, `operators`, `predicates`, `methods`, `instants`,
`sequences`, `filters`, `mistakes`, `syntax`, `names`, `evaluator`, `statements`, `dollars`, `template`.
"""

from weft.expressions.dollars import Suspicion, suspicious
from weft.expressions.limits import Limits
from weft.expressions.names import Reference
from weft.expressions.template import Template, compile, compile_condition, has_expression  # noqa: A004 (as in `re`)

__all__ = [
    "REVISION",
    "Limits",
    "Reference",
    "Suspicion",
    "Template",
    "compile",
    "compile_condition",
    "has_expression",
    "suspicious",
]

REVISION = 1
"""Raised when an expression comes to another value than before: a run goes on only with the revision that it began with."""
