"""Dollar signs that authors bring from GitHub Actions and shells, and that stay in the text here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from jinja2 import nodes

from weft.errors import Problem, Where
from weft.expressions.syntax import Origin

_REFERENCE: Final = re.compile(
    r"\$\{\s*((?:inputs|steps|run|trigger|variables|item|index|env|secrets)(?:\.[A-Za-z_][\w-]*|\[[^\][{}]*\])+)\s*\}"
)
_CURRENCY: Final = re.compile(r"(?:^|[^A-Za-z0-9])(?:[A-Z]{1,3})\$$")
_AMOUNT: Final = re.compile(r"\|\s*(?:abs|float|int|round|sum)\b|[*/]")
_ELSEWHERE: Final = {
    "env": "Expressions do not see the environment; declare an input.",
    "secrets": "Expressions do not see secrets; they belong to a connection.",
}


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A text that probably means an expression, or another one than it is."""

    problem: Problem  #: a warning, its place relative to the text
    offset: int  #: of the `$` in the text, in characters


def suspicious(text: str) -> Suspicion | None:
    """Return the first `${inputs.name}` in a text: it looks like an expression and stays as it is."""
    found = _REFERENCE.search(text)
    return None if found is None else _reference(Origin(text), found, found.start())


def suspicions(origin: Origin, tree: nodes.Template) -> Iterator[Suspicion]:
    """Yield what is suspicious in the texts around expressions.

    What stands in `{% raw %}` is meant as it is, and so is `$` before an amount or after letters: `US${{ … }}`.
    """
    if "$" not in origin.text:
        return
    for part in tree.find_all(nodes.TemplateData):
        end = part.lineno + len(part.data)
        if "endraw" not in origin.text:
            for found in _REFERENCE.finditer(part.data):
                yield _reference(origin, found, part.lineno + found.start())
        if part.data.endswith("$") and origin.text.startswith("{{", end) and not _CURRENCY.search(part.data):
            expression = origin.text[end : origin.text.find("}}", end) + 2]
            if not _AMOUNT.search(expression):
                yield _before_braces(origin, expression, end - 1)


def _before_braces(origin: Origin, expression: str, offset: int) -> Suspicion:
    shown = " ".join(expression.split()) if len(expression) <= 60 else "{{ … }}"
    remedy = f"Write `{shown}`; where a dollar sign is meant, write `{{{{ '$' }}}}` for it."
    return _suspicion(origin, f"The `$` before `{shown}` stays in the text.", remedy, offset)


def _reference(origin: Origin, found: re.Match[str], offset: int) -> Suspicion:
    shown = found[0] if len(found[0]) <= 60 else f"{found[0][:59]}…"
    remedy = _ELSEWHERE.get(re.split(r"\W", found[1])[0]) or f"Write `{{{{ {found[1]} }}}}`."
    message = f"`{shown}` is text and stays as it is: expressions stand between `{{{{` and `}}}}`."
    return _suspicion(
        origin, message, f"{remedy} Where the text is meant, put it into `{{% raw %}}…{{% endraw %}}`.", offset
    )


def _suspicion(origin: Origin, message: str, remedy: str, offset: int) -> Suspicion:
    where: Where = origin.where(offset)
    return Suspicion(Problem("expression_dollar", message, remedy, where, "warning"), offset)
