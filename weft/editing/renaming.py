"""A step with another id, and everything in the document that speaks of it.

An expression at some place means by `steps.<id>` the step of that id in the list around it, or else in the lists around
that one; `needs` means a step of its own list. `finally` and `on_failure` see the steps of the document, as `outputs` do.
Only what Weft reads as an expression is looked at: text that merely looks like one stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from weft import expressions, wording
from weft.editing import meaning
from weft.editing.operations import RenameStep
from weft.editing.scalars import Change
from weft.errors import EditRefused, ExpressionError
from weft.source import Source
from weft.types import DocumentPath, Json

_NAME = r"(?P<dot>\s*\.\s*){name}(?![\w])|\s*\[\s*(?P<quote>['\"]){name}(?P=quote)\s*\]"
_BROKEN = re.compile(r"(?<![\w.'\"\]-])steps(?=\s*[.\[])")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A text of the document that names the step, and what becomes of it."""

    new: str
    changes: tuple[Change, ...]


@dataclass(slots=True)
class Renaming:
    """All texts that change when a step is renamed."""

    texts: dict[DocumentPath, Rewritten] = field(default_factory=dict)
    references: int = 0


@dataclass(frozen=True, slots=True)
class _List:
    """A list of steps: where it stands, and the lists that its expressions see besides, the nearest first."""

    path: DocumentPath
    steps: list[Any]
    outer: tuple[_List, ...] = ()


def renamed(document: Source, operation: RenameStep) -> Renaming:
    """Return what changes when a step gets another id.

    Raises:
        EditRefused: There is no such step, its new id is taken, or a reference cannot be rewritten.
    """
    value, path = document.value, operation.path
    own = next((found for found in _lists(value) if found.path == path[:-1]), None)
    step = meaning.at(value, path)
    if own is None or not isinstance(step, dict):
        raise meaning.refused(path, "is no step", "Name a step of the document.")
    old = step.get("id")
    if not isinstance(old, str):
        raise meaning.refused(path, "has no id", "Give it one with 'set'.")
    found = Renaming()
    if old == operation.id:
        return found
    _check_free(document, own, operation)
    found.texts[*path, "id"] = Rewritten(operation.id, (Change(0, len(old), operation.id),))
    if path[-1] != next(index for index, other in enumerate(own.steps) if _id(other) == old):
        return found  # an earlier step has the same id: it is the one that others mean
    for text in _texts(value):
        if text.means(own, old):
            _rewrite(document, text, old, operation.id, found)
    return found


def _check_free(document: Source, own: _List, operation: RenameStep) -> None:
    """Refuse an id that a step has which references would then mean, or which would mean this one."""
    for other in _lists(document.value):
        related = other.path == own.path or other in own.outer or any(each.path == own.path for each in other.outer)
        if not related:
            continue
        for index, step in enumerate(other.steps):
            if _id(step) == operation.id:
                place = document.where((*other.path, index, "id"))
                message = f"The id {operation.id!r} is taken already, in line {place.line}."
                raise EditRefused(message, remedy="Choose another one.", where=place, code="duplicate_id")


# -- the lists of steps of a document, whether it is valid or not


def _lists(value: Json) -> Iterator[_List]:
    """Yield every list of steps."""
    if not isinstance(value, dict):
        return
    top = _List(("steps",), _steps(value.get("steps")))
    yield from _within(top)
    yield from _within(_List(("finally",), _steps(value.get("finally")), (top,)))
    told = value.get("on_failure")
    if isinstance(told, dict):
        yield from _within(_List(("on_failure", "steps"), _steps(told.get("steps")), (top,)))


def _within(found: _List) -> Iterator[_List]:
    yield found
    for index, step in enumerate(found.steps):
        if not isinstance(step, dict):
            continue
        for keys in (("steps",), ("on_error", "steps"), ("approval", "notify")):
            inner: Any = step
            for key in keys:
                inner = inner.get(key) if isinstance(inner, dict) else None
            if isinstance(inner, list):
                yield from _within(_List((*found.path, index, *keys), inner, (found, *found.outer)))


def _steps(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _id(step: Any) -> str | None:
    name = step.get("id") if isinstance(step, dict) else None
    return name if isinstance(name, str) else None


# -- the texts that may name a step


@dataclass(frozen=True, slots=True)
class _Text:
    """A text, and in which lists the steps stand that it may name."""

    path: DocumentPath
    text: str
    kind: str  #: template, expression (braces may be left out), or need
    seen: tuple[_List, ...]

    def means(self, own: _List, name: str) -> bool:
        """Return whether a step called `name` is, for this text, the one in the list `own`."""
        first = next((found for found in self.seen if any(_id(step) == name for step in found.steps)), None)
        return first is not None and first.path == own.path


def _texts(value: Json) -> Iterator[_Text]:
    """Yield every text of a document that may name a step."""
    if not isinstance(value, dict):
        return
    for found in _lists(value):
        seen = (found, *found.outer)
        for index, step in enumerate(found.steps):
            if isinstance(step, dict):
                yield from _of_step(step, (*found.path, index), seen)
    top = (_List(("steps",), _steps(value.get("steps"))),)
    for path in (("outputs",), ("concurrency", "key"), ("on",)):
        inner: Any = value
        for key in path:
            inner = inner.get(key) if isinstance(inner, Mapping) else None
        yield from _strings(inner, path, "template", top)


def _of_step(step: dict[str, Any], path: DocumentPath, seen: tuple[_List, ...]) -> Iterator[_Text]:
    for key in ("if", "for_each"):
        if isinstance(step.get(key), str):
            yield _Text((*path, key), step[key], "expression", seen)
    if not isinstance(step.get("for_each"), str):
        yield from _strings(step.get("for_each"), (*path, "for_each"), "template", seen)
    for key in ("with", "wait"):
        yield from _strings(step.get(key), (*path, key), "template", seen)
    approval = step.get("approval")
    if isinstance(approval, dict):
        for key in ("message", "who", "deadline"):
            yield from _strings(approval.get(key), (*path, "approval", key), "template", seen)
    if isinstance(step.get("needs"), list):
        yield from _strings(step["needs"], (*path, "needs"), "need", seen[:1])


def _strings(value: Any, path: DocumentPath, kind: str, seen: tuple[_List, ...]) -> Iterator[_Text]:
    if isinstance(value, str):
        yield _Text(path, value, kind, seen)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, (*path, key), kind, seen)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, (*path, index), kind, seen)


# -- one text


def _rewrite(document: Source, text: _Text, old: str, new: str, found: Renaming) -> None:
    if text.kind == "need":
        changes = [Change(0, len(old), new)] if text.text == old else []
    else:
        changes = [_change(document, text, offset, old, new) for offset in _mentions(text, old)]
    if changes:
        found.texts[text.path] = Rewritten(_made(text.text, changes), tuple(changes))
        found.references += len(changes)


def _made(text: str, changes: list[Change]) -> str:
    for change in reversed(changes):
        text = text[: change.start] + change.text + text[change.end :]
    return text


def _mentions(text: _Text, old: str) -> list[int]:
    """Return where, in the text, `steps` stands before the name of the step."""
    shift = 0
    try:
        if text.kind == "expression" and not expressions.has_expression(text.text):
            shift = 2
            template = expressions.compile(f"{{{{{text.text}}}}}")
        elif expressions.has_expression(text.text):
            template = expressions.compile(text.text)
        else:
            return []
    except ExpressionError:  # half written: what looks like a reference in its expressions is one
        return [place for place in _guessed(text) if _pattern(old).match(text.text, place + len("steps"))]
    return [found.offset - shift for found in template.references if found.path[:2] == ("steps", old)]


def _guessed(text: _Text) -> list[int]:
    bare = text.kind == "expression" and not expressions.has_expression(text.text)
    spans = (
        [(0, len(text.text))]
        if bare
        else [m.span() for m in re.finditer(r"\{[{%](?:(?![}%]\}).)*", text.text, re.DOTALL)]
    )
    return [found.start() for start, end in spans for found in _BROKEN.finditer(text.text, start, end)]


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(_NAME.replace("{name}", re.escape(name)))


def _change(document: Source, text: _Text, offset: int, old: str, new: str) -> Change:
    """Return the change of one reference, `steps.<old>` or `steps['<old>']`."""
    found = _pattern(old).match(text.text, offset + len("steps"))
    if found is None:
        where = document.locate(text.path, offset)
        field_ = wording.field(text.path)
        message = f"The reference to step {old!r} in {field_} is written in a way that cannot be rewritten."
        raise EditRefused(message, remedy=f"Write it as steps.{old}.", where=where)
    start = found.end("dot") if found["dot"] is not None else found.end("quote")
    if found["dot"] is None or "-" not in new:
        return Change(start, start + len(old), new)
    return Change(found.start("dot"), found.end(), f"['{new}']")
