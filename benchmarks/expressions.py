"""Compare the speed of expressions with stock Jinja2 in one run: `python benchmarks/expressions.py`.

Both sides do the same work in turn, many short rounds each, and the medians of their CPU time are divided. The goals
are a ratio of at most 1.5 for single expressions, 3 for texts and 1 for compiling; the exit status is 1 when one is missed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from jinja2 import Environment, StrictUndefined

from weft.expressions.limits import Limits
from weft.expressions.template import _compile

ROUNDS = 41
ROUND_S = 0.004

SCOPE: dict[str, Any] = {
    "inputs": {"name": "Ada", "price": 12.5, "count": 3, "question": "Why are backups important? " * 20},
    "steps": {
        "answer": {
            "state": "ok",
            "output": {"choices": [{"message": {"role": "assistant", "content": "Because. " * 40}}]},
        },
        "rows": {"output": [{"id": i, "name": f"row {i}", "price": i * 1.5, "tags": ["a", "b"]} for i in range(50)]},
    },
    "run": {"id": "0192f", "started_at": "2026-11-22T08:00:00Z"},
}

SINGLE = {
    "name": "{{ inputs }}",
    "path": "{{ steps.answer.output.choices[0].message.content }}",
    "arithmetic": "{{ inputs.price * inputs.count + 1 }}",
    "condition": "{{ steps.answer.state == 'ok' and inputs.count > 2 }}",
    "filter": "{{ inputs.name | upper }}",
    "default": "{{ inputs.name | default('nobody') }}",
    "choice": "{{ 'many' if inputs.count > 1 else 'one' }}",
    "join": "{{ steps.rows.output | map(attribute='name') | join(', ') }}",
}
TEXTS = {
    "greeting": "Dear {{ inputs.name }},\n\n{{ steps.answer.output.choices[0].message.content }}\n\nRun {{ run.id }}\n",
    "branches": "{% if inputs.count > 1 %}{{ inputs.count }} items{% else %}one item{% endif %} for {{ inputs.name }}",
    "table": "{% for row in steps.rows.output %}{{ row.id }}: {{ row.name }} {{ row.price * 2 }}\n{% endfor %}",
    "nested": "{% for row in steps.rows.output if row.id > 9 %}{{ loop.index }}{% for tag in row.tags %}{{ tag }}"
    "{% if not loop.last %}, {% endif %}{% endfor %}\n{% endfor %}",
    "filters": "{{ inputs.name | upper }} {{ inputs.question | length }} {{ inputs.question | replace('a', 'b') }}",
}


def stock_value(source: str) -> Callable[[], Any]:
    """Return stock Jinja2's way to a single value."""
    body = source.strip().removeprefix("{{").removesuffix("}}")
    expression = Environment(undefined=StrictUndefined).compile_expression(body, undefined_to_none=False)
    return lambda: expression(SCOPE)


def stock_text(source: str) -> Callable[[], Any]:
    """Return stock Jinja2's way to a text."""
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(source)
    return lambda: template.render(SCOPE)


def ours(source: str) -> Callable[[], Any]:
    """Return our way to either."""
    template = _compile(source, None, Limits())
    return lambda: template.render(SCOPE)


def both_compile(source: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return our way from text to template, nothing remembered, and stock Jinja2's."""
    environment = Environment(undefined=StrictUndefined)
    return partial(_compile, source, None, Limits()), partial(environment.from_string, source)


def _round(work: Callable[[], Any], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def ratio(mine: Callable[[], Any], other: Callable[[], Any]) -> tuple[float, float, float]:
    """Return our time and the other's, in microseconds, and their ratio."""
    times = max(1, int(ROUND_S / max(_round(other, 3), 1e-7)))
    rounds = [(_round(mine, times), _round(other, times)) for _ in range(ROUNDS)]
    one, two = (median(column) * 1e6 for column in zip(*rounds, strict=True))
    return one, two, one / two


def report(title: str, goal: float, cases: dict[str, tuple[Callable[[], Any], Callable[[], Any]]]) -> bool:
    """Print a table of ratios and tell whether all reach the goal."""
    print(f"\n{title} (goal: at most {goal:g})\n{'':12}{'weft µs':>10}{'jinja2 µs':>12}{'ratio':>8}")
    reached = True
    for name, (mine, other) in cases.items():
        one, two, quotient = ratio(mine, other)
        reached &= quotient <= goal
        print(f"{name:12}{one:10.1f}{two:12.1f}{quotient:8.2f}{'' if quotient <= goal else '  missed'}")
    return reached


def main() -> int:
    """Run all comparisons."""
    singles = {name: (ours(text), stock_value(text)) for name, text in SINGLE.items()}
    texts = {name: (ours(text), stock_text(text)) for name, text in TEXTS.items()}
    compiles = {name: both_compile(text) for name, text in {**SINGLE, **TEXTS}.items()}
    results = [
        report("render a single expression", 1.5, singles),
        report("render a text", 3, texts),
        report("compile, nothing remembered", 1, compiles),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
