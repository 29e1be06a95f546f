"""The reference of an action, written from its manifest: for a terminal and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from weft.cli.terminal import clean, clean_line
from weft.manifest import Condition, Manifest, Parameter
from weft.plan.pasting import WIDTH, as_yaml, example
from weft.types import Json, JsonObject

EFFECTS = {
    "none": "none: a repeated call changes nothing anywhere",
    "read": "read: it asks another system and changes nothing there",
    "send": "send: it changes something outside that cannot be taken back",
}
RETRY = {
    "safe": "safe: another try does no harm",
    "guarded": "guarded: tried again only when nothing can have happened",
    "never": "never: it is not tried again",
}
LONGEST_VALUE = 120
"""Characters of an example or default in one line; longer ones are shown as a block."""


def text(manifest: Manifest, console: Console, width: int) -> list[Text]:
    """Return the reference as lines of at most `width` cells."""
    page = Page(console, width)
    page.add(Text.assemble((manifest.title, "bold"), (f"  {manifest.id}, version {manifest.version}", "dim")))
    page.add(clean_line(manifest.purpose))
    if manifest.description:
        page.add("")
        page.add(clean_line(manifest.description))
    page.add("")
    for name, value in _facts(manifest):
        page.add(Text.assemble((f"{name:<12}", "dim"), value), hanging=12)
    for title, parameters in _groups(manifest):
        page.heading(title)
        for parameter in parameters:
            page.add("")
            page.parameter(parameter)
    page.heading("Output")
    page.add("")
    for name, of, description in _output(manifest.output.json_schema):
        page.add(Text.assemble((name, "bold"), "  ", (of, "cyan")), hanging=4)
        page.add(description, 4)
    page.heading("Example")
    page.add("")
    page.lines += [Text(line) for line in clean(example(manifest, width)).split("\n")]
    return page.lines


class Page:
    """Lines for a terminal."""

    def __init__(self, console: Console, width: int) -> None:
        self.lines: list[Text] = []
        self._console, self._width = console, width
        self._rule = "-" if console.options.ascii_only else "─"

    def add(self, text: Text | str, inset: int = 0, *, hanging: int = 0) -> None:
        """Add a paragraph, wrapped and set in, its further lines `hanging`; an inset one that is empty adds nothing."""
        text = Text(text) if isinstance(text, str) else text
        if not text.plain and inset:
            return
        for number, line in enumerate(text.wrap(self._console, max(20, self._width - inset - hanging))):
            line.rstrip()
            self.lines.append(Text(" " * (inset + (hanging if number else 0))).append_text(line))

    def heading(self, title: str) -> None:
        self.add("")
        self.add(Text.assemble((title, "bold"), " ", (self._rule * (self._width - len(title) - 1), "dim")))

    def parameter(self, parameter: Parameter) -> None:
        line = Text.assemble((parameter.name, "bold"), "  ")
        if _as_words(parameter.title) != _as_words(parameter.name):  # descriptions speak of others by their titles
            line.append(f"{clean_line(parameter.title)}  ", "dim")
        self.add(line.append(clean_line(", ".join(kind(parameter))), "cyan"), hanging=4)
        self.add(clean_line(parameter.description), 4)
        for name, value in _values(parameter, self._width - 6):
            if "\n" not in value:
                self.add(Text.assemble((f"{name}: ", "dim"), clean(value)), 4)
                continue
            self.add(Text(f"{name}:", "dim"), 4)
            self.lines += [Text(f"      {line}") for line in clean(value).split("\n")]
        for rule in rules(parameter):
            self.add(Text(clean_line(rule), "yellow"), 4)


def markdown(manifest: Manifest) -> str:
    """Return the reference as Markdown."""
    lines = [f"# {manifest.title}", "", f"`{manifest.id}`, version {manifest.version}", "", manifest.purpose, ""]
    if manifest.description:
        lines += [manifest.description.strip(), ""]
    lines += [f"- {name}: {value}" for name, value in _facts(manifest)]
    for title, parameters in _groups(manifest):
        lines += ["", f"## {title}"]
        for parameter in parameters:
            lines += ["", f"### `{parameter.name}`", "", f"{parameter.title}: {', '.join(kind(parameter))}.", ""]
            lines += [parameter.description.strip()]
            lines += [
                f"\n- {name}: `{value}`" if "\n" not in value else _block(name, value)
                for name, value in _values(parameter)
            ]
            lines += [f"\n- {rule}" for rule in rules(parameter)]
    lines += ["", "## Output", ""]
    for name, of, description in _output(manifest.output.json_schema):
        lines.append(f"- `{name}`, {of}" + (f": {description}" if description else ""))
    return "\n".join([*lines, "", "## Example", "", "```yaml", example(manifest), "```"])


def _as_words(text: str) -> list[str]:
    return text.lower().replace("_", " ").replace("-", " ").split()


def kind(parameter: Parameter) -> Iterator[str]:
    """Yield what a value must be: types, whether it must be given, bounds, allowed values."""
    yield " or ".join(parameter.types)
    if parameter.required:
        yield "required"
    if parameter.secret:
        yield "secret"
    if parameter.literal:
        yield "no expressions"
    yield from _bounds("", parameter.minimum, parameter.maximum)
    units = [name for of, name in (("string", "characters"), ("array", "items")) if of in parameter.types]
    yield from _bounds(f" {' or '.join(units)}", parameter.min_length, parameter.max_length)
    if parameter.pattern:
        yield f"matching {parameter.pattern}"
    allowed = parameter.enum or (parameter.options.values if parameter.options and parameter.options.closed else None)
    if allowed:
        yield "one of " + ", ".join(_plain(value) for value in allowed)
    elif parameter.options and parameter.options.values:
        yield "for example " + ", ".join(_plain(value) for value in parameter.options.values)


def rules(parameter: Parameter) -> Iterator[str]:
    """Yield the rules between this parameter and others."""
    for condition in parameter.requires:
        yield f"requires {_condition(condition)}"
    if parameter.excludes:
        yield f"not together with {', '.join(parameter.excludes)}"
    if parameter.visible_when:
        yield f"for {_condition(parameter.visible_when)}"


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "Connection", f"of type {manifest.connection}" if manifest.connection else "none is needed"
    required = [parameter.name for parameter in manifest.all_parameters if parameter.required]
    yield "Required", ", ".join(required) or "nothing"
    yield "Effects", EFFECTS[manifest.effects]
    yield "Retries", RETRY[manifest.retry]


def _groups(manifest: Manifest) -> Iterator[tuple[str, Sequence[Parameter]]]:
    if manifest.parameters.basic:
        yield "Basic parameters", manifest.parameters.basic
    if manifest.parameters.advanced:
        yield "Advanced parameters", manifest.parameters.advanced


def _values(parameter: Parameter, width: int = WIDTH) -> Iterator[tuple[str, str]]:
    if parameter.default is not None:
        yield "default", _value(parameter.default, width)
    if parameter.example is not None and parameter.example != parameter.default:
        yield "example", _value(parameter.example, width)


def _value(value: Json, width: int) -> str:
    told = json.dumps(value, ensure_ascii=False)
    return told if len(told) <= LONGEST_VALUE or not isinstance(value, list | dict) else as_yaml(value, width)


def _block(name: str, value: str) -> str:
    return f"\n- {name}:\n\n```yaml\n{value}\n```"


def _bounds(unit: str, low: float | None, high: float | None) -> Iterator[str]:
    if (low, high) == (-(2**63), 2**63 - 1):
        yield "of 64 bits"
    elif low is not None and high is not None:
        yield f"{_number(low)} to {_number(high)}{unit}" if low != high else f"{_number(low)}{unit}"
    elif low is not None:
        yield "not empty" if unit and low == 1 else f"at least {_number(low)}{unit}"
    elif high is not None:
        yield f"at most {_number(high)}{unit}"


def _number(value: float) -> str:
    return f"{int(value):,}" if isinstance(value, int) or value.is_integer() else f"{value:,}"


def _condition(condition: Condition) -> str:
    if condition.values is None:
        return condition.parameter
    return f"{condition.parameter} {' or '.join(_plain(value) for value in condition.values)}"


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _output(schema: JsonObject, name: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield name, type and description of every member that a JSON Schema declares, down to the leaves."""
    properties, items = schema.get("properties"), schema.get("items")
    if name and (schema.get("description") or not isinstance(properties, dict)):
        yield name, _schema_type(schema), clean_line(str(schema.get("description", "")))
    if isinstance(properties, dict):
        for key, member in properties.items():
            if isinstance(member, dict):
                yield from _output(member, f"{name}.{key}" if name else key)
    if isinstance(items, dict) and isinstance(items.get("properties"), dict):
        yield from _output({**items, "description": None}, f"{name}[]")


def _schema_type(schema: dict[str, Any]) -> str:
    found = schema.get("type")
    if found is None and "enum" in schema:
        return "one of " + ", ".join(_plain(value) for value in schema["enum"])
    if found is None and "const" in schema:
        return json.dumps(schema["const"], ensure_ascii=False)
    forms = [form for key in ("anyOf", "oneOf") for form in schema.get(key, ()) if isinstance(form, dict)]
    if found is None and forms:
        return " or ".join(dict.fromkeys(map(_schema_type, forms)))
    return " or ".join(found) if isinstance(found, list) else str(found or "any")
