"""What an operation means: the value of a document before and after it, without any text.

The splicer's work is judged by it: the text that it writes must read as the value that stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from weft import source, wording
from weft.editing.operations import Insert, Move, Remove, Set
from weft.errors import EditRefused, InvalidSource
from weft.types import DocumentPath, Json

Plain = Set | Insert | Remove | Move


def apply(operation: Plain, value: Json) -> Json:
    """Return the value after an operation; `value` is not changed, and what stays the same is shared.

    Raises:
        EditRefused: There is nothing at its path, or something else than it needs.
    """
    match operation:
        case Set(path=path, value=new):
            return _changed(value, path, lambda _: new, made=True)
        case Insert(path=path, index=index):
            return inserted(value, path, index, pasted(operation))
        case Remove(path=path):
            return _removed(value, path)
        case Move():
            return _moved(value, operation)


def inserted(value: Json, path: DocumentPath, index: int | None, items: Sequence[Json]) -> Json:
    """Return the value with items in the list at `path`; an index beyond its end is refused."""

    def put(found: Json) -> Json:
        old = [] if found is None else found
        if not isinstance(old, list):
            raise refused(path, f"is no list, but {_kind(old)}", "Name a list.")
        at = len(old) if index is None else index
        if at > len(old):
            raise refused(path, f"has {len(old)} items, so there is no place {at}", f"Give an index up to {len(old)}.")
        return [*old[:at], *items, *old[at:]]

    return _changed(value, path, put, made=True)


def pasted(operation: Insert) -> list[Json]:
    """Return the items that an operation inserts."""
    if operation.text is None:
        return [operation.item]
    document = paste(operation.text)
    value = document.value
    return value if isinstance(value, list) and is_dashed(document) else [value]


def is_dashed(document: source.Source) -> bool:
    """Return whether a document is a list of lines with dashes."""
    return bool(document.root.items) and document.text.startswith("-", document.root.start)


def paste(text: str) -> source.Source:
    """Read the YAML of an item.

    Raises:
        EditRefused: It cannot be read.
    """
    try:
        return source.read(text, "text")
    except InvalidSource as invalid:
        raise EditRefused(problems=invalid.problems) from None


def at(value: Json, path: DocumentPath) -> Json:
    """Return what stands at a path.

    Raises:
        EditRefused: Nothing does.
    """
    for depth, part in enumerate(path):
        if not _has(value, part):
            raise missing(path[: depth + 1])
        value = value[part]  # type: ignore[index]
    return value


def exists(value: Json, path: DocumentPath) -> bool:
    """Return whether something stands at a path."""
    for part in path:
        if not _has(value, part):
            return False
        value = value[part]  # type: ignore[index]
    return True


def same(one: Json, other: Json) -> bool:
    """Return whether two values are equal, types too: 1, 1.0 and true are three values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(item, other[key]) for key, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def refused(path: DocumentPath, what: str, remedy: str) -> EditRefused:
    """Return the error for what stands at a path and is not what an operation needs."""
    return EditRefused(f"{_called(path)} {what}.", remedy=remedy, code="unfit_path")


def missing(path: DocumentPath) -> EditRefused:
    """Return the error for a path at which nothing stands."""
    return EditRefused(
        f"There is nothing at {_called(path)}.",
        remedy="Read the document again: it may have changed.",
        code="no_such_path",
    )


def _called(path: DocumentPath) -> str:
    return wording.field(path) or "the document"


def _kind(value: Json) -> str:
    names: dict[type, str] = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _has(value: Json, part: str | int) -> bool:
    if isinstance(part, str):
        return isinstance(value, dict) and part in value
    return isinstance(value, list) and 0 <= part < len(value)


def _changed(value: Json, path: DocumentPath, change: Callable[[Json], Json], *, made: bool, depth: int = 0) -> Json:
    """Return a value with another one at `path`; with `made`, what is missing on the way is made."""
    if depth == len(path):
        return change(value)
    part = path[depth]
    empty: Any = {} if isinstance(part, str) else []
    holder: Any = empty if value is None and made else value
    if not isinstance(holder, type(empty)):
        kind = "mapping" if isinstance(part, str) else "list"
        raise refused(path[:depth], f"is no {kind}, but {_kind(value)}", f"{part!r} can stand in a {kind} only.")
    there = _has(holder, part)
    if not there and not made:
        raise missing(path[: depth + 1])
    if isinstance(part, int) and part > len(holder):
        raise missing(path[: depth + 1])
    changed: Any = holder.copy()
    inner = _changed(holder[part] if there else None, path, change, made=made, depth=depth + 1)
    if isinstance(part, str) or there:
        changed[part] = inner
    else:
        changed.append(inner)
    return changed  # type: ignore[no-any-return]


def _removed(value: Json, path: DocumentPath) -> Json:
    at(value, path)
    part = path[-1]

    def without(holder: Any) -> Json:
        if isinstance(part, str):
            return {key: item for key, item in holder.items() if key != part}
        return [*holder[:part], *holder[part + 1 :]]

    return _changed(value, path[:-1], without, made=False)


def _moved(value: Json, operation: Move) -> Json:
    path, to = operation.path, operation.to
    item = at(value, path)
    if not isinstance(path[-1], int):
        raise refused(path, "is no item of a list", "Only items can be moved.")
    if to[: len(path)] == path:
        raise refused(path, "cannot be moved into itself", "Name a list outside of it.")
    left = _removed(value, path)
    return inserted(left, after_removal(to, path), operation.index, [item])


def after_removal(path: DocumentPath, removed: DocumentPath) -> DocumentPath:
    """Return the path that something has once the item at `removed` is gone."""
    depth, index = len(removed) - 1, removed[-1]
    if len(path) <= depth or path[:depth] != removed[:-1]:
        return path
    part = path[depth]
    if not isinstance(part, int) or not isinstance(index, int) or part < index:
        return path
    return (*path[:depth], part - 1, *path[depth + 1 :])
