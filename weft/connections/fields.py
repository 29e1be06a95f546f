"""What a connection is made of: the fields of its type, those that its provider brings, and their values checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weft import arguments, wording
from weft.catalogue import Catalogue
from weft.errors import ConnectionUnusable, Problem, Where
from weft.manifest import ConnectionType, Parameter
from weft.redaction import MASK, PATTERNS, SHORTEST_SEARCHED, Secret
from weft.sdk import Connection
from weft.source import Source
from weft.types import Json, JsonObject

LARGEST_VALUE = 65_536
"""Bytes of a file that holds one value."""

_CREDENTIAL = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|secret|api_?key|private_?key|(?:access|auth|bearer)_?token|token|authorization)$"
)


def fields_of(
    kind: ConnectionType, values: Mapping[str, object], catalogue: Catalogue | None = None
) -> tuple[Parameter, ...]:
    """Return the fields that a connection of this type may have.

    Args:
        kind: Its type.
        values: What is known of its fields; one of them may decide which further fields there are.
        catalogue: What brings further fields; left out, there are none.
    """
    own = tuple(kind.fields)
    further = kind.further_fields
    chosen = values.get(further.by) if further is not None else None
    if catalogue is None or not isinstance(chosen, str) or not catalogue.has(chosen):
        return own
    names = {field.name for field in own}
    return own + tuple(field for field in catalogue.provider(chosen).credentials if field.name not in names)


def from_text(field: Parameter, text: str) -> Json:
    """Return the value that a text from a variable, a file or a command line means for a field of this type."""
    types = field.types
    if "string" in types:
        return text
    if "array" in types and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        value: Json = json.loads(text.lower() if types == ("boolean",) else text)
    except (ValueError, RecursionError):
        return text
    return value


def text_of(path: Path) -> str | None:
    """Return a small text file's content without its last line end, None when it is none."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_VALUE + 1)
        return None if len(data) > LARGEST_VALUE else data.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        return None  # raised from here, an error would carry the content with it, as its context


def settings_of(fields: tuple[Parameter, ...], values: Mapping[str, Json]) -> JsonObject:
    """Return the values that may be shown, defaults among them: those of declared fields that are not secret."""
    clear = [field for field in fields if not field.secret]
    return arguments.with_defaults(clear, {field.name: values.get(field.name) for field in clear})


def problems_of(fields: tuple[Parameter, ...], values: Mapping[str, Json]) -> list[Problem]:
    """Return what is wrong with a connection's values; no message shows one that is secret or may be."""
    hidden = {field.name for field in fields if field.secret}
    shown: JsonObject = {k: MASK if k in hidden and isinstance(v, str) else v for k, v in values.items()}
    problems = arguments.check(fields, shown)
    return problems + [
        Problem(
            "blank_secret",
            f"{key!r} begins or ends with blanks, or is empty.",
            "Give it exactly as it was issued.",
            Where(field=key),
        )
        for key in sorted(hidden & values.keys())
        if isinstance(value := values[key], str) and (value != value.strip() or not value)
    ]


def without_secret(fields: tuple[Parameter, ...], values: Mapping[str, Json]) -> dict[str, list[Parameter]]:
    """Return field → the secrets that its value is there for, where none of them is given: `auth: bearer`, no token."""
    found: dict[str, list[Parameter]] = {}
    for field in fields:
        for rule in field.requires if field.secret else ():
            if rule.values is not None and values.get(rule.parameter) in rule.values:
                found.setdefault(rule.parameter, []).append(field)
    return {name: brought for name, brought in found.items() if all(values.get(each.name) is None for each in brought)}


def missing_secrets(fields: tuple[Parameter, ...], values: Mapping[str, Json]) -> list[Problem]:
    """Return a problem for each value that says there are credentials, when there are none."""
    return [
        Problem(
            "missing_secret",
            f"{name!r} is {wording.shown(values[name])}, but there is no {wording.choice(each.name for each in brought)}.",
            f"Give it: --secret-from-env {brought[0].name}=VARIABLE or --secret-stdin {brought[0].name}",
            Where(field=brought[0].name),
        )
        for name, brought in without_secret(fields, values).items()
    ]


def open_secrets(kind: ConnectionType, fields: tuple[Parameter, ...], values: Mapping[str, Json]) -> list[Problem]:
    """Return a problem for each field that is not secret, but holds what looks like a secret; none shows it."""
    return [
        Problem(
            "open_secret",
            f"{field.name!r} holds what looks like a secret, but this field is kept and shown in clear.",
            f"Use a field for secrets instead (weft connections types {kind.id}), and issue this one anew.",
            Where(field=field.name),
        )
        for field in fields
        if not field.secret and _holds_secret(values.get(field.name))
    ]


def _holds_secret(value: Json) -> bool:
    match value:
        case str():
            return any(
                not value[max(0, found.start() - 1)].isalnum() or not found.start()
                for found in PATTERNS.finditer(value)
            )
        case dict():
            return any(
                _holds_secret(item) or (is_credential(key) and item not in (None, "")) for key, item in value.items()
            )
        case list():
            return any(map(_holds_secret, value))
        case _:
            return False


def is_credential(name: str) -> bool:
    """Return whether a value of this name is a credential; `max_tokens` and `token_limit` are none."""
    return _CREDENTIAL.search(name.casefold().replace("-", "_")) is not None


def short_secrets(fields: tuple[Parameter, ...], values: Mapping[str, Json]) -> list[Problem]:
    """Return a warning for each secret that is too short to be searched for in what is shown."""
    return [
        Problem(
            "short_secret",
            f"{field.title} is so short that it cannot be masked where it stands among other text.",
            f"Choose one of {SHORTEST_SEARCHED} characters or more, better of 16.",
            Where(field=field.name),
            "warning",
        )
        for field in fields
        if field.secret and isinstance(value := values.get(field.name), str) and 0 < len(value) < SHORTEST_SEARCHED
    ]


def checked(
    name: str,
    kind: ConnectionType,
    values: Mapping[str, Json],
    origin: str,
    *,
    document: Source | None = None,
    catalogue: Catalogue | None = None,
) -> Connection:
    """Check a connection's fields by its type and wrap the secret ones.

    Raises:
        ConnectionUnusable: A field is missing, unknown or wrong; the values of secret fields are never shown.
    """
    fields = fields_of(kind, values, catalogue)
    if problems := problems_of(fields, values):
        raise ConnectionUnusable(problems=[_named(problem, name, origin, document) for problem in problems])
    complete = arguments.with_defaults(fields, values)
    hidden = {field.name for field in fields if field.secret}
    wrapped: dict[str, Any] = {k: Secret(str(v)) if k in hidden else v for k, v in complete.items()}
    return Connection(name, kind.id, wrapped)


def _named(problem: Problem, name: str, origin: str, document: Source | None) -> Problem:
    field = problem.where.field or ""
    where = Where(field=field or None)
    if document is not None:
        place = document.where((name, field.split("[")[0].split(".")[0]))
        where = Where(place.file, place.line, place.column, None, f"{name}.{field}")
    message = f"Connection {name!r} from {origin}: {problem.message}"
    return Problem(problem.code, message, problem.remedy, where, problem.severity)
