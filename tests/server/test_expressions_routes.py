from __future__ import annotations

from typing import Any

from premises import Served

from weft.redaction import Secret

RUN = """\
name: seen
inputs:
  topic: {type: string, default: news}
variables:
  greeting: Hello
steps:
  - id: ask
    uses: set_values
    with:
      values: {answer: "All about {{ inputs.topic }}", rows: [{id: 1, who: Ada}, {id: 2, who: Bo}]}
  - id: each
    for_each: "{{ steps.ask.output.rows }}"
    steps:
      - id: name
        uses: set_values
        with: {values: {told: "{{ item.who }}"}}
      - id: say
        uses: log
        with: {message: "{{ steps.name.output.told }}"}
  - id: my-step
    if: steps.ask.output.answer != ''
    uses: log
    with: {message: "{{ steps.ask.output.answer }}"}
"""
FIELD = ["steps", 2, "with", "message"]


async def run_it(served: Served, **inputs: str) -> str:
    """Run the workflow to its end and return its id."""
    served.write("seen", RUN)
    runtime = served.house.runtime
    planned = await runtime.plan_of("seen")
    report = await runtime.run(planned, runtime.inputs(planned, inputs))
    assert report.state == "succeeded"
    return report.run_id


async def preview(served: Served, template: str, at: list[str | int] | None = None, **more: Any) -> dict[str, Any]:
    client = await served.client("view")
    asked = {"workflow": "seen", "at": at or FIELD, "template": template, **more}
    return dict((await client.post("/api/v1/expressions/preview", json=asked)).raise_for_status().json())


async def complete(served: Served, template: str, at: list[str | int] | None = None, **more: Any) -> dict[str, Any]:
    """Return what may stand at the `|` of a template."""
    client = await served.client("view")
    cursor = template.index("¦")
    asked = {"workflow": "seen", "at": at or FIELD, "template": template.replace("¦", ""), "cursor": cursor, **more}
    return dict((await client.post("/api/v1/expressions/complete", json=asked)).raise_for_status().json())


def labels(found: dict[str, Any], kind: str = "member") -> list[str]:
    return [each["label"] for each in found["items"] if each["kind"] == kind]


async def test_preview_of_a_run(served: Served) -> None:
    """A field comes to what it came to in the last run, or in the one that is named, with its type."""
    first = await run_it(served, topic="weather")
    await run_it(served, topic="sport")

    last = await preview(served, "→ {{ steps.ask.output.answer }}")
    named = await preview(served, "{{ steps.ask.output.rows | length }}", data={"run": first})
    older = await preview(served, "{{ inputs.topic }}", data={"run": first})

    assert (last["ok"], last["text"], last["type"]) == (True, "→ All about sport", "string")
    assert last["uses"] == [{"name": "steps.ask.output.answer", "offset": 5, "source": "run"}]
    assert (named["value"], named["type"], named["run"]) == (2, "integer", first)
    assert older["value"] == "weather"


async def test_preview_without_a_run(served: Served) -> None:
    """Before the first run values come from what is given, from pins, or from examples, and it is told which."""
    served.write("seen", RUN)
    client = await served.client("view", "edit")
    given = await preview(served, "{{ inputs.topic }} {{ variables.greeting }}", data={"inputs": {"topic": "art"}})
    example = await preview(served, "{{ steps.ask.state }}")
    nothing = await preview(served, "{{ steps.ask.output }}", data={"examples": False})
    await client.put("/api/v1/workflows/seen/pins/ask", json={"output": {"answer": "pinned"}})
    pinned = await preview(served, "{{ steps.ask.output.answer }}")

    assert (given["value"], given["run"]) == ("art Hello", None)
    assert (example["value"], example["uses"][0]["source"]) == ("succeeded", "example")
    assert (nothing["ok"], nothing["problems"][0]["code"]) == (False, "expression_missing")
    assert (pinned["value"], pinned["uses"][0]["source"]) == ("pinned", "pin")


async def test_preview_in_a_loop(served: Served) -> None:
    """Inside a loop `item` is the item of a turn, and the steps beside are those of the same turn."""
    await run_it(served)
    inner: list[str | int] = ["steps", 1, "steps", 1, "with", "message"]

    first = await preview(served, "{{ item.who }} {{ index }} {{ steps.name.output.told }}", inner)
    second = await preview(served, "{{ item.who }} {{ index }} {{ steps.name.output.told }}", inner, data={"turn": 1})
    outside = await preview(served, "{{ item.who }}")

    assert (first["value"], second["value"]) == ("Ada 0 Ada", "Bo 1 Bo")
    assert (outside["ok"], outside["problems"][0]["code"]) == (False, "unknown_name")


async def test_preview_of_conditions(served: Served) -> None:
    """A condition and a `for_each` may stand without braces; a loop's own item is not among their names."""
    await run_it(served)

    condition = await preview(served, "steps.ask.output.rows | length > 1", ["steps", 2, "if"])
    wrong = await preview(served, "steps.ask.output.rows", ["steps", 2, "if"])
    items = await preview(served, "steps.ask.output.rows", ["steps", 1, "for_each"])
    own = await preview(served, "item", ["steps", 1, "for_each"])

    assert (condition["value"], items["type"]) == (True, "array")
    assert wrong["problems"][0]["code"] == "expression_condition"
    assert (own["problems"][0]["code"], own["problems"][0]["where"]["column"]) == ("unknown_name", 1)


async def test_preview_tells_faults(served: Served) -> None:
    """A fault is told with line and column of the template; nothing is evaluated that cannot run."""
    await run_it(served)

    syntax = await preview(served, "a\n  {{ inputs.topic | uper }}")
    later = await preview(served, "{{ steps['my-step'].output }}", ["steps", 0, "with", "values"])
    missing = await preview(served, "{{ steps.ask.output.nothing }}")
    much = await preview(served, "{{ range(10000) | list | join('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx') }}")

    assert [(each["problems"][0]["code"], each["ok"]) for each in (syntax, later, missing)] == [
        ("expression_name", False),
        ("later_step", False),
        ("expression_missing", False),
    ]
    assert (syntax["problems"][0]["where"]["line"], syntax["problems"][0]["where"]["column"]) == (2, 21)
    assert much["problems"][0]["code"].startswith("expression_")


async def test_preview_escapes(served: Served) -> None:
    """What is printed into HTML is escaped as it will be."""
    text = """\
name: seen
inputs: {name: {}}
steps:
  - id: mail
    uses: send_email
    connection: outbox
    with: {to: a@example.com, subject: s, body: "x", format: html}
"""
    served.write("seen", text)
    body = await preview(
        served, "<b>{{ inputs.name }}</b>", ["steps", 0, "with", "body"], data={"inputs": {"name": "<i>"}}
    )

    assert body["value"] == "<b>&lt;i&gt;</b>"


async def test_large_value(served: Served) -> None:
    """Of a large value its beginning is sent."""
    served.write("seen", RUN)
    found = await preview(served, "{{ inputs.topic }}", data={"inputs": {"topic": "x" * 50_000}})

    assert (found["ok"], found["cut"], found["value"], len(found["text"])) == (True, True, None, 20_000)


async def test_unsaved(served: Served) -> None:
    """The document as it is being written counts; while it cannot be read, the saved one does."""
    await run_it(served)
    written = RUN.replace("  greeting: Hello", "  greeting: Hello\n  farewell: Bye")

    new = await preview(served, "{{ variables.farewell }}", text=written)
    torn = await preview(served, "{{ variables.greeting }}", text=written + "\n  - [")

    assert (new["value"], torn["value"]) == ("Bye", "Hello")


async def test_complete_names(served: Served) -> None:
    """At the begin of an expression stand the names of this place, steps after it not among them."""
    await run_it(served)

    names = await complete(served, "Hi {{ ¦ }}")
    steps = await complete(served, "{{ steps.¦ }}", ["steps", 1, "steps", 1, "with", "message"])
    outside = await complete(served, "Hi ¦ {{ x }}")

    assert labels(names, "name") == ["inputs", "steps", "run", "trigger", "variables"]
    assert (names["start"], names["end"], names["prefix"]) == (6, 6, "")
    assert labels(steps) == ["ask", "name"]
    assert outside["items"] == []


async def test_complete_values(served: Served) -> None:
    """Members come with the values and types of the last run, and only those that it had."""
    await run_it(served, topic="weather")

    found = await complete(served, "{{ steps.ask.output.an¦sw }}")
    rows = await complete(served, "{{ steps.ask.output.rows[0].¦ }}")

    answer = next(each for each in found["items"] if each["label"] == "answer")
    assert (found["start"], found["end"], found["prefix"]) == (20, 24, "an")
    assert (answer["type"], answer["value"]) == ("string", '"All about weather"')
    assert answer["note"].startswith("run ")
    assert labels(rows) == ["id", "who"]


async def test_complete_before_a_run(served: Served) -> None:
    """Before a step has run its declared fields are told, and that it has not run."""
    text = "name: seen\nsteps:\n  - id: get\n    uses: http_request\n    with: {url: 'https://example.com'}\n"
    served.write("seen", text + "  - id: tell\n    uses: log\n    with: {message: x}\n")

    at: list[str | int] = ["steps", 1, "with", "message"]
    found = await complete(served, "{{ steps.get.output.¦", at, data={"examples": False})
    examples = await complete(served, "{{ steps.get.output.¦", at)

    status = next(each for each in found["items"] if each["label"] == "status")
    assert (status["type"], status["value"], status["note"]) == ("integer", None, "not run yet")
    assert next(each for each in examples["items"] if each["label"] == "status")["note"] == "example"


async def test_complete_hyphens(served: Served) -> None:
    """A name with a hyphen goes into brackets, whichever way it was begun."""
    await run_it(served)
    at: list[str | int] = ["outputs", "x"]

    dot = await complete(served, "{{ steps.¦ }}", at)
    bracket = await complete(served, "{{ steps['my¦'] }}", at)

    hyphen = next(each for each in dot["items"] if each["label"] == "my-step")
    assert (hyphen["insert"], hyphen["start"]) == ("['my-step']", 8)
    quoted = next(each for each in bracket["items"] if each["label"] == "my-step")
    assert (quoted["insert"], bracket["start"], bracket["end"]) == ("my-step']", 10, 14)


async def test_complete_filters(served: Served) -> None:
    """After a bar stand the filters, those that are for such a value first, with how they are called."""
    await run_it(served)

    of_list = await complete(served, "{{ steps.ask.output.rows | ¦ }}")
    tests = await complete(served, "{{ inputs.topic is ¦ }}")
    methods = await complete(served, "{{ inputs.topic.¦ }}")

    fits = [each["fits"] for each in of_list["items"]]
    assert fits == sorted(fits, reverse=True)
    assert of_list["items"][0]["kind"] == "filter"
    joined = next(each for each in of_list["items"] if each["label"] == "join")
    assert (joined["signature"], joined["fits"]) == ("join(d='', attribute?)", True)
    assert next(each for each in of_list["items"] if each["label"] == "upper")["fits"] is False
    assert "defined" in labels(tests, "test")
    assert "split()" in labels(methods, "method")


async def test_secrets_stay(served: Served) -> None:
    """What a run has on record of a secret is masked in previews and beside names."""
    canary = "canary-7f3a9b2c1d"
    await run_it(served, topic=canary)
    served.house.runtime.redactor.add(Secret(canary))
    client = await served.client("view", "edit")
    await client.put("/api/v1/workflows/seen/pins/my-step", json={"output": canary})

    texts = [
        str(await preview(served, "{{ steps.ask.output }} {{ inputs.topic }}")),
        str(await preview(served, "{{ inputs.topic[0] }}{{ inputs.topic[1:] }}")),
        str(await complete(served, "{{ steps.ask.output.¦ }}")),
        str(await complete(served, "{{ inputs.¦ }}")),
        str(await preview(served, "{{ steps['my-step'].output }}", ["outputs", "x"])),
        (await client.get("/api/v1/workflows/seen/pins")).text,
        str(await preview(served, "{{ steps['my-step'].output | reverse }}", ["outputs", "x"])),
        str(await preview(served, "{{ inputs.topic | reverse }}", data={"inputs": {"topic": canary}})),
    ]

    assert [canary in text or canary[::-1] in text for text in texts] == [False] * len(texts)


async def test_reference(served: Served) -> None:
    """The words of the language are all there, each with what it does."""
    client = await served.client("view")
    body = (await client.get("/api/v1/expressions/reference")).raise_for_status().json()

    assert {"join", "date", "default"} <= {each["name"] for each in body["filters"]}
    assert all(each["description"] for kind in body.values() for each in kind)


async def test_nowhere(served: Served) -> None:
    """A path where no expression stands is told as such."""
    client = await served.client("view")
    served.write("seen", RUN)
    for at in (["name"], ["inputs", "topic"], ["steps"], ["stepz", 0]):
        answer = await client.post(
            "/api/v1/expressions/preview", json={"workflow": "seen", "at": at, "template": "{{ 1 }}"}
        )

        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_path")
