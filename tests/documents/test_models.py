"""Manifests, connection types and workflows: what is read, every rule of one document, the published schemas."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from weft import catalogue, manifest, source, structure, validation, workflow
from weft.errors import InvalidDocument, InvalidManifest, InvalidWorkflow, Problem
from weft.rehearsal import cases
from weft.types import DocumentPath, JsonObject

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"

WORKFLOW = """\
name: email-results
description: Ask a model and mail the answer.
enabled: true
inputs:
  question: {type: string, default: Explain in two sentences why regular backups are important.}
on:
  schedule:
    - cron: "0 8 * * 1-5"
      timezone: Europe/Zurich
steps:
  - id: answer
    uses: generate_chat_completion
    connection: local-model
    with:
      provider: openai
      model: smollm2
      max_tokens: 120
      temperature: 0.2
      seed: 1
      messages:
        - {role: user, content: "{{ inputs.question }}"}
  - id: mail
    uses: send_email
    connection: outbox
    with:
      to: [me@example.com]
      subject: "Answer of {{ run.started_at | date('%d %B', 'Europe/Zurich') }}"
      body: "{{ steps.answer.output.choices[0].message.content }}"
"""

WHOLE_LANGUAGE = """\
name: all
title: All of it
inputs:
  who: {type: array, title: Who, description: Whom to ask., required: true}
  level: {type: integer, minimum: 1, maximum: 3, default: 2, enum: [1, 2, 3]}
  code: {pattern: "[A-Z]{3}", default: ABC}
variables: {limit: 10, nested: {a: [1, "{{ inputs.level }}"]}}
on:
  schedule:
    - every: 1h30m
      timezone: UTC
      start: 2026-01-01T00:00:00+01:00
      end: "2027-01-01T00:00:00Z"
      jitter: 30s
      catch_up: all
      grace: 1d
      overlap: queue
      inputs: {who: ["a"], level: 3}
  webhook:
    - {connection: hook, style: github, synchronous: true, inputs: {who: "{{ trigger.body.who }}"}}
steps:
  - id: start
    uses: workflow:other
    with: {a: 1}
    timeout: 10m
  - id: each
    needs: []
    if: "{{ inputs.level > 1 }}"
    for_each: inputs.who
    max_parallel: 2
    retry: {attempts: 3, backoff: 500ms, factor: 3, max_backoff: 1m, jitter: false, on: [rate_limited]}
    on_error: continue
    steps:
      - id: ask
        approval: {message: "May {{ item }}?", who: [boss], deadline: 2d, default: reject}
      - id: pause
        wait: {for: "{{ variables.limit }}s"}
      - id: later
        wait: {until: "2026-12-24T18:00:00+01:00"}
        disabled: true
  - id: send
    needs: [start, each]
    uses: send_email
    connections: {openai: one, azure: two}
    delivery: at_most_once
    on_error:
      steps:
        - {id: tell, uses: send_email}
  - id: fixed
    if: false
    for_each: [1, 2]
    uses: send_email
outputs: {answer: "{{ steps.send.output }}"}
finally:
  - {id: clean, uses: send_email}
on_failure: {workflow: alarm}
concurrency: {key: "{{ inputs.code }}", limit: 2, policy: cancel}
budget: {cost: 0.5, currency: EUR, tokens: 1000, steps: 50, time: 1h}
"""

MANIFEST = """\
id: shout
title: Shout
purpose: Say it loudly.
description: A long text.
category: Text
icon: megaphone
version: 1
connection: megaphone
effects: none
retry: safe
parameters:
  basic:
    - name: text
      title: Text
      description: What is said.
      type: string
      required: true
      min_length: 1
      max_length: 100
      pattern: "[a-z ]+"
      widget: multiline
      placeholder: hello there
      example: hello
      escape: html
    - name: times
      title: Times
      description: How often.
      type: [integer, string]
      default: 1
      minimum: 1
      maximum: 9
      widget: number
      example: 2
  advanced:
    - name: voice
      title: Voice
      description: Who says it.
      type: string
      widget: select
      options: {values: [high, low], closed: true}
      example: low
      literal: true
      visible_when: {parameter: times, values: [1, 2]}
      requires: [{parameter: times}, {parameter: text, values: [hello]}]
      excludes: [tags]
    - name: tags
      title: Tags
      description: Marks.
      type: object
      properties: {lang: {type: string}}
      required_properties: [lang]
      additional_properties: false
      widget: json
      example: {lang: en}
output:
  schema: {type: object, properties: {said: {$ref: "#/$defs/text"}}, required: [said], $defs: {text: {type: string}}}
  example: {said: HELLO}
"""

CONNECTION_TYPE = """\
id: megaphone
title: Megaphone
purpose: A loud device.
icon: megaphone
fields:
  - {name: host, title: Host, description: Its address., type: string, widget: text, example: a.example}
  - {name: key, title: Key, description: Its key., type: string, widget: password, secret: true}
environment:
  host: ["WEFT_{NAME}_HOST"]
"""


def problems_of(load: Any, error: type[InvalidDocument], text: str) -> tuple[Problem, ...]:
    with pytest.raises(error) as caught:
        load(source.read(text, "d.yaml"))
    for problem in caught.value.problems:
        assert problem.where.file == "d.yaml"
        assert problem.where.line
        assert problem.where.column
        assert problem.message.endswith(".")
    return caught.value.problems


def changed(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


# -- what is read


def test_example_workflow() -> None:
    """The example of the design is read as it stands."""
    loaded = structure.load(source.read(WORKFLOW, "w.yaml"))

    assert loaded.name == "email-results"
    assert loaded.on.schedule[0].timezone == "Europe/Zurich"
    assert [step.uses for step in loaded.steps] == ["generate_chat_completion", "send_email"]
    assert loaded.steps[0].arguments["temperature"] == 0.2


def test_whole_language() -> None:
    """Every key of the language is read."""
    loaded = structure.load(source.read(WHOLE_LANGUAGE, "w.yaml"))

    each, send = loaded.steps[1:3]
    assert each.retry is not None
    assert (each.retry.backoff, each.condition, each.needs) == ("500ms", "{{ inputs.level > 1 }}", [])
    assert isinstance(send.on_error, workflow.ErrorSteps)
    assert loaded.final[0].id == "clean"
    assert loaded.steps[3].condition is False


def test_manifest() -> None:
    """A manifest is read, its parameters in the order of the form."""
    loaded = manifest.load(source.read(MANIFEST, "m.yaml"))

    assert [parameter.name for parameter in loaded.all_parameters] == ["text", "times", "voice", "tags"]
    assert loaded.all_parameters[1].types == ("integer", "string")


def test_connection_type() -> None:
    """A connection type is read; it has the limits that all have."""
    loaded = manifest.load_connection_type(source.read(CONNECTION_TYPE, "c.yaml"))

    assert loaded.environment["host"] == ["WEFT_{NAME}_HOST"]
    assert [field.secret for field in loaded.fields] == [False, True, False, False]
    limits = ("concurrency", "requests_per_minute")
    assert [field.name for field in loaded.fields[2:]] == list(limits)
    assert [loaded.environment[name] for name in limits] == [["{NAME}_CONCURRENCY"], ["{NAME}_REQUESTS_PER_MINUTE"]]


@pytest.mark.parametrize(
    ("duration", "expected"),
    [("90s", 90), ("5m", 300), ("1h30m", 5_400), ("250ms", 0.25), ("1.5d", 129_600), ("0s", 0)],
)
def test_durations(duration: str, expected: float) -> None:
    """A duration is the sum of its parts in seconds."""
    assert workflow.seconds(duration) == expected


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", "5S", "-5s", "1h 30m", "٥s", "1..5s", "5s\n", "1e3s", "9" * 31 + "ds"]
)
def test_what_is_no_duration(text: str) -> None:
    """Anything else is no duration."""
    with pytest.raises(ValueError, match="not a duration"):
        workflow.seconds(text)


# -- rules of a workflow


STEPS = "name: x\nsteps:\n"
BROKEN_WORKFLOWS: list[tuple[str, str, str, tuple[int, int], str]] = [
    # name, text, code, place, part of the message or remedy
    ("no-kind", STEPS + "  - {id: a}\n", "exactly_one", (3, 5), "exactly one of uses, steps, wait or approval; it has none"),
    ("two-kinds", STEPS + "  - {id: a, uses: x, wait: {for: 1s}}\n", "exactly_one", (3, 22), "it has uses and wait"),
    ("with-on-wait", STEPS + "  - {id: a, wait: {for: 1s}, with: {b: 1}}\n", "key_without_kind", (3, 30), "'with' means nothing for a step with 'wait'"),
    ("connection-on-group", STEPS + "  - id: a\n    connection: c\n    steps: [{id: b, uses: x}]\n", "key_without_kind", (4, 5), "It is for uses."),
    ("delivery-on-wait", STEPS + "  - {id: a, wait: {for: 1s}, delivery: at_most_once}\n", "key_without_kind", (3, 30), "'delivery'"),
    ("retry-on-wait", STEPS + "  - {id: a, wait: {for: 1s}, retry: {attempts: 2}}\n", "key_without_kind", (3, 30), "'retry'"),
    ("budget-on-group", STEPS + "  - id: a\n    budget: {tokens: 1}\n    steps: [{id: b, uses: x}]\n", "key_without_kind", (4, 5), "It is for uses."),
    ("budget-of-child", STEPS + "  - {id: a, uses: 'workflow:b', budget: {tokens: 1}}\n", "key_without_kind", (3, 33), "child workflow"),
    ("empty-step-budget", STEPS + "  - {id: a, uses: b, budget: {}}\n", "no_cap", (3, 30), "caps nothing"),
    ("id-in-notify", STEPS + "  - {id: a, approval: {message: m, notify: [{id: a, uses: x}]}}\n", "duplicate_id", (3, 50), "is taken already"),
    ("connection-of-child", STEPS + "  - {id: a, uses: 'workflow:b', connection: c}\n", "key_without_kind", (3, 33), "child workflow"),
    ("both-connections", STEPS + "  - {id: a, uses: b, connection: c, connections: {d: e}}\n", "excludes", (3, 37), "exclude each other"),
    ("max-parallel-alone", STEPS + "  - {id: a, uses: b, max_parallel: 2}\n", "needs_for_each", (3, 22), "needs 'for_each'"),
    ("uses", STEPS + "  - {id: a, uses: 'Send Mail'}\n", "uses", (3, 19), "workflow:<name>"),
    ("timeout-zero", STEPS + "  - {id: a, uses: b, timeout: 0s}\n", "timeout", (3, 31), "more than 0s"),
    ("timeout", STEPS + "  - {id: a, uses: b, timeout: 5}\n", "invalid_value", (3, 31), "90s, 5m or 1h30m, not 5. Write 5s if seconds are meant."),
    ("timeout-text", STEPS + "  - {id: a, uses: b, timeout: 5 minutes}\n", "invalid_value", (3, 31), "not \"5 minutes\". Write 5m."),
    ("timeout-ages", STEPS + "  - {id: a, uses: b, timeout: 9999d}\n", "invalid_value", (3, 31), "at most 3650d"),
    ("wait-both", STEPS + "  - {id: a, wait: {for: 1s, until: '2026-01-01T00:00:00Z'}}\n", "exactly_one", (3, 29), "it has for and until"),
    ("wait-none", STEPS + "  - {id: a, wait: {}}\n", "exactly_one", (3, 13), "it has none"),
    ("wait-no-offset", STEPS + "  - {id: a, wait: {until: '2026-01-01T00:00:00'}}\n", "invalid_value", (3, 27), "offset"),
    ("approval-default", STEPS + "  - {id: a, approval: {message: m, default: approve}}\n", "needs_deadline", (3, 36), "deadline"),
    ("duplicate-id", STEPS + "  - {id: a, uses: b}\n  - {id: a, uses: b}\n", "duplicate_id", (4, 10), "in line 3"),
    ("duplicate-id-in-finally", STEPS + "  - {id: a, uses: b}\nfinally:\n  - {id: a, uses: b}\n", "duplicate_id", (5, 10), "ambiguous"),
    ("duplicate-id-in-group", STEPS + "  - id: a\n    steps: [{id: a, uses: b}]\n", "duplicate_id", (4, 18), "in line 3"),
    ("duplicate-id-on-error", STEPS + "  - id: g\n    steps: [{id: a, uses: b}]\n    on_error: {steps: [{id: a, uses: b}]}\n", "duplicate_id", (5, 29), "in line 4"),
    ("needs-unknown", STEPS + "  - {id: first, uses: b}\n  - {id: b, uses: b, needs: [frist]}\n", "unknown_step", (4, 30), "Did you mean 'first'?"),
    ("needs-outside", STEPS + "  - {id: one, uses: b}\n  - id: g\n    steps: [{id: a, uses: b, needs: [one]}]\n", "unknown_step", (5, 38), "same list"),
    ("needs-twice", STEPS + "  - {id: a, uses: b}\n  - {id: b, uses: b, needs: [a, a]}\n", "duplicate_need", (4, 33), "twice"),
    ("needs-itself", STEPS + "  - {id: a, uses: b, needs: [a]}\n", "cycle", (3, 22), "a → a"),
    ("cycle", STEPS + "  - {id: a, uses: b, needs: [c]}\n  - {id: b, uses: b, needs: [a]}\n  - {id: c, uses: b, needs: [b]}\n", "cycle", (3, 22), "a → c → b → a"),
    ("cycle-by-order", STEPS + "  - {id: a, uses: b, needs: [b]}\n  - {id: b, uses: b}\n", "cycle", (3, 22), "'b' has no 'needs', so it needs the step before it"),
    ("cron", STEPS + "  - {id: a, uses: b}\non: {schedule: [{cron: 61 * * * *, timezone: UTC}]}\n", "cron", (4, 24), "the minute cannot be \"61\". It is 0 to 59"),
    ("cron-of-six", STEPS + "  - {id: a, uses: b}\non: {schedule: [{cron: 0 0 8 * * *, timezone: UTC}]}\n", "cron", (4, 24), "6 fields, not 5"),
    ("cron-never", STEPS + "  - {id: a, uses: b}\non: {schedule: [{cron: 0 0 31 2 *, timezone: UTC}]}\n", "cron", (4, 28), "that day never comes in that month"),
    ("timezone", STEPS + "  - {id: a, uses: b}\non: {schedule: [{cron: 0 8 * * *, timezone: Europe/Zürich}]}\n", "timezone", (4, 45), "Did you mean 'Europe/Zurich'?"),
    ("timezone-directory", STEPS + "  - {id: a, uses: b}\non: {schedule: [{cron: 0 8 * * *, timezone: ../etc/passwd}]}\n", "timezone", (4, 45), "IANA"),
    ("schedule-both", STEPS + "  - {id: a, uses: b}\non: {schedule: [{cron: 0 8 * * *, every: 1h, timezone: UTC}]}\n", "exactly_one", (4, 35), "cron and every"),
    ("schedule-none", STEPS + "  - {id: a, uses: b}\non: {schedule: [{timezone: UTC}]}\n", "exactly_one", (4, 17), "it has none"),
    ("schedule-fast", STEPS + "  - {id: a, uses: b}\non: {schedule: [{every: 10ms, timezone: UTC}]}\n", "interval", (4, 25), "at least 1s"),
    ("schedule-backwards", STEPS + "  - {id: a, uses: b}\non: {schedule: [{every: 1h, timezone: UTC, start: '2026-01-02T00:00:00Z', end: '2026-01-02T00:30:00+01:00'}]}\n", "empty_range", (4, 80), "not after"),
    ("schedule-input", STEPS + "  - {id: a, uses: b}\ninputs: {question: {}}\non: {schedule: [{every: 1h, timezone: UTC, inputs: {qestion: x}}]}\n", "unknown_input", (5, 53), "Did you mean 'question'?"),
    ("schedule-input-type", STEPS + "  - {id: a, uses: b}\ninputs: {n: {type: integer}}\non: {schedule: [{every: 1h, timezone: UTC, inputs: {n: x}}]}\n", "wrong_type", (5, 56), "an integer, not \"x\""),
    ("webhook-input", STEPS + "  - {id: a, uses: b}\ninputs: {n: {required: true}}\non: {webhook: [{connection: c}]}\n", "missing_input", (5, 16), "'n' is required"),
    ("on-failure-both", STEPS + "  - {id: a, uses: b}\non_failure: {workflow: c, steps: [{id: d, uses: e}]}\n", "exactly_one", (4, 27), "workflow and steps"),
    ("on-failure-none", STEPS + "  - {id: a, uses: b}\non_failure: {}\n", "exactly_one", (4, 1), "it has none"),
    ("budget-empty", STEPS + "  - {id: a, uses: b}\nbudget: {currency: EUR}\n", "no_cap", (4, 9), "caps nothing"),
    ("input-default", STEPS + "  - {id: a, uses: b}\ninputs: {n: {type: integer, default: x}}\n", "wrong_type", (4, 38), "an integer, not \"x\""),
    ("input-boolean-for-number", STEPS + "  - {id: a, uses: b}\ninputs: {n: {type: number, default: true}}\n", "wrong_type", (4, 37), "a number, not true"),
    ("input-enum", STEPS + "  - {id: a, uses: b}\ninputs: {n: {type: integer, enum: [1, '2']}}\n", "wrong_type", (4, 39), "an integer, not \"2\""),
    ("input-default-outside", STEPS + "  - {id: a, uses: b}\ninputs: {n: {enum: [high, low], default: hihg}}\n", "invalid_choice", (4, 42), "Did you mean 'high'?"),
    ("input-bounds", STEPS + "  - {id: a, uses: b}\ninputs: {n: {type: integer, minimum: 3, maximum: 2}}\n", "empty_range", (4, 38), "greater than"),
    ("input-bounds-of-text", STEPS + "  - {id: a, uses: b}\ninputs: {n: {minimum: 3}}\n", "constraint_without_type", (4, 14), "'minimum' means nothing for the type string"),
    ("input-pattern", STEPS + "  - {id: a, uses: b}\ninputs: {n: {pattern: '['}}\n", "pattern", (4, 23), "regular expression"),
    ("input-required-default", STEPS + "  - {id: a, uses: b}\ninputs: {n: {required: true, default: x}}\n", "default", (4, 30), "never be used"),
    ("credential", STEPS + "  - {id: a, uses: b, with: {key: sk-proj-abcdefghijklmnopqrstuvwx0123}}\n", "credential", (3, 34), "connection"),
    ("empty-key", STEPS + "  - {id: a, uses: b, with: }\n", "no_value", (3, 22), "'with' has no value"),
    ("empty-optional-key", STEPS + "  - id: a\n    uses: b\n    title:\n", "no_value", (5, 5), "'title' has no value"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code", "place", "part"), [pytest.param(*row[1:], id=row[0]) for row in BROKEN_WORKFLOWS]
)
def test_rules_of_workflows(text: str, code: str, place: tuple[int, int], part: str) -> None:
    """Each broken rule is one problem with its place, what is wrong and what to do."""
    problems = problems_of(structure.load, InvalidWorkflow, text)

    assert [problem.code for problem in problems] == [code]
    assert (problems[0].where.line, problems[0].where.column) == place
    assert part in f"{problems[0].message} {problems[0].remedy}"


def test_siblings_of_groups_may_share_ids() -> None:
    """Steps in groups side by side may have the same id: their paths differ."""
    text = STEPS + "".join(f"  - id: g{n}\n    steps: [{{id: a, uses: b}}]\n" for n in range(2))

    assert len(structure.load(source.read(text, "w.yaml")).steps) == 2


def test_credential_in_a_comment_is_refused_and_not_shown() -> None:
    """A pasted credential is refused wherever it stands, and no message repeats it."""
    for key in ("ghp_" + "a1B2" * 9, "sk-" + "a1b2" * 6):
        places = [f"  - {{id: {key}, uses: b}}  # {key}", f"  - {{id: {key}, uses: b, needs: [{key}]}}"]
        problems = problems_of(structure.load, InvalidWorkflow, STEPS + "\n".join(places) + f"\n{key}: 1\n")
        credentials = [(item.where.line, item.where.column) for item in problems if item.code == "credential"]

        assert credentials == [(3, 10), (3, 24 + len(key)), (4, 10), (4, 29 + len(key)), (5, 1)]
        assert all(key not in str(problem) for problem in problems)


def test_word_that_looks_like_a_credential_is_read() -> None:
    """A long word is no credential because `sk-` stands inside it."""
    text = STEPS + "  - {id: a, uses: b, with: {url: https://x.example/task-list-of-a-very-long-name}}\n"

    assert structure.load(source.read(text, "w.yaml"))


def test_problems_name_their_step() -> None:
    """A problem inside a step names it by the ids that lead there, whether the form is wrong or a rule is broken."""
    text = STEPS + "  - id: g\n    steps:\n      - {id: a, uses: b, timeout: 5, with: {messages: [{id: m}]}}\n"
    form = problems_of(structure.load, InvalidWorkflow, text)
    rule = problems_of(structure.load, InvalidWorkflow, text.replace("timeout: 5", "max_parallel: 5"))

    assert [(problem.where.step, problem.where.field) for problem in (*form, *rule)] == [
        ("g/a", "timeout"),
        ("g/a", "max_parallel"),
    ]


def test_all_problems_in_the_order_of_the_document() -> None:
    """A document's problems come all at once, from its top to its end."""
    text = "name: x\nsteps:\n  - {id: a}\n  - {id: a, uses: b, needs: [z]}\non: {schedule: [{every: 1h, timezone: Mars}]}\n"
    problems = problems_of(structure.load, InvalidWorkflow, text)

    assert [problem.code for problem in problems] == ["exactly_one", "duplicate_id", "unknown_step", "timezone"]


# -- rules of manifests and connection types

PARAMETER = "    - name: {}\n      title: T\n      description: D.\n"
BROKEN_MANIFESTS: list[tuple[str, list[tuple[str, str]], str, str, str]] = [
    ("duplicate-name", [("name: tags", "name: times"), ("excludes: [tags]", "excludes: []")], "duplicate_name", "parameters.advanced[1].name", "in line 25"),
    ("requires-unknown", [("requires: [{parameter: times}", "requires: [{parameter: time}")], "unknown_parameter", "parameters.advanced[0].requires[0].parameter", "Did you mean 'times'?"),
    ("requires-impossible", [("values: [hello]", "values: [3]")], "wrong_type", "parameters.advanced[0].requires[1].values[0]", "must be text, not 3"),
    ("visible-unknown", [("visible_when: {parameter: times, values: [1, 2]}", "visible_when: {parameter: tiems}")], "unknown_parameter", "parameters.advanced[0].visible_when.parameter", "Did you mean"),
    ("visible-impossible", [("values: [1, 2]", "values: [1, 20]")], "invalid_value", "parameters.advanced[0].visible_when.values[1]", "at most 9"),
    ("excludes-unknown", [("excludes: [tags]", "excludes: [tag]")], "unknown_parameter", "parameters.advanced[0].excludes[0]", "Did you mean 'tags'?"),
    ("excludes-itself", [("excludes: [tags]", "excludes: [voice]")], "own_name", "parameters.advanced[0].excludes[0]", "names itself"),
    ("depends-unknown", [("{values: [high, low], closed: true}", "{source: models, depends_on: provider}")], "unknown_parameter", "parameters.advanced[0].options.depends_on", "There are: text"),
    ("options-both", [("{values: [high, low], closed: true}", "{values: [low], source: models}")], "options", "parameters.advanced[0].options", "either"),
    ("options-none", [("{values: [high, low], closed: true}", "{closed: true}")], "options", "parameters.advanced[0].options", "either"),
    ("default-type", [("default: 1", "default: true")], "wrong_type", "parameters.basic[1].default", "an integer or text, not true"),
    ("default-bound", [("default: 1", "default: 10")], "invalid_value", "parameters.basic[1].default", "at most 9, not 10"),
    ("default-required", [("required: true\n      min", "required: true\n      default: a\n      min")], "default", "parameters.basic[0].default", "never be used"),
    ("example-pattern", [("example: hello", "example: HELLO")], "invalid_value", "parameters.basic[0].example", "must match the pattern"),
    ("example-line-break", [("example: hello", 'example: "hello\\n"')], "invalid_value", "parameters.basic[0].example", "must match the pattern"),
    ("example-options", [("example: low", "example: lo")], "invalid_choice", "parameters.advanced[0].example", "Did you mean 'low'?"),
    ("example-property", [("example: {lang: en}", "example: {lang: en, lnag: x}")], "unknown_key", "parameters.advanced[1].example.lnag", "Did you mean 'lang'?"),
    ("placeholder", [("placeholder: hello there", "placeholder: 'Hello!'")], "invalid_value", "parameters.basic[0].placeholder", "pattern"),
    ("enum", [("maximum: 9", "maximum: 9\n      enum: [1, 2, 12]")], "invalid_value", "parameters.basic[1].enum[2]", "at most 9"),
    ("range", [("minimum: 1", "minimum: 10")], "empty_range", "parameters.basic[1].minimum", "greater than"),
    ("lengths", [("min_length: 1\n", "min_length: 101\n")], "empty_range", "parameters.basic[0].min_length", "greater than"),
    ("pattern", [('pattern: "[a-z ]+"', "pattern: '[a-z'")], "pattern", "parameters.basic[0].pattern", "regular expression"),
    ("bound-of-text", [("min_length: 1\n", "minimum: 1\n")], "constraint_without_type", "parameters.basic[0].minimum", "It is for integer or number"),
    ("items-of-text", [("min_length: 1\n", "items: {type: string}\n")], "constraint_without_type", "parameters.basic[0].items", "array"),
    ("types-twice", [("type: [integer, string]", "type: [integer, integer]")], "types", "parameters.basic[1].type", "a type twice"),
    ("types-none", [("type: [integer, string]", "type: []")], "invalid_value", "parameters.basic[1].type", "must not be empty"),
    ("type-unknown", [("type: [integer, string]", "type: interger")], "invalid_choice", "parameters.basic[1].type", "Did you mean 'integer'?"),
    ("widget-unknown", [("widget: multiline", "widget: multi_line")], "invalid_choice", "parameters.basic[0].widget", "Did you mean 'multiline'?"),
    ("widget-type", [("widget: multiline", "widget: switch")], "widget", "parameters.basic[0].widget", "cannot edit"),
    ("widget-select", [("      options: {values: [high, low], closed: true}\n", "")], "widget", "parameters.advanced[0].widget", "nothing to select"),
    ("widget-slider", [("maximum: 9\n      widget: number", "widget: slider")], "widget", "parameters.basic[1].widget", "both ends"),
    ("property-unknown", [("required_properties: [lang]", "required_properties: [lung]")], "unknown_property", "parameters.advanced[1].required_properties", "lung"),
    ("property-schema", [("{lang: {type: string}}", "{lang: {type: strin}}")], "invalid_choice", "parameters.advanced[1].properties.lang.type", "Did you mean 'string'?"),
    ("property-reference", [("{lang: {type: string}}", "{lang: {$ref: '#/x'}}")], "reference", 'parameters.advanced[1].properties.lang["$ref"]', "not allowed"),
    ("property-pattern", [("{lang: {type: string}}", "{lang: {pattern: '('}}")], "pattern", "parameters.advanced[1].properties.lang.pattern", "regular expression"),
    ("output-schema", [("required: [said]", "required: said")], "wrong_type", "output.schema.required", "must be a list"),
    ("output-reference", [('"#/$defs/text"', '"https://x.example/s"')], "reference", 'output.schema.properties.said["$ref"]', "leads out"),
    ("output-example", [("example: {said: HELLO}", "example: {said: 3}")], "wrong_type", "output.example.said", "must be text, not 3"),
    ("output-example-missing", [("example: {said: HELLO}", "example: {sad: x}")], "missing", "output.example.said", "needs 'said'"),
    ("unknown-key", [("purpose: Say it loudly.", "purpose: Say it loudly.\npurpos: x")], "unknown_key", "purpos", "Did you mean 'purpose'?"),
    ("missing-key", [("version: 1\n", "")], "missing_key", "version", "needs the key 'version'"),
    ("version", [("version: 1\n", "version: 0\n")], "invalid_value", "version", "at least 1, not 0"),
    ("purpose", [("Say it loudly.", "x" * 121)], "invalid_value", "purpose", "at most 120 characters"),
    ("purpose-empty", [("Say it loudly.", "''")], "invalid_value", "purpose", "must not be empty."),
    ("name", [("name: voice", "name: Voice")], "invalid_value", "parameters.advanced[0].name", "lower case"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "code", "field", "part"), [pytest.param(*row[1:], id=row[0]) for row in BROKEN_MANIFESTS]
)
def test_rules_of_manifests(changes: list[tuple[str, str]], code: str, field: str, part: str) -> None:
    """Each broken rule is one problem with its field, what is wrong and what to do."""
    problems = problems_of(manifest.load, InvalidManifest, changed(MANIFEST, *changes))

    assert [(problem.code, problem.where.field) for problem in problems] == [(code, field)]
    assert part in f"{problems[0].message} {problems[0].remedy}"


@pytest.mark.parametrize(
    ("old", "new", "code", "field"),
    [
        ("secret: true", "secret: true, default: abc", "secret", "fields[1].default"),
        ("secret: true", "secret: true, example: abc", "secret", "fields[1].example"),
        ("host: [", "hots: [", "unknown_parameter", "environment.hots"),
        ("name: key", "name: host", "duplicate_name", "fields[1].name"),
        ("example: a.example", "example: 3", "wrong_type", "fields[0].example"),
    ],
)
def test_rules_of_connection_types(old: str, new: str, code: str, field: str) -> None:
    """A connection type's fields keep the rules of parameters; a secret has no value in the document."""
    (problem,) = problems_of(manifest.load_connection_type, InvalidManifest, changed(CONNECTION_TYPE, (old, new)))

    assert (problem.code, problem.where.field) == (code, field)


def test_faults_of_form_do_not_hide_broken_rules_of_a_manifest() -> None:
    """A misspelt key, wrong values and broken rules are told together, in the order of the document."""
    text = changed(
        MANIFEST,
        ("min_length: 1\n", "min_lenght: 200\n"),
        ("type: [integer, string]", "type: integr"),
        ("minimum: 1\n", "minimum: 10\n"),
        ("excludes: [tags]", "excludes: [tgas]"),
        ("description: Who says it.", "descripton: Who says it."),
        ("widget: select", "widget: slider"),
        ("example: {said: HELLO}", "example: {}"),
    )

    assert [(problem.code, problem.where.field) for problem in problems_of(manifest.load, InvalidManifest, text)] == [
        ("unknown_key", "parameters.basic[0].min_lenght"),
        ("empty_range", "parameters.basic[0].min_length"),
        ("invalid_choice", "parameters.basic[1].type"),
        ("empty_range", "parameters.basic[1].minimum"),
        ("unknown_key", "parameters.advanced[0].descripton"),
        ("widget", "parameters.advanced[0].widget"),
        ("unknown_parameter", "parameters.advanced[0].excludes[0]"),
        ("missing", "output.example.said"),
    ]


@pytest.mark.parametrize(
    ("text", "model", "load"),
    [
        pytest.param(MANIFEST, manifest.Manifest, manifest.load, id="manifest"),
        pytest.param(CONNECTION_TYPE, manifest.ConnectionType, manifest.load_connection_type, id="connection-type"),
    ],
)
def test_what_only_follows_from_a_fault_of_form_is_not_told(text: str, model: Any, load: Any) -> None:
    """Whatever is missing or of a wrong type in a sound document, no rule is said to be broken besides."""
    sound = yaml.safe_load(text)
    faulty = 0
    for path in parts(sound):
        for change in ("delete", 7.5, [[1]], {"q": 1}, None):
            document = source.read(yaml.safe_dump(with_change(sound, path, change), sort_keys=False), "d.yaml")
            form = raised(validation.build, model, document, InvalidManifest)
            if form:
                assert raised(load, document) == form, (path, change)
                faulty += 1
    assert faulty > 50


def raised(function: Callable[..., object], *arguments: Any) -> tuple[Problem, ...]:
    try:
        function(*arguments)
    except InvalidDocument as invalid:
        return invalid.problems
    return ()


def parts(value: Any, path: DocumentPath = ()) -> Iterator[DocumentPath]:
    """The paths of all that a document holds, schemas aside: what they may hold is no matter of form."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        if key != "schema":
            yield from parts(part, (*path, key))


def with_change(value: Any, path: DocumentPath, change: Any) -> Any:
    changed = copy.deepcopy(value)
    holder = changed
    for part in path[:-1]:
        holder = holder[part]
    if change == "delete":
        del holder[path[-1]]
    else:
        holder[path[-1]] = change
    return changed


# -- the published schemas

PUBLISHED = {
    "workflow": workflow.json_schema,
    "manifest": manifest.json_schema,
    "connection-type": manifest.connection_type_json_schema,
    "models": catalogue.json_schema,
    "test": cases.json_schema,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_schema_is_the_models(name: str) -> None:
    """What editors read is what the models say."""
    published = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))

    assert published == PUBLISHED[name](), f"docs/schemas/{name}.json is old: write json_schema() to it, indent 2"


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_is_described(name: str) -> None:
    """Each key of a document has a description for the editor to show, and no other key is allowed."""
    schema: Any = PUBLISHED[name]()

    for part in (schema, *schema["$defs"].values()):
        if "properties" in part:
            assert part["additionalProperties"] is False
            assert all(key["description"] for key in part["properties"].values())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("workflow", WORKFLOW),
        ("workflow", WHOLE_LANGUAGE),
        ("manifest", MANIFEST),
        ("connection-type", CONNECTION_TYPE),
    ],
)
def test_schema_accepts_what_loads(name: str, text: str) -> None:
    """A document that loads is valid for editors too."""
    assert errors(PUBLISHED[name](), text) == []


@pytest.mark.parametrize(
    ("name", "text", "old", "new"),
    [
        ("workflow", WORKFLOW, "uses: send_email", "use: send_email"),
        ("workflow", WORKFLOW, "    uses: send_email\n", ""),
        ("workflow", WORKFLOW, "uses: send_email", "uses: send_email\n    wait: {for: 1s}"),
        ("workflow", WORKFLOW, "uses: send_email", "uses: send_email\n    timeout: 5"),
        ("workflow", WORKFLOW, "uses: send_email", "uses: send_email\n    on_error: ignore"),
        ("workflow", WORKFLOW, "uses: send_email", "uses: send_email\n    title:"),
        ("workflow", WORKFLOW, '- cron: "0 8 * * 1-5"\n      timezone', "- timezone"),
        ("workflow", WORKFLOW, "question: {type", "Question: {type"),
        ("workflow", WORKFLOW, "enabled: true", "enabled: yes"),
        ("manifest", MANIFEST, "widget: multiline", "widget: area"),
        ("manifest", MANIFEST, "effects: none", "effects: some"),
        ("manifest", MANIFEST, "version: 1\n", ""),
        ("manifest", MANIFEST, "minimum: 1", "min: 1"),
        ("connection-type", CONNECTION_TYPE, "icon: megaphone", "icon: ''"),
        ("connection-type", CONNECTION_TYPE, "host: [", "Host: ["),
    ],
)
def test_schema_refuses_what_is_broken(name: str, text: str, old: str, new: str) -> None:
    """A document that does not load for its form is invalid for editors too."""
    assert errors(PUBLISHED[name](), changed(text, (old, new)))


def errors(schema: JsonObject, text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    return [error.message for error in validator.iter_errors(source.read(text, "d.yaml").value)]
