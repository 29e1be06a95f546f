"""Make a value of a text that is, or holds, JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from weft.sdk import ActionContext, ActionError, Json, JsonObject, Problem

from ._json_schema import faults, problems
from ._json_text import NotJson, Reader

MOST_BEGINNINGS: Final = 200  #: brackets that are tried in a text around JSON
_BRACKET = re.compile(r"[{\[]")
_BRACKETS = re.compile(r"[{\[\s]+")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([A-Za-z0-9+-]*)[ \t]*")


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    text: Annotated[str, Field(max_length=5_000_000)]
    inside: bool = False
    schema_: JsonObject | None = Field(None, alias="schema")
    decimals: Literal["number", "text"] = "number"


def parse_json(arguments: Arguments, context: ActionContext) -> Json:
    """Return the value that the text is, or with `inside` the only one that it holds.

    Raises:
        ActionError: There is none (`not_json`, `no_json`), there are several (`ambiguous`), or it breaks the schema
            (`schema_mismatch`).
    """
    reader = Reader(decimals_as_text=arguments.decimals == "text")
    try:
        found = _inside(arguments.text, reader) if arguments.inside else [reader.whole(arguments.text)]
    except NotJson as error:
        raise _not_json(error) from None
    told = [faults(value, arguments.schema_) for value in found]
    fitting = [value for value, wrong in zip(found, told, strict=True) if not wrong]
    if len(fitting) == 1:
        return fitting[0]
    if not found:
        raise ActionError(
            "The text holds no JSON object or list.",
            kind="no_json",
            effect="none",
            remedy="Ask for JSON only, or let the model answer in JSON by its response format.",
        )
    if fitting:
        raise ActionError(
            f"The text holds {len(fitting)} JSON values that fit.",
            kind="ambiguous",
            effect="none",
            remedy="Give a schema that only one of them fits, or ask for one value only.",
        )
    raise _mismatch(told[0])


def _not_json(error: NotJson) -> ActionError:
    message = str(error)
    return ActionError(
        f"The text is not JSON that can be used: {message}.",
        kind="not_json",
        effect="none",
        remedy="Correct the text where it is made; `inside` finds JSON that stands within other text.",
        details={"line": error.line, "column": error.column},
    )


# -- JSON within other text


def _inside(text: str, reader: Reader) -> list[Json]:
    """Return the JSON values that stand in `text`, by the first of these rules that finds something.

    The whole text; the fenced blocks that are labelled json; the fenced blocks without a label that begin like an
    object or a list; objects and lists in the text.
    """
    try:
        return [reader.whole(text)]
    except NotJson:
        blocks = list(_blocks(text))
    labelled = [content for label, content in blocks if label == "json"]
    plain = [content for label, content in blocks if not label and content.lstrip()[:1] in ("{", "[")]
    chosen = labelled or plain
    return [reader.whole(content) for content in chosen] if chosen else list(_in_prose(text, reader))


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield label and content of each fenced block of Markdown; one that is not closed goes to the end."""
    fence, label, lines = "", "", list[str]()
    for line in text.splitlines():
        mark = _FENCE.fullmatch(line)
        if not fence and mark:
            fence, label, lines = mark[1], mark[2].lower(), []
        elif fence and mark and not mark[2] and mark[1].startswith(fence):
            yield label, "\n".join(lines)
            fence = ""
        elif fence:
            lines.append(line)
    if fence:
        yield label, "\n".join(lines)


def _in_prose(text: str, reader: Reader) -> Iterator[Json]:
    """Yield the objects and lists in a text, from left to right, none inside another.

    A bracket that is no beginning of JSON belongs to the text. One that is, and breaks further on, is a fault: what
    stands inside it is not what was meant.
    """
    position = tried = 0
    while (bracket := _BRACKET.search(text, position)) and tried < MOST_BEGINNINGS:
        tried += 1
        try:
            value, position = reader.beginning(text, bracket.start())
        except NotJson as error:
            inner = _BRACKETS.match(text, bracket.start())
            if error.at is None or inner is None or error.at > inner.end() or error.at == bracket.start():
                raise
            position = bracket.end()
            continue
        yield value


# -- schema


def _mismatch(wrong: list[str]) -> ActionError:
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return ActionError(
        f"The value does not fit the schema: {wrong[0]}{more}.",
        kind="schema_mismatch",
        effect="none",
        remedy="Ask for the missing or other values, or correct the schema.",
        details={"problems": list[Json](wrong)},
    )


def check(arguments: Mapping[str, Json]) -> Iterable[Problem]:
    """Yield what is wrong with the schema."""
    schema = arguments.get("schema")
    if isinstance(schema, dict):
        yield from problems(schema)
