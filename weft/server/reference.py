"""The page that tells the API: made of its OpenAPI document, folded with `<details>`, searched by the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Final

METHODS: Final = ("get", "post", "put", "patch", "delete")
REF: Final = "#/components/schemas/"
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    facts: Mapping[str, Any]

    @property
    def tag(self) -> str:
        return str((self.facts.get("tags") or ["other"])[0])

    def matches(self, words: list[str]) -> bool:
        text = " ".join(
            str(part)
            for part in (
                self.method,
                self.path,
                self.tag,
                self.facts.get("operationId"),
                self.facts.get("summary"),
                self.facts.get("description"),
                *(parameter["name"] for parameter in self.facts.get("parameters", ())),
            )
        ).lower()
        return all(word in text for word in words)


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Yield every operation of an OpenAPI document, as it is listed there."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield Operation(method.upper(), path, methods[method])


def render(document: Mapping[str, Any], sought: str = "") -> str:
    """Return the body of the page.

    Args:
        document: OpenAPI 3.1.
        sought: Words; only operations that have them all are shown, unfolded.
    """
    words = sought.lower().split()
    found = [each for each in operations(document) if each.matches(words)]
    tags: dict[str, list[Operation]] = {}
    for each in found:
        tags.setdefault(each.tag, []).append(each)
    sections = "".join(_section(tag, members, is_open=bool(words)) for tag, members in tags.items())
    if not found:
        sections = "<p>Nothing has these words.</p>"
    index = "".join(
        f'<li><a href="#{escape(tag)}">{escape(tag)}</a> <span>{len(tags[tag])}</span></li>' for tag in tags
    )
    schemas = document.get("components", {}).get("schemas", {})
    return f"""{_intro(document, sought, len(found))}
<div class="columns">
<nav aria-label="Parts of the API"><ul>{index}<li><a href="#schemas">schemas</a> <span>{len(schemas)}</span></li></ul></nav>
<div>{sections}{_schemas(schemas)}</div>
</div>"""


def _intro(document: Mapping[str, Any], sought: str, count: int) -> str:
    info = document["info"]
    return f"""<p class="lead">{escape(info.get("description", ""))}</p>
<p>Version {escape(info["version"])} · <a href="/api/openapi.json">openapi.json</a> ·
send <code>Authorization: Bearer weft_…</code>; tokens come from <code>weft tokens create</code>.
Errors are <code>application/problem+json</code> (<a href="#schema-ProblemDetails">ProblemDetails</a>), with the codes of
the command line.</p>
<form class="search" role="search" method="get">
<input type="search" name="q" value="{escape(sought)}" aria-label="Search the API" placeholder="Search: run, schedule, token">
<button>Search</button>
<span class="quiet" role="status">{count} {"operation" if count == 1 else "operations"}</span>
</form>"""


def _section(tag: str, members: list[Operation], *, is_open: bool) -> str:
    inner = "".join(_operation(each, is_open=is_open) for each in members)
    return f'<section id="{escape(tag)}"><h2>{escape(tag)}</h2>{inner}</section>'


def _operation(each: Operation, *, is_open: bool) -> str:
    facts = each.facts
    name = str(facts.get("operationId", ""))
    summary, _, more = str(facts.get("description") or facts.get("summary", "")).partition("\n")
    parts = [
        f"<p>{escape(more.strip())}</p>" if more.strip() else "",
        _parameters(facts.get("parameters", ())),
        _body(facts.get("requestBody")),
        _answers(facts.get("responses", {})),
    ]
    needs = f' <span class="scope">{escape(str(facts["x-scope"]))}</span>' if facts.get("x-scope") else ""
    return f"""<details id="{escape(name)}"{" open" if is_open else ""}>
<summary><span class="method {each.method.lower()}">{each.method}</span> <code>{_path(each.path)}</code>
<span class="summary">{escape(summary)}</span>{needs}</summary>
<div class="inside">{"".join(parts)}</div>
</details>"""


def _path(path: str) -> str:
    """Return a path that may break after its slashes."""
    return escape(path).replace("/", "/<wbr>")


def _parameters(parameters: Any) -> str:
    rows = "".join(
        _row(each["name"], each.get("schema", {}), bool(each.get("required")), each.get("description"), each["in"])
        for each in parameters
    )
    return f"<h3>Parameters</h3><table>{rows}</table>" if rows else ""


def _body(body: Any) -> str:
    if not body:
        return ""
    kinds = "".join(
        f"<p><code>{escape(kind)}</code> {_type(content.get('schema', {}))}</p>"
        for kind, content in body.get("content", {}).items()
    )
    return f"<h3>Body</h3>{kinds}"


def _answers(answers: Mapping[str, Any]) -> str:
    rows = []
    for status, answer in answers.items():
        if status in {"4XX", "5XX"}:  # the same everywhere, and told at the top
            continue
        kinds = ", ".join(
            f"{_type(content.get('schema', {}))}"
            + ("" if kind == "application/json" else f" <code>{escape(kind)}</code>")
            for kind, content in answer.get("content", {}).items()
        )
        rows.append(
            f"<tr><th scope='row'>{escape(status)}</th><td>{kinds}</td><td>{escape(answer['description'])}</td></tr>"
        )
    return f"<h3>Answers</h3><table>{''.join(rows)}</table>" if rows else ""


def _schemas(schemas: Mapping[str, Schema]) -> str:
    inner = "".join(
        f"""<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code>
<span class="summary">{escape(_first_line(schema))}</span></summary><div class="inside">{_schema(schema)}</div></details>"""
        for name, schema in schemas.items()
    )
    return f'<section id="schemas"><h2>schemas</h2>{inner}</section>'


def _schema(schema: Schema) -> str:
    required = set(schema.get("required", ()))
    properties = schema.get("properties")
    if properties is None:
        return f"<p>{_type(schema)}</p>"
    rows = "".join(_row(name, each, name in required, each.get("description")) for name, each in properties.items())
    return f"<table>{rows}</table>"


def _row(name: str, schema: Schema, is_required: bool, description: Any, place: str = "") -> str:
    must = "<strong>required</strong> " if is_required else ""
    told = escape(str(description or ""))
    where = f' <span class="quiet">{escape(place)}</span>' if place else ""
    return (
        f"<tr><th scope='row'><code>{escape(name)}</code>{where}</th><td>{_type(schema)}</td><td>{must}{told}</td></tr>"
    )


def _type(schema: Schema) -> str:
    """Return a type in a few words, with links to the schemas that it names."""
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(REF)
        return f'<a href="#schema-{escape(name)}">{escape(name)}</a>'
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(_type(each) for each in schema[word])
    if "allOf" in schema:
        return " and ".join(_type(each) for each in schema["allOf"])
    if "const" in schema:
        return f"<code>{escape(repr(schema['const']))}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type(schema['additionalProperties'])}"
    kinds = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return escape(kinds) + escape(f" ({schema['format']})" if "format" in schema else "") + escape(_limits(schema))


def _limits(schema: Schema) -> str:
    words = {
        "minimum": "≥ {}",
        "exclusiveMinimum": "> {}",
        "maximum": "≤ {}",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
        "minItems": "at least {}",
        "maxItems": "at most {}",
    }
    told = [text.format(schema[name]) for name, text in words.items() if name in schema]
    return f", {', '.join(told)}" if told else ""


def _first_line(schema: Schema) -> str:
    return str(schema.get("description", "")).partition("\n")[0]
