"""Templates that want to escape, to exhaust the machine, or to turn data into something else."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft import expressions
from weft.errors import ExpressionError
from weft.expressions.methods import CANDIDATES
from weft.expressions.predicates import PREDICATES
from weft.expressions.sequences import FILTERS

CORPORA = Path(__file__).parent / "corpora"
CHILD = Path(__file__).parent / "expression_child.py"
EXHAUSTION_SCOPE = {"big": "x" * 1_000_000, "steps": {"x": {"output": "hello"}}, "a": {"b": 1}}
ESCAPE_SCOPE = {
    "steps": {"x": {"output": "hello", "items": [1, 2, 3]}},
    "inputs": {"name": "Acme", "class": "__class__", "_": "_", "list": [1], "number": 7, "nothing": None},
    "run": {"id": "r1"},
}
CANARY = "{{ cycler.__init__.__globals__.os.popen('true').read() }}"


def rows(name: str) -> list[dict[str, Any]]:
    lines = (CORPORA / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def template_of(row: dict[str, Any]) -> str:
    return row["template"] if "template" in row else "".join(text * times for text, times in row["parts"])


class Child:
    """The process that renders hostile templates for us."""

    def __init__(self) -> None:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])}
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def render(self, engine: str, template: str, scope: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"engine": engine, "template": template, "scope": scope}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def child():
    child = Child()
    yield child
    child.close()


EXHAUSTION = rows("template-limits/exhaustion.jsonl") + rows("template-limits/further.jsonl")


@pytest.mark.parametrize("row", EXHAUSTION, ids=lambda row: row["id"])
def test_exhaustion_is_stopped(child: Child, row: dict[str, Any]) -> None:
    """A template that would take the machine's time or memory ends early, as an error or with a small value."""
    outcome = child.render("ours", template_of(row), EXHAUSTION_SCOPE)

    assert outcome["error"] is None or "ExpressionError" in outcome["error"], outcome
    assert len(json.dumps(outcome["value"])) <= 1_100_000
    assert outcome["seconds"] <= 2.5
    assert outcome["kib"] <= 64 * 1024


def test_exhaustion_kills_stock_jinja(child: Child) -> None:
    """The limits of the child are real: stock Jinja2 does not survive what ours refuses."""
    outcome = child.render("stock", "{% set a = [0] * 10**9 %}", {})

    assert outcome["error"] in (["killed"], ["MemoryError", "Exception", "BaseException", "object"])


ESCAPES = rows("template-escapes/payloads.jsonl")


def test_there_are_enough_escapes() -> None:
    """The corpus has at least a hundred different payloads."""
    assert len({row["template"] for row in ESCAPES}) >= 100


def test_the_hook_sees_an_escape(child: Child) -> None:
    """Stock Jinja2 starts a process for the canary, and the audit hook sees it."""
    outcome = child.render("stock", CANARY, {})

    assert any(event.startswith("subprocess.Popen") for event in outcome["seen"])


def test_the_corpus_is_live(child: Child) -> None:
    """Many payloads do escape from stock Jinja2."""
    payloads = [row["template"] for row in ESCAPES if row.get("stock") == "escapes"]
    seen = sum(bool(child.render("stock", payload, ESCAPE_SCOPE)["seen"]) for payload in payloads)

    assert len(payloads) >= 20
    assert seen == len(payloads)


@pytest.mark.parametrize("row", ESCAPES, ids=lambda row: row["id"])
def test_nothing_escapes(child: Child, row: dict[str, Any]) -> None:
    """A payload touches neither files, processes, network nor code, and shows nothing of Python's."""
    outcome = child.render("ours", row["template"], ESCAPE_SCOPE)

    assert outcome["seen"] == []
    assert outcome["error"] is None or "ExpressionError" in outcome["error"], outcome
    shown = json.dumps(outcome["value"])
    for trace in (
        "<class",
        "<function",
        "<module",
        "<built-in",
        " object at 0x",
        "jinja2",
        "weft.",
        "Undefined",
        "root:",
    ):
        assert trace not in shown


# Data stays data


NATIVE = rows("template-limits/native_strings.jsonl")


@pytest.mark.parametrize("row", NATIVE, ids=lambda row: repr(row["x"]))
def test_text_keeps_its_type(row: dict[str, Any]) -> None:
    """A text that looks like something else stays that text, alone and inside other text."""
    assert expressions.compile("{{ x }}").render(row) == row["x"]
    assert expressions.compile("({{ x }})").render(row) == f"({row['x']})"


@pytest.mark.parametrize("payload", [row["template"] for row in ESCAPES] + [row["x"] for row in NATIVE])
def test_nothing_is_rendered_twice(payload: str) -> None:
    """A payload that arrives as data leaves as it came, however it is passed on."""
    scope = {"steps": {"a": {"output": payload}}}

    assert expressions.compile("{{ steps.a.output }}").render(scope) == payload
    assert expressions.compile("<{{ steps.a.output }}>").render(scope) == f"<{payload}>"
    assert expressions.compile("{% set b = steps.a.output ~ '' %}{{ b }}").render(scope) == payload
    assert expressions.compile("{{ [steps.a.output] | join }}").render(scope) == payload


@settings(deadline=None)
@given(st.text())
def test_any_text_arrives_unchanged(text: str) -> None:
    """Any text of the scope arrives unchanged, as a value and inside text, surrogates and controls included."""
    scope = {"x": text, "y": {"z": [text]}}

    assert expressions.compile("{{ x }}").render(scope) == text
    assert expressions.compile("a{{ x }}b{{ y.z[0] }}").render(scope) == f"a{text}b{text}"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**255), 2**255)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON)
def test_any_value_arrives_unchanged(value: Any) -> None:
    """Any JSON value of the scope arrives as it is, in a copy of its own."""
    rendered = expressions.compile("{{ x }}").render({"x": value})

    assert json.dumps(rendered) == json.dumps(value)
    assert rendered is not value or not isinstance(value, list | dict)


@settings(deadline=None)
@given(JSON)
def test_json_text_comes_back(value: Any) -> None:
    """What `tojson` writes, `fromjson` reads as the same value."""
    assert json.dumps(expressions.compile("{{ x | tojson | fromjson }}").render({"x": value})) == json.dumps(value)


# Grammar: whatever is written, the outcome is a JSON value or an ExpressionError

ATOMS = st.sampled_from(
    [
        *("a", "b", "xs", "d", "s", "big", "none", "true", "missing", "loop.index", "self", "__x"),
        *("0", "1", "-1", "3.5", "10**9", "2**200", "1e308", "'x'", "'%s'", "'{{ 1 }}'", "''", "'99999'", "[]", "{}"),
        *("range(5)", "range(10000)", "range(0)", "d.items()", "xs[0]", "xs[::-1]", "d.k", "d['k']", "s[1:]", "xs.y"),
        *("[1, 'a', none]", "{'k': [1]}", "(1, 2)", "d.keys()", "s.split()", "'a' if b else 'c'"),
    ]
)
FILTER_NAMES = st.sampled_from(sorted(FILTERS))
TEST_NAMES = st.sampled_from(sorted(name for name in PREDICATES if name.isalpha()))
METHOD_NAMES = st.sampled_from(sorted(CANDIDATES))
BINARY = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">=", "in", "not in", "and", "or"])


def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arguments = st.lists(inner, max_size=3).map(", ".join)
    return st.one_of(
        st.builds("({} {} {})".format, inner, BINARY, inner),
        st.builds("({} | {})".format, inner, FILTER_NAMES),
        st.builds("({} | {}({}))".format, inner, FILTER_NAMES, arguments),
        st.builds("({} | map('{}'))".format, inner, FILTER_NAMES),
        st.builds("({} | map('{}', {}))".format, inner, FILTER_NAMES, inner),
        st.builds("({} | select('{}'))".format, inner, TEST_NAMES),
        st.builds("({} is {})".format, inner, TEST_NAMES),
        st.builds("({} is {}({}))".format, inner, TEST_NAMES, arguments),
        st.builds("({}).{}({})".format, inner, METHOD_NAMES, arguments),
        st.builds("({})[{}]".format, inner, inner),
        st.builds("({})[{}:{}]".format, inner, inner, inner),
        st.builds("(not {})".format, inner),
        st.builds("(-{})".format, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{{{}: {}}}".format, inner, inner),
    )


EXPRESSIONS = st.recursive(ATOMS, extend, max_leaves=6)
STATEMENTS = st.one_of(
    st.builds("{{{{ {} }}}}".format, EXPRESSIONS),
    st.builds("text {{{{ {} }}}}".format, EXPRESSIONS),
    st.builds("{{% for a in {} %}}{{{{ {} }}}}{{% else %}}{{{{ {} }}}}{{% endfor %}}".format, *[EXPRESSIONS] * 3),
    st.builds("{{% for a, b in {} if {} %}}{{% set c = {} %}}{{{{ c }}}}{{% endfor %}}".format, *[EXPRESSIONS] * 3),
    st.builds("{{% if {} %}}{{{{ {} }}}}{{% elif {} %}}b{{% endif %}}".format, *[EXPRESSIONS] * 3),
    st.builds("{{% set a = {} %}}{{% set a = [a, a] %}}{{{{ a | {} }}}}".format, EXPRESSIONS, FILTER_NAMES),
)
GRAMMAR_SCOPE = {
    "a": 5,
    "b": False,
    "xs": [3, 1, 2, "a", None, 2.5, {"k": 1}],
    "d": {"k": "v", "n": {"k": [1, 2]}, "items": 1},
    "s": "Some text, 12 <b>ü😀",
    "big": "xy " * 30_000,
}


def is_json(value: Any) -> bool:
    if type(value) is list:
        return all(map(is_json, value))
    if type(value) is dict:
        return all(type(key) is str and is_json(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def outcome_of(template: str, scope: dict[str, Any]) -> Any:
    """Return what a template gives, or the ExpressionError that it ends with; anything else is raised."""
    try:
        return expressions.compile(template).render(scope)
    except ExpressionError as error:
        return error


@settings(max_examples=int(os.environ.get("WEFT_FUZZ", "1500")), deadline=None, suppress_health_check=list(HealthCheck))
@given(STATEMENTS)
def test_every_outcome_is_json_or_an_expression_error(template: str) -> None:
    """Whatever a template says, it gives a JSON value or an ExpressionError with a place, and soon."""
    begin = time.process_time()
    outcome = outcome_of(template, GRAMMAR_SCOPE)
    if isinstance(outcome, ExpressionError):
        offset = outcome.offset
        assert offset is not None
        assert 0 <= offset <= len(template)
        assert outcome.problem.where.line == 1
    else:
        assert is_json(outcome)
    assert time.process_time() - begin < 2.5


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="{}%#-+ \r\n'\"\\abif|.([])0", max_size=40))
def test_any_text_is_read_or_refused(template: str) -> None:
    """Any text, however broken its braces, is a template or an ExpressionError."""
    outcome = outcome_of(template, {"a": "x", "b": [1]})

    assert isinstance(outcome, ExpressionError) or is_json(outcome)


# Only JSON enters


class Live:
    """An object whose every use is remembered."""

    touched: list[str] = []  # noqa: RUF012 (shared on purpose)

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("__"):
            Live.touched.append(name)
        return object.__getattribute__(self, name)

    def danger(self) -> str:
        Live.touched.append("danger()")
        return "danger"

    def __str__(self) -> str:
        Live.touched.append("str")
        return "live"

    __repr__ = __str__

    def __bool__(self) -> bool:
        Live.touched.append("bool")
        return True

    def __eq__(self, other: object) -> bool:
        Live.touched.append("eq")
        return True

    def __lt__(self, other: object) -> bool:
        Live.touched.append("lt")
        return True

    def __hash__(self) -> int:
        Live.touched.append("hash")
        return 1

    def __iter__(self) -> Any:
        Live.touched.append("iter")
        return iter([1])

    def __len__(self) -> int:
        Live.touched.append("len")
        return 1

    def __getitem__(self, key: Any) -> Any:
        Live.touched.append("getitem")
        return 1

    def __contains__(self, key: Any) -> bool:
        Live.touched.append("contains")
        return True

    def __add__(self, other: Any) -> Any:
        Live.touched.append("add")
        return 1

    def __index__(self) -> int:
        Live.touched.append("index")
        return 1

    __radd__ = __mul__ = __rmul__ = __add__
    __int__ = __index__

    def __float__(self) -> float:
        Live.touched.append("float")
        return 1.0


class Text(str):
    __slots__ = ()


class Mapping(dict):
    def danger(self) -> str:
        Live.touched.append("danger()")
        return "danger"


USES = [
    *("{{ x }}", "a{{ x }}", "{{ x.danger }}", "{{ x.danger() }}", "{{ x['danger'] }}", "{{ x[0] }}", "{{ x[1:] }}"),
    *("{{ x + 1 }}", "{{ 1 + x }}", "{{ 2 * x }}", "{{ x == 1 }}", "{{ [x] == [1] }}", "{{ x < 1 }}", "{{ 1 in x }}"),
    *("{{ x in [1] }}", "{{ x in 'a' }}", "{{ x in {'a': 1} }}", "{{ x and 1 }}", "{{ not x }}", "{{ 1 if x else 2 }}"),
    *(
        "{{ x ~ '' }}",
        "{{ -x }}",
        "{% if x %}1{% endif %}",
        "{% for a in x %}{{ a }}{% endfor %}",
        "{{ [x, x] | sort }}",
    ),
    *("{{ [x] | map('upper') }}", "{{ [x] | select }}", "{{ [x, x] | unique }}", "{{ [x] | sum }}", "{{ [x] | join }}"),
    *("{{ [x] | tojson }}", "{{ 'a'[x] }}", "{{ [1][x] }}", "{{ {x: 1} }}", "{{ {'a': x} }}", "{{ range(x) }}"),
    *("{{ 'a,b'.split(x) }}", "{{ {'a': 1}.get(x) }}", "{{ 'a' | replace(x, 'b') }}", "{{ 'a' | truncate(x) }}"),
    *("{{ [1] | map(attribute=x) }}", "{{ 1 | round(x) }}", "{{ x is divisibleby 2 }}", "{{ 4 is divisibleby x }}"),
    *("{{ x | default('a', true) }}", "{{ x | date('%Y', 'UTC') }}", "{{ [[1, x], [1, x]] | sort(attribute=1) }}"),
    *("{{ x.danger | default('a') }}", "{{ [x].index(1) }}", "{{ [1].count(x) }}", "{{ [x] | min }}"),
    *("{{ 'a' | trim(x) }}", "{{ 'a'.strip(x) }}", "{{ [1] | groupby(x) }}", "{{ {'a': x} | dictsort(by='value') }}"),
    *(
        f"{{{{ x | {name} }}}}"
        for name in sorted(FILTERS)
        if name not in ("default", "d", "groupby", "replace", "date")
    ),
]


@pytest.mark.parametrize("use", USES)
def test_a_live_object_is_never_touched(use: str) -> None:
    """An object of Python's that got into a scope is refused wherever it turns up, and none of its methods runs."""
    for stranger in (Live(), Text("1"), Mapping(danger="a"), (1,), {1}, b"x", 1j, object(), len):
        Live.touched.clear()
        with pytest.raises(ExpressionError):
            expressions.compile(use).render({"x": stranger})
        assert Live.touched == []


def test_errors_show_no_values() -> None:
    """No error shows a value of the scope, wherever the value is used."""
    secret = "Tell nobody about 4711"
    for use in USES:
        for value in (secret, [secret], {"k": secret}):
            outcome = outcome_of(use, {"x": value})
            assert not isinstance(outcome, ExpressionError) or "4711" not in str(outcome)
    for use in ("{{ d[x] }}", "{{ [1] | map(x) }}", "{{ x | int }}", "{{ x | fromjson }}", "{{ 1 | date('%Y', x) }}"):
        with pytest.raises(ExpressionError) as caught:
            expressions.compile(use).render({"x": secret, "d": {"k": 1}})
        assert "4711" not in str(caught.value)
