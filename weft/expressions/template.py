"""Templates: what `compile` makes of a text, and how it is rendered."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

from jinja2 import nodes

from weft.expressions import values
from weft.expressions.dollars import Suspicion, suspicions
from weft.expressions.evaluator import Evaluate, Evaluator
from weft.expressions.filters import escaped
from weft.expressions.limits import MISHAPS, Account, Fault, Limits, mishap
from weft.expressions.names import Reference
from weft.expressions.statements import Statements
from weft.expressions.syntax import Origin, parse, start
from weft.types import Json, Scope

Escape = Literal["html"] | None

_DEFAULT_LIMITS: Final = Limits()
_LONGEST_REMEMBERED = 8_192
"""Characters; longer templates are compiled each time, so that the memory of the cache stays small."""

_MARK = re.compile(r"\{[{%#]")


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A text with expressions, checked and ready; it can be rendered many times and by several threads at once."""

    text: str
    native: bool  #: exactly one `{{ … }}`: the rendered value keeps its type, otherwise it is text
    references: tuple[Reference, ...]
    warnings: tuple[Suspicion, ...]  #: of what is probably not meant
    _origin: Origin = field(repr=False)
    _limits: Limits = field(repr=False)
    _escape: Escape = field(repr=False)
    _run: Evaluate = field(repr=False)
    _start: int = field(repr=False)
    _condition: bool = field(repr=False, default=False)

    def render(self, scope: Scope) -> Json:
        """Evaluate the template against the names in `scope`.

        The result is a copy, JSON through and through, and nothing in it is ever read as a template again.

        Raises:
            ExpressionError: Something in it cannot be evaluated; `.offset` is the character of `text` at fault.
            ExpressionLimit: It would do too much, or grow too large.
        """
        account = Account(self._limits, dict(scope))
        try:
            result = self._run(account)
            if not self.native:
                return "".join(account.chunks)
            if self._condition:
                return _decided(result)
            if self._escape == "html" and type(result) is str:
                result = account.made_text(escaped(result))
            return values.copy(account, result)
        except Fault as fault:
            raise self._origin.error(fault, self._start) from None
        except MISHAPS as error:
            raise self._origin.error(mishap(error), self._start) from None


def _decided(value: object) -> bool:
    if value is None or value is True or value is False:
        return bool(value)
    comparison = {str: "… == 'yes'", int: "… > 0", float: "… > 0"}.get(type(value), "… | length > 0")
    raise Fault(
        f"a condition gives true or false, not {values.kind(value)}",
        f"Compare it with something: `{comparison}`.",
        code="expression_condition",
    )


def has_expression(text: str) -> bool:
    """Tell whether `text` holds an expression, a statement or a comment, so that it must be compiled."""
    return _MARK.search(text) is not None


def compile(text: str, *, escape: Escape = None, limits: Limits = _DEFAULT_LIMITS) -> Template:  # noqa: A001 (as in `re`)
    """Check a template and make it ready to render.

    Args:
        text: From a document, never from a run: what a run gives is data.
        escape: `html` escapes what expressions print; what the author wrote around them stays.
        limits: Bounds, where lower ones than the usual are wanted.

    Raises:
        ExpressionError: It cannot be read or uses what is not available; `.offset` is the character at fault.
        ExpressionLimit: It is too long, too large or nested too deeply.
    """
    if len(text) > _LONGEST_REMEMBERED:
        return _compile(text, escape, limits)
    return _remembered(text, escape, limits)


def compile_condition(text: str, *, limits: Limits = _DEFAULT_LIMITS) -> Template:
    """Check a condition: one expression, with or without `{{ }}`, that gives true or false (null is false).

    Raises:
        ExpressionError: It is not one expression; rendering raises it when the result is neither true nor false.
    """
    if len(text) > _LONGEST_REMEMBERED:
        return _compile_condition(text, limits)
    return _remembered_condition(text, limits)


def _compile(text: str, escape: Escape, limits: Limits) -> Template:
    origin = Origin(text)
    tree = parse(origin, limits)
    return _build(origin, limits, escape, tree, _only_expression(tree))


def _compile_condition(text: str, limits: Limits) -> Template:
    origin = Origin(text)
    bare = not has_expression(text)
    tree = parse(origin, limits, bare=bare)
    expression = _only_expression(tree)
    if expression is None:
        dollar = next(suspicions(origin, tree), None)
        fault = Fault(
            "a condition is one expression, not a text with expressions in it",
            "Write it without `$`." if dollar else "Write it as one: `{{ a and b }}`, or without the braces.",
            code="expression_condition",
        )
        raise origin.error(fault, dollar.offset if dollar else 0)
    return _build(origin, limits, None, tree, expression, condition=True)


_remembered = lru_cache(maxsize=512)(_compile)
_remembered_condition = lru_cache(maxsize=512)(_compile_condition)


def _only_expression(tree: nodes.Template) -> nodes.Expr | None:
    """Return the expression of a template that is exactly one `{{ … }}`, white space around it left aside."""
    if len(tree.body) != 1 or not isinstance(tree.body[0], nodes.Output):
        return None
    parts = [part for part in tree.body[0].nodes if not (isinstance(part, nodes.TemplateData) and part.data.isspace())]
    return parts[0] if len(parts) == 1 and not isinstance(parts[0], nodes.TemplateData) else None


def _unescaped(expression: nodes.Expr) -> nodes.Expr:
    """Return what a last `| escape` is applied to, since the value is escaped anyway when it leaves."""
    if isinstance(expression, nodes.Filter) and expression.name in ("e", "escape") and expression.node is not None:
        return expression.node
    return expression


def _build(
    origin: Origin,
    limits: Limits,
    escape: Escape,
    tree: nodes.Template,
    expression: nodes.Expr | None,
    *,
    condition: bool = False,
) -> Template:
    evaluator = Evaluator(origin, limits)
    try:
        if expression is not None:
            run = evaluator.expression(_unescaped(expression) if escape else expression)
        else:
            run = Statements(evaluator, escape=escape is not None).body(tree.body)
    except RecursionError as error:
        raise origin.error(mishap(error), 0) from None
    return Template(
        text=origin.text,
        native=expression is not None,
        references=evaluator.names.references,
        warnings=tuple(suspicions(origin, tree)),
        _origin=origin,
        _limits=limits,
        _escape=escape,
        _run=run,
        _start=start(expression) if expression is not None else 0,
        _condition=condition,
    )
