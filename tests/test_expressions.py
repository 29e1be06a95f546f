"""Expressions: what they give, what they refuse, and what their errors say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, StrictUndefined

from weft import expressions
from weft.errors import ExpressionError, ExpressionLimit
from weft.expressions import Limits, Reference
from weft.expressions.evaluator import LOOP_NAMES
from weft.expressions.instants import _DIRECTIVES
from weft.expressions.methods import METHODS
from weft.expressions.predicates import PREDICATES
from weft.expressions.sequences import FILTERS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "expressions.md"

SCOPE: dict[str, Any] = {
    "inputs": {
        "name": "Ada",
        "count": 3,
        "price": 12.5,
        "flag": True,
        "nothing": None,
        "list": [3, 1, 2],
        "text": "a,b,c",
    },
    "steps": {
        "answer": {
            "state": "succeeded",
            "output": {"choices": [{"message": {"role": "assistant", "content": "Because."}}], "usage": {"total": 12}},
        },
        "my-step": {"output": {"items": [1, 2], "get": "key", "rows": [{"id": 2, "n": "b"}, {"id": 1, "n": "a"}]}},
    },
    "run": {"id": "r1", "started_at": "2026-11-22T07:05:09Z"},
}


def render(text: str, scope: dict[str, Any] | None = None, **options: Any) -> Any:
    return expressions.compile(text, **options).render(SCOPE if scope is None else scope)


def failure(text: str, scope: dict[str, Any] | None = None, **options: Any) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        render(text, scope, **options)
    return caught.value


# Values and text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ inputs.list }}", [3, 1, 2]),
        ("  {{ inputs.count }}\n", 3),
        ("{{ inputs.nothing }}", None),
        ("{{ inputs.flag }}", True),
        ("{# why #}{{ inputs.price }}", 12.5),
        ("{{ steps.answer.output.usage }}", {"total": 12}),
        ("{{ 'a' }}{{ 'b' }}", "ab"),
        ("{{ inputs.list }}.", "[3, 1, 2]."),
        ("[{{ inputs.nothing }}]", "[]"),
        ("{{ inputs.flag }}!", "true!"),
        ("{{ inputs.price }} {{ 2.0 }} {{ 1e22 }}", "12.5 2.0 1e+22"),
        ("{{ {'a': none, 'ü': [true]} }} ", {"a": None, "ü": [True]}),
        ("x {{ {'a': none, 'ü': [true]} }}", 'x {"a": null, "ü": [true]}'),
        ("{% if true %}{{ inputs.count }}{% endif %}", "3"),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("no expression", "no expression"),
        ("", ""),
        ("{{ 1, 2 }}", [1, 2]),
        ("{{ steps['my-step'].output.items }}", [1, 2]),
        ("{{ steps['my-step'].output.get }}", "key"),
        ("{{ steps['my-step'].output.items() | length }}", 3),
        ("{{ steps['my-step'].output.get('rows')[0].n }}", "b"),
        ("{{ inputs.list[-1] }}{{ inputs.list[0:2] }}", "2[3, 1]"),
        ("{{ inputs.list[inputs.count - 1] }}", 2),
        ("{{ inputs['na' ~ 'me'] }}", "Ada"),
        ("{{ 'a\\d\\n\\x41\\u00fc\\'' }}", "a\\d\nAü'"),
        ("{% for k, v in {'a': 1} | items %}{{ k }}={{ v }}{% endfor %}", "a=1"),
        ("{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}", "12 13 1"),
        ("{% for i in [1] %}{% set y = i %}{% endfor %}{{ y | default('gone') }}", "gone"),
        ("{% for i in [1, 2] if i > 1 %}{{ loop.index }}/{{ loop.length }}:{{ i }}{% endfor %}", "1/1:2"),
        ("{% for i in [1] %}{% endfor %}{{ i | default('gone') }}", "gone"),
        ("{% set i = 9 %}{% for i, j in [[1, 2]] %}{{ i }}{% endfor %}{{ i }}", "19"),
        ("{{ true is number or true is integer or 1 is boolean or 1 is true }}", False),
        ("{% for i in [] %}x{% else %}none{% endfor %}", "none"),
        ("{% for i in [1, 2] %}{{ loop.previtem | default('-') }}{% endfor %}", "-1"),
        (
            "{% for a in [1, 2] %}{% for b in [3] %}{{ loop.first }}{% endfor %}{{ loop.index }}{% endfor %}",
            "true1true2",
        ),
        ("{{ [] | first | default('empty') }}", "empty"),
        ("{{ inputs.a.b.c | default('far') }}", "far"),
        ("{{ inputs.nothing | default('x') }}", None),
        ("{{ inputs.nothing | default('x', true) }}", "x"),
        ("{{ inputs.a is defined or inputs.nothing is none }}", True),
        ("{{ 1 == 1.0 and [1] == [1.0] and 'a' != 1 }}", True),
        ("{{ 1 < 2 < 3 and not 1 < 3 < 2 }}", True),
        ("{{ '1' ~ 2 ~ none ~ true ~ [1] }}", "12true[1]"),
    ],
)
def test_renders(text: str, value: Any) -> None:
    """A lone expression keeps its type; anything else is text, where null is empty and lists are JSON."""
    rendered = render(text)

    assert json.dumps(rendered) == json.dumps(value)


def test_the_value_is_a_copy() -> None:
    """What leaves shares no list and no object with the scope."""
    scope = {"x": {"y": [1]}}
    rendered = render("{{ x }}", scope)
    rendered["y"].append(2)

    assert scope == {"x": {"y": [1]}}


def test_rendering_changes_nothing_in_the_scope() -> None:
    """Names that a template sets are gone when it ends."""
    scope = {"x": 1}
    render("{% set x = 2 %}{% set y = 3 %}{{ x }}", scope)

    assert scope == {"x": 1}


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends_of_the_author_stay(line_end: str) -> None:
    """Line ends are kept as they were written, and errors still find their line and column."""
    assert render(f"a{line_end}{{{{ 1 }}}}{line_end}") == f"a{line_end}1{line_end}"

    error = failure(f"ä{line_end}b {{{{ nope }}}}")

    assert error.offset == len(f"ä{line_end}b {{{{ ")


def test_html_is_escaped_where_it_enters() -> None:
    """With `escape`, what expressions print is escaped once, and what the author wrote around them is not."""
    scope = {"x": "<b>&\"'", "n": 1, "l": ["<i>"]}

    assert render("<p>{{ x }}</p>", scope, escape="html") == "<p>&lt;b&gt;&amp;&quot;&#x27;</p>"
    assert render("<p>{{ x | e }}</p>", scope, escape="html") == "<p>&lt;b&gt;&amp;&quot;&#x27;</p>"
    assert render("{{ x }}", scope, escape="html") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert render("{{ x | escape }}", scope, escape="html") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert render("{{ n }}", scope, escape="html") == 1
    assert render("{{ l }} {{ '<' ~ x[:1] }}", scope, escape="html") == "[&quot;&lt;i&gt;&quot;] &lt;&lt;"
    assert render("{% set y = x | e %}{{ y }}", {"x": "<"}, escape="html") == "&amp;lt;"
    assert render("{{ x }}", scope) == scope["x"]


@pytest.mark.parametrize(
    ("text", "there"),
    [("a", False), ("{a}", False), ("}}", False), ("{{ a", True), ("{% if %}", True), ("a {# b #}", True), ("", False)],
)
def test_has_expression(text: str, there: bool) -> None:
    """A text has an expression when it has an opening brace pair."""
    assert expressions.has_expression(text) is there


# Conditions


@pytest.mark.parametrize("braces", ["{}", "{{{{ {} }}}}", "  {{{{ {} }}}}\n"])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.count > 2", True),
        ("inputs.name == 'Bob'", False),
        ("inputs.nothing", False),
        ("inputs.flag and steps.answer.state == 'succeeded'", True),
        ("inputs.missing is defined", False),
        ("'}}' in inputs.name", False),
    ],
)
def test_conditions(braces: str, text: str, value: bool) -> None:
    """A condition is one expression, with or without its braces, that gives true or false."""
    assert expressions.compile_condition(braces.format(text)).render(SCOPE) is value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("inputs.name", "not text"),
        ("inputs.count", "not a whole number"),
        ("inputs.list", "not a list"),
        ("steps", "not an object"),
        ("{{ inputs.price }}", "not a number"),
    ],
)
def test_a_condition_is_a_boolean(text: str, said: str) -> None:
    """A condition that gives something else says what it gave and how to compare it."""
    with pytest.raises(ExpressionError, match=said) as caught:
        expressions.compile_condition(text).render(SCOPE)

    assert caught.value.problem.code == "expression_condition"
    assert "Compare" in (caught.value.problem.remedy or "")


@pytest.mark.parametrize(
    "text", ["{{ a }} and {{ b }}", "x {{ a }}", "{% if a %}{% endif %}", "a b", "", "a and", "a }}"]
)
def test_a_condition_is_one_expression(text: str) -> None:
    """A text with expressions in it, or none at all, is no condition."""
    with pytest.raises(ExpressionError):
        expressions.compile_condition(text)


# References


def paths(text: str) -> list[tuple[Any, ...]]:
    return [(found.path, found.offset, found.optional) for found in expressions.compile(text).references]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "{{ steps.answer.output.choices[0].message.content }}",
            [(("steps", "answer", "output", "choices", 0, "message", "content"), 3, False)],
        ),
        ("{{ steps['my-step'].output }}", [(("steps", "my-step", "output"), 3, False)]),
        ("{{ inputs.a | default(inputs.b) }}", [(("inputs", "a"), 3, True), (("inputs", "b"), 22, False)]),
        ("{{ inputs.a is defined }}", [(("inputs", "a"), 3, True)]),
        (
            "{% if inputs.a is defined %}{{ inputs.a.b }}{% endif %}{{ inputs.c }}",
            [(("inputs", "a"), 6, True), (("inputs", "a", "b"), 31, True), (("inputs", "c"), 58, False)],
        ),
        ("{{ inputs[run.id].x }}", [(("inputs",), 3, False), (("run", "id"), 10, False)]),
        ("{{ inputs.name.upper() }}", [(("inputs", "name"), 3, False)]),
        (
            "{% for i in inputs.l %}{{ i.x }}{{ loop.index }}{{ run }}{% endfor %}{{ i.y }}",
            [(("inputs", "l"), 12, False), (("run",), 51, False), (("i", "y"), 72, False)],
        ),
        ("{% set a = inputs.x %}{{ a.b }}", [(("inputs", "x"), 11, False)]),
        ("{{ a }}{% set a = 1 %}{{ a }}", [(("a",), 3, False)]),
        ("{{ inputs.x[-1] }}", [(("inputs", "x", -1), 3, False)]),
        ("{{ inputs.x[1:2] }}", [(("inputs", "x"), 3, False)]),
        ("{{ (inputs.l | first).x }}", [(("inputs", "l"), 4, False)]),
        ("{{ inputs.l | first | default(1) }}", [(("inputs", "l"), 3, True)]),
        ("{{ range(3) }}", []),
    ],
)
def test_references(text: str, found: list[Any]) -> None:
    """Every name read from the scope is known beforehand, with its constant keys and its place."""
    assert paths(text) == found


def test_a_hyphen_needs_brackets() -> None:
    """A step's id with `-`, written after a dot, is explained before a run and in it."""
    first, second = expressions.compile("{{ steps.my-step.output }}").references

    assert first == Reference(("steps", "my"), 3, hint="steps['my-step']")
    assert second.path == ("step", "output")
    error = failure("{{ steps.my-step.output }}")
    assert "['my-step']" in (error.problem.remedy or "")
    assert "bracket" in (failure("{{ inputs.count-step.output }}").problem.remedy or "")
    assert expressions.compile("{{ steps['my-step'].output }}").references[0].hint is None


# Errors


@pytest.mark.parametrize(
    ("text", "code", "at", "said"),
    [
        ("{{ inputs.nmae }}", "expression_missing", "nmae", "Did you mean 'name'?"),
        ("{{ input.name }}", "expression_missing", "input", "Did you mean 'inputs'?"),
        ("{{ steps.answer.output.choices[3] }}", "expression_missing", "3", "1 items"),
        ("{{ steps.answer.output.choices.message }}", "expression_missing", "message", "is a list"),
        ("{{ inputs.nothing.x }}", "expression_missing", "x }}", "is null"),
        ("{{ inputs.name.upper }}", "expression_missing", "upper", "upper()"),
        ("{{ inputs.text | split(',') }}", "expression_name", "split", "no filter"),
        ("{{ inputs.name | uper }}", "expression_name", "uper", "'upper'"),
        ("{{ inputs.name is strng }}", "expression_name", "strng", "'string'"),
        ("{{ inputs.list | map('uper') }}", "expression_name", "map", "'upper'"),
        ("{{ inputs.list | select('ood') }}", "expression_name", "select", "'odd'"),
        ("{{ inputs.list | map(inputs.name) }}", "expression_name", "map", "in quotes"),
        ("{{ inputs.name.uper() }}", "expression_not_allowed", "uper", "'upper'"),
        ("{{ inputs.text.replace('a', 'b') }}", "expression_not_allowed", "replace(", "filter"),
        ("{{ inputs.name | replace('a') }}", "expression_arguments", "replace", "old, new, count"),
        ("{{ inputs.name | upper(x=1) }}", "expression_arguments", "upper", "none"),
        ("{{ inputs.name.split(1, 2, 3) }}", "expression_arguments", "split", "sep, maxsplit"),
        ("{{ now() }}", "expression_not_allowed", "now", "only `range"),
        ("{{ inputs.count + inputs.name }}", "expression_type", "inputs.count", "`~`"),
        ("{{ inputs.name - 1 }}", "expression_type", "inputs.name", "| int"),
        ("{{ inputs.name < 1 }}", "expression_type", "inputs.name", "cannot order"),
        ("{{ 'a%s' % 1 }}", "expression_type", "'a%s'", "`~`"),
        ("{{ 1 / 0 }}", "expression_value", "1 / 0", "divides by zero"),
        ("{{ inputs.list | join | fromjson | first }}", "expression_type", "first", "needs a list"),
        ("{{ ['a', 1] | sort }}", "expression_type", "sort", "cannot order"),
        ("{{ [[1], [2]] | sort }}", "expression_type", "sort", "cannot order"),
        ("{{ [{}] | unique }}", "expression_type", "unique", "attribute"),
        ("{{ ['a'] | sum }}", "expression_type", "sum", "numbers"),
        ("{{ 'x' | int }}", "expression_value", "int", "default="),
        ('{{ \'{"a":1,"a":2}\' | fromjson }}', "expression_value", "fromjson", "twice"),
        ("{{ 'NaN' | fromjson }}", "expression_value", "fromjson", "not finite"),
        ("{{ 'Sure: {}' | fromjson }}", "expression_value", "fromjson", "line 1, column 1"),
        ("{{ [] | first }}", "expression_missing", "first", "empty"),
        ("{{ 1 if inputs.flag }}", "expression_syntax", "1 if", "else"),
        ("{% set a.b = 1 %}", "expression_not_allowed", "set", "one name"),
        ("{% set a, b = 1, 2 %}", "expression_not_allowed", "set", "one name"),
        ("{% set a %}x{% endset %}", "expression_not_allowed", "set", "endset"),
        ("{% for a in [1] recursive %}{% endfor %}", "expression_not_allowed", "for", "recursive"),
        ("{% for loop in [1] %}{% endfor %}", "expression_not_allowed", "loop", "cannot be set"),
        ("{% for a in 'abc' %}{% endfor %}", "expression_type", "'abc'", "does not walk"),
        ("{% for a, b in inputs.list %}{% endfor %}", "expression_type", "a, b", "list of 2"),
        ("{% for a in [1] %}{{ loop.cycle }}{% endfor %}", "expression_name", "cycle", "index"),
        ("{% for a in [1] %}{{ loop }}{% endfor %}", "expression_name", "loop }}", "not a value"),
        ("{% for a in [1] %}{{ loop.nextitem }}{% endfor %}", "expression_missing", "nextitem", "default"),
        ("{% for a in [1] if loop.first %}{% endfor %}", "expression_missing", "loop", "not known"),
        ("{% macro a() %}{% endmacro %}", "expression_not_allowed", "macro", "`raw` and comments"),
        ("{% include 'x' %}", "expression_not_allowed", "include", "not available"),
        ("{{ 'a' | upper(*[]) }}", "expression_not_allowed", "upper", "`*`"),
        ("{{ __builtins__ }}", "expression_not_allowed", "__b", "'__'"),
        ("{{ {1: 2} }}", "expression_type", "{1", "text as key"),
        ("{{ inputs.list[0:1:0] }}", "expression_value", "[0:1", "0"),
        ("{{ inputs.name | date('%Y', 'UTC') }}", "expression_value", "date", "offset"),
        ("{{ '2026-11-22T10:00:00' | date('%Y', 'UTC') }}", "expression_value", "date", "offset"),
        ("{{ run.started_at | date('%Q', 'UTC') }}", "expression_value", "date", "'%Q'"),
        ("{{ run.started_at | date('%Y', 'Europe/Zuerich') }}", "expression_value", "date", "'Europe/Zurich'"),
        ("{{ run.started_at | date('%Y', zone='Mars/Base') }}", "expression_value", "date", "'Mars/Base'"),
        ("{{ run.started_at | date('%Y') }}", "expression_arguments", "date", "format, zone"),
    ],
)
@pytest.mark.parametrize("before", ["", "Dear all,\n  ünï "])
def test_errors_have_a_place_and_a_remedy(text: str, code: str, at: str, said: str, before: str) -> None:
    """An error names the expression, the exact character, what is wrong and what to do, on any line."""
    error = failure(before + text)
    offset = len(before) + text.index(at)

    assert error.problem.code == code
    assert error.offset == offset, str(error)
    assert (error.problem.where.line, error.problem.where.column) == (
        before.count("\n") + 1,
        offset - (before.rfind("\n") if before else -1),
    )
    assert said in str(error)
    assert re.search(r"In `\{[{%]", error.problem.message)


@pytest.mark.parametrize(
    "text",
    [
        "{{ inputs.name | uper }}",
        "{{ 1 | date('%Q', 'UTC') }}",
        "{{ 1 | date('%Y', 'Nowhere') }}",
        "{{ f() }}",
        "{{ a if b }}",
    ],
)
def test_static_faults_are_found_without_a_run(text: str) -> None:
    """What can be known from the text alone is refused when it is compiled."""
    with pytest.raises(ExpressionError):
        expressions.compile(text)


def test_errors_of_conditions_count_from_their_text() -> None:
    """The place in a condition without braces is the place in its text."""
    with pytest.raises(ExpressionError) as caught:
        expressions.compile_condition("inputs.count >\n  nope").render(SCOPE)

    assert caught.value.offset == 17
    assert (caught.value.problem.where.line, caught.value.problem.where.column) == (2, 3)


# Limits


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"source": 10}, "{{ inputs.name }}"),
        ({"nodes": 3}, "{{ [1, 2, 3] }}"),
        ({"depth": 4}, "{{ 1 + 1 + 1 + 1 + 1 + 1 }}"),
        ({"depth": 4}, "{{ '[[[[[[1]]]]]]' | fromjson | length }}"),
        ({"text": 5}, "{{ 'abc' ~ 'def' }}"),
        ({"items": 5}, "{{ [1, 2, 3] + [1, 2, 3] }}"),
        ({"integer_bits": 8}, "{{ 255 + 1 }}"),
        ({"range": 5}, "{{ range(6) }}"),
        ({"operations": 20}, "{% for i in range(30) %}{% endfor %}"),
        ({"memory": 1000}, "{% for i in range(30) %}{{ 'abc' ~ i }}{% endfor %}"),
        ({"output": 5}, "{{ inputs.name }}{{ inputs.name }}"),
        ({"output": 5}, "{{ [inputs.name, inputs.name] }}"),
        ({"seconds": 1e-9}, "{% for i in range(300) %}{% endfor %}"),
    ],
)
def test_each_limit_has_its_own_name(limits: dict[str, Any], text: str) -> None:
    """Passing a limit raises ExpressionLimit with a code for that limit; the usual limits let the same text pass."""
    name = {"integer_bits": "integer", "seconds": "time"}.get(next(iter(limits)), next(iter(limits)))

    error = failure(text, limits=Limits(**limits))

    assert isinstance(error, ExpressionLimit)
    assert error.problem.code == f"expression_{name}"
    render(text)


def test_limits_can_only_be_lowered() -> None:
    """A limit above its default, or of nothing, is refused."""
    for limits in ({"operations": 200_001}, {"seconds": 3}, {"output": 0}):
        with pytest.raises(ValueError, match=next(iter(limits))):
            Limits(**limits)


def test_integers_have_their_bound_exactly() -> None:
    """256 bits are allowed, 257 are not, by whichever way they come."""
    assert render("{{ 2 ** 255 + (2 ** 255 - 1) }}") == 2**256 - 1
    for text in ("{{ 2 ** 256 }}", "{{ 2 ** 255 * 2 }}", f"{{{{ {2**256} }}}}", f"{{{{ '{2**256}' | int }}}}"):
        assert failure(text).problem.code == "expression_integer"
    assert render("{{ x }}", {"x": 2**300}) == 2**300


def test_time_is_bounded_under_load() -> None:
    """A template that never ends stops within its time."""
    begin = time.monotonic()
    body = "{% if a == 1 %}{% endif %}" * 400
    error = failure("{% for a in range(9999) %}" + body + "{% endfor %}", limits=Limits(seconds=0.05))

    assert error.problem.code in ("expression_time", "expression_operations")
    assert time.monotonic() - begin < 2.5


def test_threads_do_not_meet() -> None:
    """One template renders in many threads at once, each with its own names and its own account."""
    template = expressions.compile("{% for i in range(300) %}{% set y = x ~ i %}{{ y }} {% endfor %}")
    results: dict[int, Any] = {}

    def work(number: int) -> None:
        results[number] = template.render({"x": f"{number}-"})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == {n: "".join(f"{n}-{i} " for i in range(300)) for n in range(8)}


def test_compiling_again_is_remembered() -> None:
    """The same text gives the same template; other limits give another one."""
    assert expressions.compile("{{ a }}b") is expressions.compile("{{ a }}b")
    assert expressions.compile("{{ a }}b") is not expressions.compile("{{ a }}b", limits=Limits(output=9))


def test_dates_are_alike_in_every_locale() -> None:
    """Names of months and days do not depend on the machine's language."""
    code = (
        "import locale\n"
        "for name in ('de_DE.UTF-8', 'fr_FR.UTF-8', 'C.UTF-8'):\n"
        "    try: locale.setlocale(locale.LC_ALL, name); break\n"
        "    except locale.Error: pass\n"
        "from weft import expressions\n"
        "print(expressions.compile(\"{{ 0 | date('%A %d %B %p', 'UTC') }}\").render({}))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout

    assert shown == "Thursday 01 January AM\n"


# Agreement with Jinja2

GALLERY = [
    *(
        "{{ inputs.name }}",
        "Hello {{ inputs.name }}!",
        "{{ inputs.count + 1 }}",
        "{{ inputs.price * 2 }}",
        "{{ 7 // 2 }}",
    ),
    *("{{ 7 / 2 }}", "{{ 7 % 4 }}", "{{ 2 ** 10 }}", "{{ -inputs.count }}", "{{ 'ab' * 3 }}", "{{ 'a' ~ 1 ~ 'b' }}"),
    *("{{ 1 + 2 * 3 - 4 }}", "{{ (1 + 2) * 3 }}", "{{ 1 if 'b' in 'abc' else 2 }}"),
    *("{{ 'yes' if inputs.flag else 'no' }}", "{{ inputs.name or 'x' }}", "{{ '' or 'x' }}", "{{ 'a' and 'b' }}"),
    *("{% if inputs.count > 2 %}many{% elif inputs.count %}few{% else %}none{% endif %}", "{{ inputs.name[0] }}"),
    *("{% for i in inputs.list %}{{ i }},{% endfor %}", "{% for i in inputs.list %}{{ loop.index }}{% endfor %}"),
    *("{% for i in inputs.list %}{{ loop.revindex0 }}{{ loop.length }}{% endfor %}",),
    *(
        "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}",
        "{% for k in {'a': 1} %}{{ k }}{% endfor %}",
    ),
    *(
        "{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
        "{{ inputs.list | join('-') }}",
    ),
    *(
        "{{ inputs.list | sort | join(',') }}",
        "{{ inputs.list | sort(reverse=true) | join }}",
        "{{ inputs.list | sum }}",
    ),
    *("{{ inputs.list | min }}{{ inputs.list | max }}", "{{ inputs.list | first }}{{ inputs.list | last }}"),
    *("{{ inputs.list | length }}", "{{ inputs.list | reverse | join }}", "{{ [1, 1, 2] | unique | join }}"),
    *("{{ ['b', 'A', 'c'] | sort | join }}", "{{ ['b', 'A', 'c'] | sort(case_sensitive=true) | join }}"),
    *("{{ rows | map(attribute='n') | join }}", "{{ rows | sort(attribute='id') | map(attribute='n') | join }}"),
    *("{{ rows | selectattr('id', 'gt', 1) | map(attribute='n') | join }}", "{{ rows | sum(attribute='id') }}"),
    *(
        "{{ rows | rejectattr('n', 'equalto', 'a') | map(attribute='id') | join }}",
        "{{ rows | join(',', attribute='n') }}",
    ),
    *("{% for key, group in rows | groupby('n') %}{{ key }}{{ group | length }}{% endfor %}", "{{ 'aé' | upper }}"),
    *("{{ [1, 2, 3, 4] | select('odd') | join }}", "{{ [1, 2, 3] | reject('divisibleby', 2) | join }}"),
    *(
        "{{ ['a', ''] | select | join }}",
        "{{ ['a', 'b'] | map('upper') | join }}",
        "{{ 'hello world-wide (web)' | title }}",
    ),
    *("{{ 'hello World' | capitalize }}", "{{ ' a ' | trim }}", "{{ 'xax' | trim('x') }}", "{{ 'A' | lower }}"),
    *(
        "{{ 'a b c' | replace(' ', '-') }}",
        "{{ 'aaa' | replace('a', 'b', 2) }}",
        "{{ 'one two three four' | truncate(9) }}",
    ),
    *("{{ 'one two three four' | truncate(9, true) }}", "{{ 'one two three' | truncate(9, true, '!', 0) }}"),
    *(
        "{{ 'one two  three' | wordcount }}",
        "{{ 3.7 | int }}{{ '12' | int }}{{ '0x1f' | int(base=16) }}",
        "{{ '1.5' | float }}",
    ),
    *("{{ 2.345 | round(2) }} {{ 2.1 | round(0, 'ceil') }} {{ -2.1 | round(0, 'floor') }} {{ 42.55 | round }}",),
    *("{{ -3 | abs }}", "{{ {'b': 1, 'a': 2} | dictsort | map('first') | join }}", "{{ 'a b&c' | urlencode }}"),
    *("{{ {'a': 'x y', 'b': 1} | urlencode }}", "{{ missing | default('d') }}", "{{ '' | default('d', true) }}"),
    *("{% if missing is not defined %}no{% endif %}",),
    *(
        "{{ 'abc'[1:] }}{{ 'abc'[::-1] }}",
        "{{ 'a,b'.split(',') | join(';') }}",
        "{{ 'abc'.startswith('a') | string | length }}",
    ),
    *("{{ 'a b'.title() }}{{ 'ab'.find('b') }}{{ 'aab'.count('a') }}", "{{ [1, 2, 1].count(1) }}{{ [1, 2].index(2) }}"),
    *("{{ 1 if 4 is even else 0 }}{{ 1 if 'a' is string else 0 }}{{ 1 if none is none else 0 }}",),
    *("{{ 1 if 9 is divisibleby 3 else 0 }}{{ 1 if 'a' is lower else 0 }}{{ 1 if [1] is iterable else 0 }}",),
    *(
        "{{ 1 if 1 is in [1, 2] else 0 }}{{ 1 if 3 not in [1] else 0 }}{{ 1 if {} is mapping else 0 }}",
        "{{ range(2, 9, 3) | join }}",
    ),
    *(
        "a {%- if true %} b {%- endif -%} c",
        "a\n{{- ' b ' -}}\n c",
        "{# note #}a{#- b -#} c",
        "{% raw %}{{ a }}{% endraw %}",
    ),
    *(
        "{{ 'a\\tb\\\\' }}{{ \"it's\" }}",
        "{{ [1, 2, 3][1] }}{{ {'a': [5]}.a[0] }}",
        "{{ 1_000 }}{{ 1e3 | int }}{{ 0x10 }}",
    ),
    *(
        "{{ rows[0].n ~ rows[-1].n }}",
        "{{ rows | map('length') | sum }}",
        "{{ 'äöü' | length }}",
        "{{ 5 | string ~ 5 }}\n\n",
    ),
    *("{% for a in [1, 2] %}{% for b in [3, 4] if b > a + 1 %}{{ a }}{{ b }} {% else %}-{% endfor %}{% endfor %}",),
]


@pytest.mark.parametrize("text", GALLERY)
def test_agrees_with_jinja(text: str) -> None:
    """An ordinary template gives the same text as in stock Jinja2."""
    scope = {**SCOPE, "rows": [{"id": 2, "n": "b"}, {"id": 1, "n": "a"}, {"id": 3, "n": "b"}]}
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)

    assert render(text + "{# text #}{{ '' }}", scope) == environment.from_string(text).render(scope)


def test_the_gallery_is_large_enough() -> None:
    """The comparison covers at least sixty templates and nearly every filter that Jinja has too."""
    used = " ".join(GALLERY)

    assert len(set(GALLERY)) >= 60
    ours = {"date", "fromjson", "tojson", "d", "e", "escape", "count", "items", "list"}
    assert {name for name in FILTERS if f"| {name}" not in used and f"map('{name}'" not in used} <= ours


# The reference page

ROWS = re.compile(r"^\| (?P<name>[^|]+) \|.*?\| `(?P<text>\{[{%](?:[^`]|\\\|)*)` \| (?P<value>.*?) \|$", re.MULTILINE)


def documented() -> list[tuple[str, str, str]]:
    text = DOCS.read_text("utf-8")
    return [
        (found["name"], found["text"].replace("\\|", "|"), found["value"].strip("`")) for found in ROWS.finditer(text)
    ]


@pytest.mark.parametrize(("name", "text", "value"), documented())
def test_documented_examples(name: str, text: str, value: str) -> None:
    """Each example of the reference page gives what the page says, a value or the code of an error."""
    scope = json.loads(re.search(r"```json\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)[1])

    if value.startswith("expression_"):
        assert failure(text, scope).problem.code == value
    else:
        assert json.dumps(render(text, scope)) == json.dumps(json.loads(value.replace("\\|", "|")))


def test_everything_is_documented() -> None:
    """Each filter, test, method, part of `loop`, directive of dates and limit has its line on the reference page."""
    text = DOCS.read_text("utf-8")
    names = " ".join(name for name, _, _ in documented())
    shown = set(re.findall(r"`([^`]+)`", names))

    assert set(FILTERS) | set(PREDICATES) | set(LOOP_NAMES) <= shown
    assert {f"{name}()" for table in METHODS.values() for name in table} <= shown
    assert {name for name in Limits.__dataclass_fields__ if f"| `{name}` |" not in text} == set()
    assert {letter for letter in _DIRECTIVES if f"`%{letter}`" not in text} == set()
