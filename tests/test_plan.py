"""What a plan refuses, where it says so, and what it lets an expression see."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import pytest

from weft import packs, plan, source, structure
from weft.connections import BuiltIn, Connections
from weft.errors import InvalidWorkflow
from weft.plan import ConnectionFacts
from weft.redaction import Redactor
from weft.registry import Registry

LAB = Path(__file__).parent / "lab"


@pytest.fixture(scope="module")
def registry():
    return Registry([packs.read(LAB, "lab", packs.package_of(LAB))])


@pytest.fixture
def compiled(registry):
    def compile_(text, **options):
        document = source.read(textwrap.dedent(text), "lab.yaml")
        return plan.compile(structure.load(document), document, registry, **options)

    return compile_


@pytest.fixture
def faults(compiled):
    def faults_(text, **options):
        with pytest.raises(InvalidWorkflow) as caught:
            compiled(text, **options)
        return [
            (problem.code, problem.where.line, problem.where.column, problem.where.step, problem.where.field)
            for problem in caught.value.problems
        ]

    return faults_


# ---- places
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_fault_in_a_block_text_is_told_at_its_own_line(faults, end):
    """Lines and columns count in the file, whatever the style of the text and of the line ends."""
    text = "name: a\nsteps:\n  - id: e\n    uses: echo\n    with:\n      value: |\n        x\n          {{ nix }}\n"

    assert faults(text.replace("\n", end)) == [("unknown_name", 8, 14, "e", "with.value")]


def test_faults_in_lists_and_mappings_have_their_own_place(faults):
    """Each item of a nested value is a place of its own, also below a key named like part of a document."""
    text = """\
    name: a
    steps:
      - id: e
        uses: echo
        with: {value: {steps: [x, "{{ nix }}"]}}
    outputs: {steps: ["{{ inputs.q }}"]}
    """

    assert faults(text) == [
        ("unknown_name", 5, 35, "e", "with.value.steps[1]"),
        ("unknown_input", 6, 23, None, "outputs.steps[0]"),
    ]


def test_bare_expressions_are_placed_without_the_braces_that_they_lack(faults):
    """`if` and `for_each` without braces are told at the character at fault."""
    text = """\
    name: a
    steps:
      - id: e
        uses: echo
        if: 1 == nix
        for_each:   steps.q.output
    """

    assert faults(text) == [("unknown_name", 5, 14, "e", "if"), ("unknown_step", 6, 17, "e", "for_each")]


def test_steps_of_every_list_are_placed(faults):
    """Groups, `on_error`, `finally` and `on_failure` have names and places like any step."""
    text = """\
    name: a
    steps:
      - id: g
        steps: [{id: x, uses: echo, with: {value: "{{ nix }}"}}]
        on_error: {steps: [{id: z, uses: echo, with: {valu: 1}}]}
    finally: [{id: f, uses: echo, with: {value: "{{ nix }}"}}]
    on_failure: {steps: [{id: w, uses: echo, with: {value: ["{{ nix }}"]}}]}
    """

    assert [(line, step, field) for _, line, _, step, field in faults(text)] == [
        (4, "g/x", "with.value"),
        (5, "g/on_error/z", "with.valu"),
        (6, "finally/f", "with.value"),
        (7, "on_failure/w", "with.value[0]"),
    ]


def test_templates_outside_steps_are_checked(faults):
    """Triggers' inputs, the concurrency key and an approval's texts hold templates too; each sees what exists then."""
    text = """\
    name: a
    inputs: {q: {}}
    on:
      webhook: [{connection: x, inputs: {q: "{{ inputs.q }}"}}]
      schedule: [{cron: "0 8 * * *", timezone: UTC, inputs: {q: "{{ steps.ask.output }}"}}]
    concurrency: {key: "{{ inputs.nix }}"}
    steps:
      - {id: ask, approval: {message: "{{ nix }}", deadline: "{{ nox }}", who: ["{{ nux }}"]}}
    """

    assert [(code, line, field) for code, line, _, _, field in faults(text)] == [
        ("unknown_name", 4, "on.webhook[0].inputs.q"),
        ("unknown_name", 5, "on.schedule[0].inputs.q"),
        ("unknown_input", 6, "concurrency.key"),
        ("unknown_name", 8, "approval.message"),
        ("unknown_name", 8, "approval.deadline"),
        ("unknown_name", 8, "approval.who[0]"),
    ]


# ---- what an expression sees
def test_a_loops_own_if_and_on_error_stand_outside_of_it(faults):
    """`if` is asked before the loop and `on_error` runs after it, so neither knows an item."""
    text = """\
    name: a
    steps:
      - id: e
        uses: echo
        for_each: [1]
        if: item > 1
        with: {value: "{{ item + index }}"}
        on_error: {steps: [{id: z, uses: echo, with: {value: "{{ index }}"}}]}
    """

    assert [(code, line) for code, line, *_ in faults(text)] == [("unknown_name", 6), ("unknown_name", 8)]


def test_what_repeats_a_group_is_seen_all_through_it(compiled):
    """Inside a repeated group `item` is known to conditions, loops and error steps."""
    compiled(
        """
        name: a
        steps:
          - id: each
            for_each: [[1], [2]]
            steps:
              - id: x
                if: index > 0
                for_each: item
                uses: echo
                with: {value: "{{ item }}"}
                on_error: {steps: [{id: z, uses: echo, with: {value: "{{ item }} {{ steps.x.error.kind }}"}}]}
        """
    )


def test_a_step_sees_what_it_needs_and_what_its_group_needs(faults):
    """Siblings that are not needed are later; members of other groups are unknown."""
    text = """\
    name: a
    steps:
      - {id: a, uses: echo, needs: []}
      - {id: b, uses: echo, needs: []}
      - id: g
        needs: [a]
        steps:
          - {id: x, uses: echo, with: {value: "{{ steps.a.output.value }} {{ steps.b.output }}"}}
          - {id: y, uses: echo, with: {value: "{{ steps.x.output.value }} {{ steps.h.output }}"}}
      - {id: h, uses: echo, needs: [g, b], with: {value: "{{ steps.g.output }} {{ steps.x.output }}"}}
    finally:
      - {id: f, uses: echo, with: {value: "{{ steps.h.state }} {{ steps.x.state }}"}}
    """

    assert [(code, line) for code, line, *_ in faults(text)] == [
        ("later_step", 8), ("later_step", 9), ("unknown_step", 10), ("unknown_step", 12)
    ]  # fmt: skip


def test_steps_may_be_named_like_words_of_the_language(compiled):
    """Words of YAML, of expressions and of documents are names like others, and paths stay apart."""
    made = compiled(
        """
        name: a
        steps:
          - {id: items, uses: echo}
          - {id: if, uses: echo, with: {value: "{{ steps.items.output.value }}"}}
          - {id: not, uses: echo, with: {value: "{{ steps.if.output.value }}"}}
          - {id: on_error, steps: [{id: finally, uses: echo, with: {value: "{{ steps.not.output.value }}"}}]}
        finally: [{id: steps, uses: echo, with: {value: "{{ steps.on_error.state }}"}}]
        """
    )

    assert [step.path for step in made.every_step()] == [
        "/items", "/if", "/not", "/on_error", "/on_error/finally", "/@finally/steps"
    ]  # fmt: skip


def test_a_loop_over_a_text_is_refused(faults):
    """What is around an expression makes it a text, which is no list."""
    text = "name: a\nsteps:\n  - {id: e, uses: echo, for_each: 'all of {{ [1] }}'}\n"

    assert [(code, line) for code, line, *_ in faults(text)] == [("not_a_list", 3)]


# ---- actions
@pytest.mark.parametrize("how", ["check raises", "check nonsense", "check none"])
def test_a_check_that_is_broken_is_a_problem_that_names_the_action(faults, compiled, how):
    """A third party's check never ends in a traceback, and what it raised is not shown."""
    text = f"name: a\nsteps:\n  - {{id: e, uses: rogue, with: {{how: {how}}}}}\n"

    assert [(code, line, step) for code, line, _, step, _ in faults(text)] == [("broken_check", 3, "e")]
    with pytest.raises(InvalidWorkflow, match="'rogue'") as caught:
        compiled(text)
    assert "prompt" not in str(caught.value)


def test_warnings_of_a_check_do_not_stop_a_plan(compiled):
    """A plan carries warnings, with their place."""
    warnings = compiled("name: a\nsteps:\n  - {id: e, uses: rogue, with: {how: check warns}}\n").warnings

    assert [(problem.code, problem.where.line, problem.where.step) for problem in warnings] == [("odd", 3, "e")]


def test_a_module_that_cannot_be_imported_is_a_problem_at_the_step(tmp_path, faults, monkeypatch):
    """The step that uses it is the place; the message says which module it is."""
    for name in ("actions", "manifests"):
        (tmp_path / name).mkdir()
    manifest = (LAB / "manifests" / "echo.yaml").read_text(encoding="utf-8").replace("id: echo", "id: broken")
    (tmp_path / "manifests" / "broken.yaml").write_text(manifest, encoding="utf-8")
    (tmp_path / "actions" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "actions" / "broken.py").write_text("import no_such_module_at_all\n", encoding="utf-8")
    registry = Registry([packs.read(tmp_path, "broken", packs.package_of(tmp_path))])
    document = source.read("name: a\nsteps:\n  - {id: e, uses: broken}\n", "lab.yaml")
    with pytest.raises(InvalidWorkflow) as caught:
        plan.compile(structure.load(document), document, registry)

    problem = caught.value.problem
    assert (problem.where.file, problem.where.line, problem.where.step) == ("lab.yaml", 3, "e")
    assert "no_such_module_at_all" in problem.message


def test_a_difference_of_code_and_manifest_is_placed_at_the_step(tmp_path):
    """The place inside the pack is part of the message; file and line of the problem belong together."""
    for name in ("actions", "manifests"):
        (tmp_path / name).mkdir()
    manifest = (LAB / "manifests" / "echo.yaml").read_text(encoding="utf-8").replace("id: echo", "id: drifted")
    (tmp_path / "manifests" / "drifted.yaml").write_text(manifest, encoding="utf-8")
    (tmp_path / "actions" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "actions" / "drifted.py").write_text("other = 1\n", encoding="utf-8")
    registry = Registry([packs.read(tmp_path, "drifted", packs.package_of(tmp_path))])
    document = source.read("name: a\nsteps:\n  - {id: e, uses: drifted}\n", "lab.yaml")
    with pytest.raises(InvalidWorkflow) as caught:
        plan.compile(structure.load(document), document, registry)

    problem = caught.value.problem
    assert (problem.where.file, problem.where.line) == ("lab.yaml", 3)
    assert "drifted.py" in problem.message


def mail(core_registry, arguments):
    text = f"""
        name: a
        inputs: {{x: {{}}}}
        steps:
          - id: m
            uses: send_email
            connection: outbox
            with: {{to: [me@example.com], subject: s, body: "<b>{{{{ inputs.x }}}}</b>", {arguments}}}
        """
    document = source.read(textwrap.dedent(text), "lab.yaml")
    return plan.compile(structure.load(document), document, core_registry)


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ("format: html", "<b>&lt;i&gt; &amp;</b>"),
        ("format: text", "<b><i> &</b>"),
        ("format: markdown", "<b><i> &</b>"),
        ("priority: high", "<b><i> &</b>"),
    ],
)
def test_values_are_escaped_while_the_manifest_says_so(core_registry, arguments, body):
    """Whether the values in a mail's body are escaped depends on its format, given or left to its default."""
    made = mail(core_registry, arguments).steps[0].arguments["body"]

    assert plan.render(made, {"inputs": {"x": "<i> &"}}) == body


def test_what_decides_the_escaping_is_known_before_a_run(core_registry):
    """A format that an expression gives cannot say how the body's own expressions are escaped."""
    with pytest.raises(InvalidWorkflow) as caught:
        mail(core_registry, 'format: "{{ inputs.x }}"')

    problem = caught.value.problem
    assert (problem.code, problem.where.line, problem.where.field) == ("not_literal", 8, "with.format")


# ---- connections
async def never_opened():
    raise AssertionError("a plan opens no connection")


FACTS = [ConnectionFacts("labx", "account", "file"), ConnectionFacts("mail", "smtp", "file")]
KNOWN = Connections([BuiltIn({facts.name: (facts, never_opened) for facts in FACTS})], Redactor())


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("{id: e, uses: leak, with: {where: nowhere}}", "missing_connection"),
        ("{id: e, uses: leak, connections: {one: labx}, with: {where: nowhere}}", "missing_connection"),
        ("{id: e, uses: leak, connection: mail, with: {where: nowhere}}", "wrong_connection"),
        ("{id: e, uses: echo, connection: labx}", "needless_connection"),
        ("{id: e, uses: echo, connections: {one: labx}}", "needless_connection"),
    ],
)
def test_connections_are_checked(faults, step, expected):
    """A step names a connection exactly when its action takes one, and of the right type."""
    found = faults(f"name: a\nsteps:\n  - {step}\n", connections=KNOWN)

    assert [(code, line) for code, line, *_ in found] == [(expected, 3)]


LOCAL = ConnectionFacts("local-model", "model_provider", "built in", "openai")
ANTHROPIC = ConnectionFacts("anthropic", "model_provider", "environment", "anthropic")
OPENAI = ConnectionFacts("openai", "model_provider", "environment", "openai")


@pytest.mark.parametrize(
    ("there", "provider", "fallbacks", "expected"),
    [
        ([LOCAL, ANTHROPIC], "openai", "[]", ("wrong_provider", "error")),
        ([LOCAL, ANTHROPIC], "anthropic", "[openai/gpt-4o]", ("unknown_connection", "warning")),
        ([LOCAL, ANTHROPIC, OPENAI], "anthropic", "[openai/gpt-4o]", None),
    ],
    ids=["the step's own", "of a fallback, built in", "of a fallback"],
)
def test_no_other_account_stands_in(core_registry, there, provider, fallbacks, expected):
    """A step's own connection serves its own provider alone; what is built in is used only by its name."""
    known = Connections([BuiltIn({facts.name: (facts, never_opened) for facts in there})], Redactor())
    document = source.read(
        f"name: a\nsteps:\n  - id: e\n    uses: generate_chat_completion\n    connection: anthropic\n"
        f"    with: {{provider: {provider}, model: claude-haiku-4-5, fallbacks: {fallbacks}, "
        f"messages: [{{role: user, content: hi}}]}}\n",
        "w.yaml",
    )
    try:
        found = plan.compile(structure.load(document), document, core_registry, connections=known).warnings
    except InvalidWorkflow as invalid:
        found = invalid.problems
    told = [(problem.code, problem.severity) for problem in found if "connection" in (problem.where.field or "")]
    assert told == ([expected] if expected else [])


def test_an_action_with_providers_may_be_given_connections_by_provider_alone(core_registry):
    """`connections:` without `connection:` is enough for a chain of providers, since the two exclude each other."""
    document = source.read(
        textwrap.dedent(
            """
            name: a
            steps:
              - id: e
                uses: generate_chat_completion
                connections: {openai: one}
                with: {provider: openai, model: m, messages: [{role: user, content: hi}]}
            """
        ),
        "lab.yaml",
    )
    made = plan.compile(structure.load(document), document, core_registry)

    assert (made.steps[0].connection, made.steps[0].connections) == (None, {"openai": "one"})


# ---- size
def test_two_hundred_steps_compile_in_less_than_a_second(compiled):
    """Compiling takes time in proportion to the document."""
    steps = "".join(
        f"  - {{id: s{i}, uses: echo, with: {{value: '{{{{ {f'steps.s{i - 1}.output.value' if i else i} }}}}'}}}}\n"
        for i in range(200)
    )
    began = time.process_time()
    compiled(f"name: a\nsteps:\n{steps}")

    assert time.process_time() - began < 1


def test_groups_as_deep_as_a_document_may_be_compile(compiled):
    """The reader's bound on depth is reached before Python's."""

    def nested(depth, indent=2):
        pad = " " * indent
        inner = f"{pad}  steps:\n{nested(depth - 1, indent + 4)}" if depth else f"{pad}  uses: echo\n"
        return f"{pad}- id: g{depth}\n{inner}"

    assert sum(1 for _ in compiled(f"name: a\nsteps:\n{nested(22)}").every_step()) == 23
