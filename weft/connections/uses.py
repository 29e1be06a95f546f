"""Which steps of a document use which connections, found without a model: a document at fault is asked too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from weft.types import DocumentPath, Json


@dataclass(frozen=True, slots=True)
class Use:
    """A step that names a connection."""

    connection: str
    action: str  #: what the step uses; empty for a webhook
    at: DocumentPath  #: of the step or webhook
    step: str | None = None  #: its id, as far as it has one


def uses(value: Json, at: DocumentPath = ()) -> Iterator[Use]:
    """Yield each connection that a document's steps and webhooks name, in the order of the document."""
    match value:
        case dict():
            several = value.get("connections")
            names = [value.get("connection"), *(several.values() if isinstance(several, dict) else ())]
            is_hook = at[:2] == ("on", "webhook") and len(at) == 3
            if is_hook or "uses" in value:
                id_ = value.get("id")
                told = id_ if isinstance(id_, str) else None
                action = "" if is_hook else str(value["uses"])
                yield from (Use(name, action, at, told) for name in names if isinstance(name, str))
            for key, item in value.items():
                if key != "with":
                    yield from uses(item, (*at, key))
        case list():
            for i, item in enumerate(value):
                yield from uses(item, (*at, i))
