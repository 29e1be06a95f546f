"""What an author is told: mistakes that people make, each with the place and the words that mend it."""

from __future__ import annotations

import pytest

from weft import plan, source
from weft.connections import BuiltIn, Connections
from weft.errors import InvalidSource, InvalidWorkflow, Problem
from weft.plan import ConnectionFacts
from weft.redaction import Redactor
from weft.registry import Registry
from weft.sdk import Connection
from weft.survey import survey

SOUND = """\
name: ask-and-mail
inputs:
  question: {type: string, default: Why backups?}
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
      seed: 1
      messages:
        - role: user
          content: "{{ inputs.question }}"
  - id: mail
    uses: send_email
    connection: outbox
    with:
      to: me@example.com
      subject: "Answer of {{ run.started_at | date('%d %B', 'UTC') }}"
      body: "{{ steps.answer.output.choices[0].message.content }}"
outputs:
  id: "{{ steps.mail.output.message_id }}"
"""


async def never_opened() -> Connection:
    raise AssertionError("a plan opens no connection")


FACTS = [
    ConnectionFacts("outbox", "smtp", "built in"),
    ConnectionFacts("local-model", "model_provider", "built in", "openai"),
]
KNOWN = Connections([BuiltIn({facts.name: (facts, never_opened) for facts in FACTS})], Redactor())


def told(text: str, registry: Registry) -> tuple[Problem, ...]:
    """All that is found in a document, as `weft validate` finds it."""
    try:
        found = survey(source.read(text, "w.yaml"))
    except InvalidSource as invalid:
        return invalid.problems
    if found.workflow is None:
        return found.problems
    try:
        planned = plan.compile(found.workflow, found.source, registry, connections=KNOWN)
    except InvalidWorkflow as invalid:
        return found.with_consequences(invalid.problems)
    return found.with_consequences(planned.warnings)


MISTAKES: list[tuple[str, str, list[tuple[str, int, int, str]]]] = [
    # what stands in the sound document, what is written instead, and of each problem: code, line, column, some words
    ("inputs:\n", "input:\n", [("unknown_key", 2, 1, "Did you mean 'inputs'?")]),
    ("steps:\n", "stepps:\n", [("unknown_key", 8, 1, "Did you mean 'steps'?")]),
    ("name: ask-and-mail\n", "", [("missing_key", 1, 1, "Add it: the workflow's name, also that of its file.")]),
    ("    uses: send_email", "    use: send_email", [("unknown_key", 21, 5, "Did you mean 'uses'?")]),
    ("    connection: local-model\n    with:\n      provider: openai", "    connection: local-model\n    provider: openai\n    with:", [("unknown_key", 12, 5, "What the action takes stands under 'with'.")]),
    ("type: string", "typ: string", [("unknown_key", 3, 14, "Did you mean 'type'?")]),
    ("timezone:", "time_zone:", [("unknown_key", 7, 7, "Did you mean 'timezone'?")]),
    ("      timezone: Europe/Zurich\n", "", [("missing_key", 6, 7, "Add it: the IANA name of the zone that cron speaks of:")]),
    ("  - id: mail\n    uses", "  - uses", [("missing_key", 20, 5, "by which others speak of it")]),
    ("    uses: send_email\n", "", [("exactly_one", 20, 5, "Add one.")]),
    ("seed: 1", "seed: 1\n      model: other", [("duplicate_key", 17, 7, "Delete one of them.")]),
    ("uses: send_email", "uses: send_emial", [("unknown_action", 21, 11, "Did you mean 'send_email'?")]),
    ("uses: send_email", "uses: send-email", [("unknown_action", 21, 11, "Did you mean 'send_email'?")]),
    ("uses: send_email", "uses: Send Email", [("uses", 21, 11, "Write 'send_email'.")]),
    ("id: mail", "id: Mail", [("invalid_value", 20, 9, "Write 'mail'.")]),
    ("id: mail", "id: my mail", [("invalid_value", 20, 9, "Write 'my_mail'."), ("unknown_step", 28, 11, "Did you mean 'my_mail'?")]),
    ("id: mail", "id: 1", [("wrong_type", 20, 9, "must be a name (lower case letters")]),
    ("id: mail", "id: answer", [("duplicate_id", 20, 9, "Rename one of them.")]),
    ("name: ask-and-mail", "name: Ask and mail", [("invalid_value", 1, 7, "Write 'ask_and_mail'.")]),
    ("seed: 1", "temprature: 1", [("unknown_parameter", 16, 7, "Did you mean 'temperature'?")]),
    ("seed: 1", "maxTokens: 1", [("unknown_parameter", 16, 7, "Did you mean 'max_tokens'?")]),
    ("seed: 1", "flavour: mint", [("unknown_parameter", 16, 7, "flavour")]),
    ("max_tokens: 120", "max_tokens: \"120\"", [("wrong_type", 15, 19, "be an integer, not \"120\". Write it without quotes.")]),
    ("max_tokens: 120", "max_tokens: many", [("wrong_type", 15, 19, "be an integer, not \"many\".")]),
    ("max_tokens: 120", "max_tokens: 1.5", [("wrong_type", 15, 19, "be an integer, not 1.5.")]),
    ("model: smollm2", "model: 4", [("wrong_type", 14, 14, "be text, not 4. Write it in quotes: \"4\".")]),
    ("model: smollm2", "model: 4.10", [("wrong_type", 14, 14, "be text, not 4.1. Write it in quotes.")]),
    ("seed: 1", "logprobs: yes", [("wrong_type", 16, 17, "be true or false, not \"yes\". Write true.")]),
    ("seed: 1", "response_format: json", [("wrong_type", 16, 24, "be a mapping, not \"json\".")]),
    ("seed: 1", "fallbacks: gpt-4o-mini", [("wrong_type", 16, 18, "be a list, not \"gpt-4o-mini\". Write a list: [a, b], or a line with '- ' for each item.")]),
    ("default: Why backups?", "default: 3", [("wrong_type", 3, 37, "be text, not 3. Write it in quotes: \"3\".")]),
    ("question: {type: string, default: Why backups?}", "question:", [("no_value", 3, 3, "Give it one, or delete the key.")]),
    ("  question: {type: string, default: Why backups?}", "  - question", [("wrong_type", 3, 3, "be a mapping, not a list of 1. Write 'key: value' in each line, without '- '.")]),
    ("outputs:\n  id: ", "outputs:\n  - ", [("wrong_type", 28, 3, "be a mapping, not a list of 1. Write 'key: value' in each line, without '- '.")]),
    ("    - cron: \"0 8 * * 1-5\"\n      timezone", "    cron: \"0 8 * * 1-5\"\n    timezone", [("wrong_type", 6, 5, "be a list, not a mapping of cron, timezone. Begin each item with '- '.")]),
    ("steps:\n  - id: answer", "steps:\n  answer:", [("syntax", 20, 3, "Check the indentation")]),
    ("    uses: send_email", "    uses: send_email\n    retry: 3", [("wrong_type", 22, 12, "be a mapping, not 3. Its keys are attempts, backoff, factor, max_backoff, jitter or on.")]),
    ("    uses: send_email", "    uses: send_email\n    retry: {attempts: 0}", [("invalid_value", 22, 23, "be at least 1, not 0.")]),
    ("    uses: send_email", "    uses: send_email\n    timeout: 30", [("invalid_value", 22, 14, "be a duration such as 90s, 5m or 1h30m, not 30. Write 30s if seconds are meant.")]),
    ("    uses: send_email", "    uses: send_email\n    timeout: 30 seconds", [("invalid_value", 22, 14, "be a duration such as 90s, 5m or 1h30m, not \"30 seconds\". Write 30s.")]),
    ("    uses: send_email", "    uses: send_email\n    timeout: soon", [("invalid_value", 22, 14, "be a duration such as 90s, 5m or 1h30m, not \"soon\". Its units are ms, s, m, h and d, without spaces.")]),
    ("    uses: send_email", "    uses: send_email\n    needs: answer", [("wrong_type", 22, 12, "be a list, not \"answer\". Write a list: [a, b], or a line with '- ' for each item.")]),
    ("role: user", "role: usr", [("invalid_choice", 18, 17, "Did you mean 'user'?")]),
    ("content: \"{{ inputs.question }}\"", "content: \"${{ inputs.question }}\"", [("expression_dollar", 19, 21, "$")]),
    ("seed: 1", "user: '${inputs.question}'", [("expression_dollar", 16, 14, "$")]),
    ("role: user", "rolle: user", [("missing", 18, 11, "role")]),
    ("seed: 1", "connection: openai", [("unknown_parameter", 16, 7, "Move it out of 'with'")]),
    ("choices[0].message.content", "choises[0].message.content", [("unknown_output", 26, 17, "Did you mean 'choices'?")]),
    ("max_tokens: 120", "max_tokens: 0", [("invalid_value", 15, 19, "be at least 1, not 0.")]),
    ("seed: 1", "temperature: 2.5", [("invalid_value", 16, 20, "be at most 2.0, not 2.5.")]),
    ("to: me@example.com", "to: ''", [("invalid_value", 24, 11, "not be empty.")]),
    ("to: me@example.com", "to: me@example.com\n      format: htm", [("invalid_choice", 25, 15, "be text, markdown or html, not \"htm\". Did you mean 'html'?")]),
    ("type: string", "type: str", [("invalid_choice", 3, 20, "Did you mean 'string'?")]),
    ("    uses: send_email", "    uses: send_email\n    on_error: ignore", [("invalid_choice", 22, 15, "be fail, continue or a mapping, not \"ignore\".")]),
    ("timezone: Europe/Zurich", "timezone: Europe/Zurich\n      overlap: skp", [("invalid_choice", 8, 16, "be skip, queue, cancel or allow, not \"skp\". Did you mean 'skip'?")]),
    ("seed: 1", "seed: 007", [("number", 16, 13, "Write '007' in quotes for text, 0o7 for an octal number, or leave the")]),
    ("seed: 1", "seed: 99999999999999999999", [("number", 16, 13, "Write it in quotes if it is an identifier.")]),
    ("seed: 1", "user: sk-a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1", [("credential", 16, 13, "A credential")]),
    ("seed: 1", "max_completion_tokens: 10", [("excludes", 15, 7, "Leave one of them out.")]),
    ("seed: 1", "top_logprobs: 2", [("requires", 16, 7, "needs 'logprobs'")]),
    ("seed: 1", "tool_choice: auto", [("requires", 16, 7, "Give 'tools', or leave 'tool_choice' out.")]),
    ("      to: me@example.com\n", "", [("missing", 23, 5, "Give it a value.")]),
    ("to: me@example.com", "to:", [("missing", 24, 7, "Give it a value.")]),
    ("    with:\n      to: me@example.com", "    with:\n    title:\n      to: me@example.com", [("no_value", 23, 5, "Give it one, or delete the key."), ("wrong_type", 25, 7, "be text, not a mapping of to, subject, body.")]),
    ("    connection: outbox\n", "", [("missing_connection", 20, 5, "Name one: connection: <name>.")]),
    ("connection: outbox", "connection: outbx", [("unknown_connection", 22, 17, "'outbx'")]),
    ("connection: outbox", "connection: local-model", [("wrong_connection", 22, 17, "'model_provider'")]),
    ("    connection: local-model\n    with:", "    connection: local-model\n    retry: {attempts: 2}\n    with:\n      num_retries: 2", [("two_retries", 12, 12, "Keep one of them.")]),
    ("    uses: send_email", "    uses: send_email\n    max_parallel: 2", [("needs_for_each", 22, 5, "Delete it.")]),
    ("    uses: send_email", "    uses: send_email\n    wait: {for: 1s}", [("exactly_one", 22, 5, "Delete all but one.")]),
    ("timezone: Europe/Zurich", "timezone: Europe/Zurich\n      every: 1h", [("exactly_one", 8, 7, "Delete all but one.")]),
    ("  - id: answer\n", "  - id: answer\n    needs: [mail]\n", [("cycle", 10, 5, "so it needs the step before it; write 'needs: []'")]),
    ("    uses: send_email", "    uses: send_email\n    needs: [anser]", [("unknown_step", 22, 13, "Did you mean 'answer'?")]),
    ("    uses: send_email", "    uses: send_email\n    needs: [mail]", [("cycle", 22, 5, "Take one of them out of 'needs'.")]),
    ("seed: 1\n      messages:\n        - role: user\n          content: \"{{ inputs.question }}\"", "response_format: {type: json_object}\n      messages:\n        - role: user\n          content: Why?", [("bad_response_format", 16, 24, "Ask for JSON in a message.")]),
    ("\"0 8 * * 1-5\"", "\"0 8 * *\"", [("cron", 6, 13, "Write minute, hour, day of month, month, day of week: '0 8 * * 1-5'.")]),
    ("\"0 8 * * 1-5\"", "\"61 8 * * MO\"", [("cron", 6, 13, "the minute cannot be \"61\". It is 0 to 59"), ("cron", 6, 23, "the day of week cannot be \"MO\". It is 0 to 7 or SUN to SAT")]),
    ("\"0 8 * * 1-5\"", "\"0 8 31 2 *\"", [("cron", 6, 18, "that day never comes in that month")]),
    ("Europe/Zurich", "Europe/Zürich", [("timezone", 7, 17, "Did you mean 'Europe/Zurich'?")]),
    ("Europe/Zurich", "CEST", [("timezone", 7, 17, "Write an IANA name such as Europe/Zurich or UTC.")]),
    ("steps.answer", "steps.anser", [("unknown_step", 26, 17, "Did you mean 'answer'?")]),
    ("steps.mail", "steps.mial", [("unknown_step", 28, 11, "Did you mean 'mail'?")]),
    ("body: \"{{ steps.answer.output.", "body: \"{{ steps.answer.", [("unknown_name", 26, 17, "Did you mean steps.answer.output.choices?")]),
    ("inputs.question }}", "inputs.qestion }}", [("unknown_input", 19, 24, "Did you mean 'question'?")]),
    ("inputs.question }}", "input.question }}", [("unknown_name", 19, 24, "Did you mean 'inputs'?")]),
    ("inputs.question }}", "steps.mail.output.message_id }}", [("later_step", 19, 24, "'mail'")]),
    ("| date(", "| dat(", [("expression_name", 25, 47, "Did you mean 'date'?")]),
    ("inputs.question }}", "inputs.question }", [("expression_syntax", 19, 40, "a single `}` does not close")]),
    ("body: \"{{ steps.answer.output.choices[0].message.content }}\"", "body: |\n        Hello,\n\n        {{ steps.answr.output }}", [("unknown_step", 29, 12, "Did you mean 'answer'?")]),
    ("body: \"{{ steps.answer.output.choices[0].message.content }}\"", "body: >-\n        Hello,\n        {{ steps.answer.output | uper }}", [("expression_name", 28, 34, "Did you mean 'upper'?")]),
    ("body: \"{{ steps.answer.output.choices[0].message.content }}\"", "body: |\n        {% if steps.answer.output %}\n        yes", [("expression_syntax", 27, 12, "`{% endif %}` is missing")]),
    ("    uses: send_email", "    uses: send_email\n    if: inputs.question = 'a'", [("expression_syntax", 22, 25, "Write `==`.")]),
    ("id: answer\n", "id: my-answer\n", [("unknown_step", 26, 17, "Did you mean 'my-answer'?")]),
    ("content: \"{{ inputs.question }}\"", "content: {{ inputs.question }}", [("unquoted_template", 19, 20, "Quote the template: \"{{ inputs.question }}\"")]),
    ("subject: \"Answer of", "subject: Answer: {{ run.id }}\n      x: \"Answer of", [("unquoted_template", 25, 16, "Quote the template: \"Answer: {{ run.id }}\"")]),
    ("    uses: send_email", "\tuses: send_email", [("tab", 21, 1, "Replace the tab by spaces.")]),
    ("      model: smollm2", "     model: smollm2", [("syntax", 14, 6, "begins in column 6; the keys of the mapping of line 9 begin in column 5")]),
    ("      model: smollm2", "        model: smollm2", [("syntax", 14, 9, "continues the value above it")]),
    ("  - id: mail", "   - id: mail", [("syntax", 20, 4, "begins in column 4; the items of the list of line 9 begin in column 3")]),
    ("      model: smollm2", "      model:smollm2", [("syntax", 14, 12, "Put a space after the ':'.")]),
    ("        - role: user", "        -role: user", [("syntax", 18, 9, "Put a space after the '-'.")]),
    ("to: me@example.com", "to: @me", [("syntax", 24, 11, "Put it in quotes: \"@me\".")]),
    ("cron: \"0 8 * * 1-5\"", "cron: * * * * *", [("syntax", 6, 13, "Put it in quotes: \"* * * * *\".")]),
    ("default: Why backups?}", "default: Why: backups?}", [("syntax", 3, 40, "Put the value in quotes.")]),
    ("to: me@example.com", "to: \"me@example.com", [("indentation", 24, 11, "Write the closing quote, or indent line 25 by 7 spaces.")]),
    ("to: me@example.com", "to: [me@example.com", [("syntax", 24, 11, "Write ']' at its end, and ',' between its items.")]),
    ("to: me@example.com", "to: \"C:\\Users\"", [("syntax", 24, 16, "Write a backslash twice, or use single quotes.")]),
    ("to: me@example.com", "to: &me me@example.com", [("anchor", 24, 11, "Write the value where it is used.")]),
    ("to: me@example.com", "to: !env ME", [("tag", 24, 11, "Delete the tag.")]),
    ("outputs:", "---\noutputs:", [("second_document", 27, 1, "second document")]),
]  # fmt: skip


def test_the_sound_document_is_sound(core_registry: Registry) -> None:
    """Nothing is told of a document without a mistake."""
    assert told(SOUND, core_registry) == ()


@pytest.mark.parametrize(("sound", "mistaken", "expected"), MISTAKES)
def test_a_mistake_is_told_with_its_place_and_remedy(
    sound: str, mistaken: str, expected: list[tuple[str, int, int, str]], core_registry: Registry
) -> None:
    """One mistake is told once, where it stands, with what to do; what only follows from it is not told."""
    found = told(SOUND.replace(sound, mistaken, 1), core_registry)

    assert [(problem.code, problem.where.line, problem.where.column) for problem in found] == [
        (code, line, column) for code, line, column, _ in expected
    ]
    for problem, (_, _, _, words) in zip(found, expected, strict=True):
        assert words in f"{problem.message} {problem.remedy or ''}"
        assert problem.where.file == "w.yaml"
        assert problem.message.endswith((".", "?"))


@pytest.mark.parametrize("count", [2, 6])
def test_mistakes_of_all_kinds_are_told_together(count: int, core_registry: Registry) -> None:
    """Keys, names, types, rules, schedules and expressions: none of them hides another."""
    changes = [
        ("inputs:", "inptus:", "unknown_key"),
        ("Europe/Zurich", "Mars", "timezone"),
        ("max_tokens: 120", "max_tokens: many", "wrong_type"),
        ("inputs.question", "inputs.qestion", "unknown_input"),
        ("uses: send_email", "uses: send_emial\n    timeout: 5", "unknown_action"),
        ("id: mail", "id: Mail", "invalid_value"),
    ][:count]
    text = SOUND
    for sound, mistaken, _ in changes:
        text = text.replace(sound, mistaken, 1)

    assert {code for _, _, code in changes} == {problem.code for problem in told(text, core_registry)}
