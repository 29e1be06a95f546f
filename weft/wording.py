"""How values, choices and places are spelled in messages, the same in every one of them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from weft.redaction import MASK, PATTERNS
from weft.types import DocumentPath

LONGEST_SHOWN = 60
MOST_CHOICES = 20

_PLAIN_KEY = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)


def shown(value: Any) -> str:
    """Return a value as a message shows it: in one line, shortened, what looks like a credential masked."""
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, Mapping):
        keys = ", ".join(str(key) for key in list(value)[:4]) + (", …" if len(value) > 4 else "")
        return PATTERNS.sub(MASK, _shortened(f"a mapping of {keys}")) if value else "an empty mapping"
    if isinstance(value, str):
        return "an empty text" if not value else json.dumps(_shortened(PATTERNS.sub(MASK, value)), ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return _shortened(repr(value)) if isinstance(value, float | int) else type(value).__name__


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def choice(values: Iterable[Any]) -> str:
    """Return "a, b or c", names without quotes; a long list ends in a count."""
    names = [value if isinstance(value, str) and value else shown(value) for value in values]
    if len(names) > MOST_CHOICES:
        return ", ".join(names[:MOST_CHOICES]) + f" and {len(names) - MOST_CHOICES} more"
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def nearest(name: Any, names: Collection[str]) -> str | None:
    """Return the known name that `name` most probably was meant to be, if one is near enough."""
    if not isinstance(name, str):
        return None
    folded = {known.casefold().replace("-", "_"): known for known in names}
    wanted = name.casefold().replace("-", "_").replace(" ", "_")
    found = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def meant(name: Any, names: Collection[str]) -> str | None:
    """Return the remedy for a misspelt name, if a known one is near."""
    found = nearest(name, names)
    return f"Did you mean {found!r}?" if found else None


_YES_NO = {**dict.fromkeys(("yes", "y", "on", "true"), "true"), **dict.fromkeys(("no", "n", "off", "false"), "false")}
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def retyped(value: Any, types: Collection[str]) -> str | None:
    """Return the remedy for a value that has none of some JSON types, where it is plain what was meant."""
    match value:
        case str() if "boolean" in types and value.lower() in _YES_NO:
            return f"Write {_YES_NO[value.lower()]}."
        case str() if {"number", "integer"} & set(types) and _NUMBER.fullmatch(value):
            return "Write it without quotes."
        case bool() | int() if "string" in types and len(types) == 1:
            return f'Write it in quotes: "{json.dumps(value)}".'
        case float() if "string" in types and len(types) == 1:
            return "Write it in quotes."
        case [_, *_] if "object" in types:
            return "Write 'key: value' in each line, without '- '."
        case dict() if value and "array" in types:
            return "Begin each item with '- '."
        case str() | bool() | int() | float() if "array" in types and "string" not in types:
            return "Write a list: [a, b], or a line with '- ' for each item."
        case _:
            return None


def as_name(text: Any) -> str | None:
    """Return the name of a document's part that a text comes nearest to: `My mail` → `my_mail`."""
    found = re.sub(r"[^a-z0-9-]+", "_", text.casefold()) if isinstance(text, str) else ""
    found = re.sub(r"-{2,}", "-", found).strip("_-")
    return found if re.match("[a-z]", found) and len(found) <= LONGEST_SHOWN else None


def field(path: DocumentPath) -> str:
    """Return a path as an author reads it: `steps[1].with.to`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text


_PART = re.compile(r'\.?([A-Za-z_][\w-]*)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]', re.ASCII)


def path_of(field: str) -> DocumentPath:
    """Return the path that `field` was made of."""
    return tuple(
        int(found[2]) if found[2] else json.loads(found[3]) if found[3] else found[1] for found in _PART.finditer(field)
    )


def label(path: DocumentPath) -> str:
    """Return the last key of a path with the list positions after it, in quotes: `'needs[1]'`."""
    last = max((index for index, part in enumerate(path) if isinstance(part, str)), default=0)
    return f"'{field(path[last:])}'"
