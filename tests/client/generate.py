"""Makes docs/openapi.json of the server's routes, and of that the client: models, operations, and all that is synchronous.

    python tests/client/generate.py

A test compares what is in the repository with what this makes.
"""

from __future__ import annotations

import builtins
import json
import keyword
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

ROOT: Final = Path(__file__).parents[2]
OPENAPI: Final = ROOT / "docs" / "openapi.json"
CLIENT: Final = ROOT / "weft" / "client"
SOURCES: Final = ("async_transport.py", "async_operations.py", "async_client.py")
"""What the synchronous client is made of."""

Schema = dict[str, Any]


def main() -> None:
    """Write all that is made."""
    OPENAPI.write_text(openapi(), encoding="utf-8")
    for name, text in client(json.loads(OPENAPI.read_text(encoding="utf-8"))).items():
        (CLIENT / name).write_text(text, encoding="utf-8")


def openapi() -> str:
    """Return the description of the API, as the routes say it."""
    from weft.server.app import create_app
    from weft.server.house import House

    described = create_app(cast(House, None)).openapi()
    return json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def client(described: Schema) -> dict[str, str]:
    """Return the made modules of the client by name."""
    described = plain(described)
    made = {"models.py": models(described), "async_operations.py": operations(described)}
    sources = {name: made.get(name) or (CLIENT / name).read_text(encoding="utf-8") for name in SOURCES}
    return made | {name.replace("async_", "sync_"): text for name, text in synchronous(sources).items()}


CHECKED: Final = frozenset(
    {"minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"}
    | {"pattern", "examples", "discriminator", "propertyNames", "multipleOf", "uniqueItems"}
)
"""What the server checks, and says so in words: the client's models leave it out."""


def plain(described: Any, *, names: bool = False) -> Any:
    """Return a description without what only the server checks, and any JSON value as one.

    Args:
        described: The description, or a part of it.
        names: Its keys are names of fields, not words of JSON Schema.
    """
    match described:
        case {"additionalProperties": False, **rest}:
            return plain(rest, names=names)
        case {"patternProperties": dict(patterns), **rest}:
            (value,) = patterns.values()
            return plain({**rest, "additionalProperties": value}, names=names)
        case {"$ref": "#/components/schemas/JsonValue"}:
            return {}
        case dict():
            kept = described if names else {k: v for k, v in described.items() if k not in CHECKED}
            if not names and isinstance(kept.get("title"), str):
                kept = {k: v for k, v in kept.items() if k != "title"}
            made = {k: plain(v, names=k in ("properties", "schemas")) for k, v in kept.items() if k != "JsonValue"}
            return made if names else with_empty(made)
        case list():
            return [plain(each) for each in described]
        case _:
            return described


def with_empty(schema: Schema) -> Schema:
    """Return a schema in which a list or mapping that may be left out is empty then, not null."""
    properties = schema.get("properties", {})
    for name, each in properties.items():
        if name not in schema.get("required", []) and "default" not in each and each.get("type") in EMPTY:
            properties[name] = {**each, "default": EMPTY[each["type"]]}
    return schema


EMPTY: Final[dict[str, Any]] = {"array": [], "object": {}}


# ---- models
def models(described: Schema) -> str:
    """Return the models of requests and answers, by datamodel-code-generator."""
    with tempfile.TemporaryDirectory() as place:
        given, made = Path(place) / "openapi.json", Path(place) / "models.py"
        given.write_text(json.dumps({**described, "paths": {}}), encoding="utf-8")
        options = [
            "--input-file-type=openapi",
            "--output-model-type=pydantic_v2.BaseModel",
            "--base-class=weft.client.base.Model",
            "--target-python-version=3.11",
            "--use-standard-collections",
            "--use-union-operator",
            "--use-schema-description",
            "--use-field-description",
            "--enum-field-as-literal=all",
            "--disable-timestamp",
            "--openapi-scopes=schemas",
            "--strict-nullable",
            "--disable-future-imports",
        ]
        subprocess.run(
            [sys.executable, "-m", "datamodel_code_generator", f"--input={given}", f"--output={made}", *options],
            check=True,
            capture_output=True,
            text=True,
        )
        text = made.read_text(encoding="utf-8")
    head = '"""Requests and answers. Made by tests/client/generate.py of docs/openapi.json."""\n\n'
    head += "# ruff: noqa: RUF012  pydantic copies defaults\n\n"
    body = text[text.index("from __future__") if "from __future__" in text else text.index("from ") :]
    if "from __future__" not in body:
        body = "from __future__ import annotations\n\n" + body
    return formatted(head + body, "models.py")


# ---- operations
def operations(described: Schema) -> str:
    """Return a class with a method for each operation."""
    lines = [
        '"""An operation of the API each. Made by tests/client/generate.py of docs/openapi.json."""',
        "",
        "from __future__ import annotations",
        "",
        "from collections.abc import AsyncIterator, Sequence",
        "from typing import Any, Literal",
        "",
        "from weft.client import models",
        "from weft.client.asking import quoted",
        "from weft.client.async_transport import AsyncTransport",
        "",
        "",
        "class AsyncOperations(AsyncTransport):",
        '    """What a server can be asked for."""',
    ]
    for path, method, operation in sorted(each_operation(described), key=lambda each: each[2]["operationId"]):
        lines += ["", *Operation(described, path, method, operation).lines()]
    return formatted("\n".join(lines) + "\n", "async_operations.py")


def each_operation(described: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            good: Schema = next((answers[status] for status in sorted(answers) if status.startswith("2")), {})
            content = good.get("content", {})
            if path.startswith("/api/") and "text/event-stream" not in content:
                yield path, method, operation


class Operation:
    """A method of the client."""

    def __init__(self, described: Schema, path: str, method: str, operation: Schema) -> None:
        self._described = described
        self._path = path
        self._method = method.upper()
        self._of = operation
        self._parameters = [self._resolved(each) for each in operation.get("parameters", [])]
        self.name: str = operation["operationId"]

    def lines(self) -> Iterator[str]:
        yield from self._method_lines(self.name, self._answer(), self._call())
        item = self._item()
        if item is not None and any(each["name"] == "cursor" for each in self._parameters):
            yield ""
            yield from self._every(item)

    def _method_lines(self, name: str, answer: str, body: list[str], *, leave: tuple[str, ...] = ()) -> Iterator[str]:
        first = [f"{_name(each['name'])}: {self._type(each['schema'])}" for each in self._in("path")]
        rest = []
        kind = self._body()
        if kind is not None:
            first.append(
                f"body: {kind.removesuffix(' | None')}"
                + ("" if self._of["requestBody"].get("required") else " | None = None")
            )
        for each in (*self._in("query"), *self._in("header")):
            if each["name"] in leave:
                continue
            told = self._type(each["schema"])
            if each.get("required"):
                rest.append(f"{_name(each['name'])}: {told}")
            else:
                rest.append(f"{_name(each['name'])}: {told.removesuffix(' | None')} | None = None")
        given = ", ".join(["self", *first, *(["*", *rest] if rest else [])])
        yield f"    async def {name}({given}) -> {answer}:"
        yield f'        """{self._told()}"""'
        yield from body

    def _call(self) -> list[str]:
        parts = [repr(self._method), self._address(), self._kind()]
        query = ", ".join(f"{each['name']!r}: {_name(each['name'])}" for each in self._in("query"))
        if query:
            parts.append(f"query={{{query}}}")
        headers = [each for each in self._in("header") if each["name"].lower() != "last-event-id"]
        if headers:
            told = ", ".join(f"{each['name']!r}: {_name(each['name'])}" for each in headers)
            parts.append(f"headers={{{told}}}")
        if self._body() is not None:
            parts.append("body=body")
        if key := next((each["name"] for each in headers if each["name"].lower() == "idempotency-key"), None):
            parts.append(f"once_key={key!r}")
        call = f"self._send({', '.join(parts)})"
        if self._answer() == "None":
            return [f"        await {call}"]
        return [f"        found: {self._answer()} = await {call}", "        return found"]

    def _every(self, item: str) -> Iterator[str]:
        """Yield the lines of a method that yields all items, page by page."""
        given = [f"{_name(each['name'])}" for each in self._in("path")]
        kept = [each for each in self._in("query") if each["name"] != "cursor"]
        given += [f"{_name(each['name'])}={_name(each['name'])}" for each in (*kept, *self._in("header"))]
        body = [
            "        cursor: str | None = None",
            "        while True:",
            f"            page = await self.{self.name}({', '.join([*given, 'cursor=cursor'])})",
            "            for item in page.items:",
            "                yield item",
            "            cursor = page.next",
            "            if cursor is None:",
            "                return",
        ]
        name = "each_of_" + self.name.removeprefix("list_")
        yield from self._method_lines(name, f"AsyncIterator[{item}]", body, leave=("cursor",))

    # ---- parts
    def _in(self, place: str) -> list[Schema]:
        return [each for each in self._parameters if each["in"] == place]

    def _told(self) -> str:
        text = str(self._of.get("description") or self._of.get("summary") or self.name).split("\n\n")[0]
        return " ".join(text.split()).replace("\\", "\\\\").rstrip('"')

    def _address(self) -> str:
        if "{" not in self._path:
            return repr(self._path)
        inner = re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: f"{{quoted({_name(found[1])})}}", self._path)
        return f'f"{inner}"'

    def _body(self) -> str | None:
        content = self._of.get("requestBody", {}).get("content", {})
        return self._type(content["application/json"]["schema"]) if "application/json" in content else None

    def _good(self) -> Schema | None:
        """Return the schema of the answer, None when there is none."""
        answers = self._of["responses"]
        good: Schema = next((answers[status] for status in sorted(answers) if status.startswith("2")), {})
        content = good.get("content", {})
        if not content:
            return None
        if "application/json" in content:
            return cast(Schema, content["application/json"]["schema"])
        return {"format": "binary"}

    def _answer(self) -> str:
        schema = self._good()
        return "None" if schema is None else self._type(schema)

    def _kind(self) -> str:
        return self._answer()

    def _item(self) -> str | None:
        """Return the type of a page's items, None for other answers."""
        schema = self._resolved(self._good() or {})
        items = schema.get("properties", {}).get("items", {}).get("items")
        return self._type(items) if items and "next" in schema["properties"] else None

    def _type(self, schema: Schema) -> str:
        if "$ref" in schema:
            return f"models.{_class(schema['$ref'].rsplit('/', 1)[1])}"
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return " | ".join(dict.fromkeys(self._type(each) for each in schema[key]))
        if "enum" in schema:
            return f"Literal[{', '.join(map(repr, schema['enum']))}]"
        if "const" in schema:
            return f"Literal[{schema['const']!r}]"
        if schema.get("format") == "binary":
            return "bytes"
        match schema.get("type"):
            case "array":
                return f"list[{self._type(schema.get('items', {}))}]"
            case "object":
                inner = schema.get("additionalProperties")
                return f"dict[str, {self._type(inner)}]" if isinstance(inner, dict) else "dict[str, Any]"
            case str() as name:
                return {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}[name]
        return "Any"

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            found: Any = self._described
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema


def _name(text: str) -> str:
    """Return a parameter's name as Python takes it."""
    name = re.sub(r"\W", "_", text).lower()
    return f"{name}_" if keyword.iskeyword(name) or hasattr(builtins, name) else name


def _class(name: str) -> str:
    """Return the class that datamodel-code-generator makes of a schema's name."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"\W|_", name) if part)


# ---- the synchronous half
UNASYNC = """
import json, sys, unasync
before, after, names, files = json.loads(sys.argv[1])
unasync.unasync_files(files, [unasync.Rule(fromdir=before, todir=after, additional_replacements=names)])
"""


def synchronous(sources: Mapping[str, str]) -> dict[str, str]:
    """Return modules without `async` and `await`, by unasync: in a process of its own, as it loads setuptools, which warns."""
    names = {
        "AsyncClient": "Client",
        "AsyncOperations": "SyncOperations",
        "aclose": "close",
        "aread": "read",
        "aiter_bytes": "iter_bytes",
        "async_pause": "sync_pause",
        "async_within": "sync_within",
        "async_transport": "sync_transport",
        "async_operations": "sync_operations",
        "async_client": "sync_client",
    }
    made = {}
    with tempfile.TemporaryDirectory() as place:
        before, after = Path(place) / "before", Path(place) / "after"
        before.mkdir()
        for name, text in sources.items():
            (before / name).write_text(text, encoding="utf-8")
        given = json.dumps([str(before), str(after), names, [str(before / name) for name in sources]])
        subprocess.run([sys.executable, "-c", UNASYNC, given], check=True, timeout=60)
        for name in sources:
            text = (after / name).read_text(encoding="utf-8")
            quote, rest = text.split('"""', 2)[1:]
            said = f'"""{quote.strip()}\n\nMade by tests/client/generate.py of weft/client/{name}.\n"""'
            made[name] = formatted(said + rest, name.replace("async_", "sync_"))
    return made


def formatted(text: str, name: str) -> str:
    """Return a module as ruff writes it."""
    ruff = [str(Path(sys.executable).with_name("ruff")), "--config", str(ROOT / "pyproject.toml")]
    for words in (["check", "--fix-only", "--unsafe-fixes", "--quiet", "--select", "I,F401,UP"], ["format", "--quiet"]):
        made = subprocess.run(
            [*ruff[:1], *words, *ruff[1:], "--stdin-filename", str(CLIENT / name), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
        text = made.stdout
    return text


if __name__ == "__main__":
    main()
