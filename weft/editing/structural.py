"""From one value to another in single steps, so that what stays the same keeps its text and comments."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from weft.editing import meaning
from weft.editing.aligning import opcodes
from weft.editing.meaning import same
from weft.types import DocumentPath, Json


@dataclass(frozen=True, slots=True)
class Replace:
    path: DocumentPath
    value: Json


@dataclass(frozen=True, slots=True)
class AddKeys:
    path: DocumentPath
    values: dict[str, Json]
    after: str | None  #: behind which key; None: at the end


@dataclass(frozen=True, slots=True)
class InsertItem:
    path: DocumentPath
    index: int
    value: Json


@dataclass(frozen=True, slots=True)
class TakeOut:
    path: DocumentPath


Structural = AddKeys | InsertItem | TakeOut


@dataclass(slots=True)
class Steps:
    """What to do: values that are replaced, and what changes the structure, to be done from the last to the first."""

    replaced: list[Replace] = field(default_factory=list)
    structural: list[Structural] = field(default_factory=list)


def nearest(value: Json, path: DocumentPath, new: Json) -> tuple[DocumentPath, Json]:
    """Return the longest path that has a holder, and the value for it with all that is missing on the way."""
    depth = 0
    while depth < len(path) and meaning.exists(value, path[: depth + 1]):
        depth += 1
    if depth == len(path):
        return path, new
    # a holder without a value is replaced itself, others get a key or an item
    keep = depth if depth and meaning.at(value, path[:depth]) is None else depth + 1
    if depth == 0 and value is None:
        keep = 0
    for part in reversed(path[keep:]):
        new = {part: new} if isinstance(part, str) else [new]
    return path[:keep], new


def steps(value: Json, path: DocumentPath, new: Json) -> Steps:
    """Return what makes `new` of the value at `path`."""
    found = Steps()
    if meaning.exists(value, path):
        _compare(meaning.at(value, path), new, path, found)
    elif isinstance(path[-1], str):
        found.structural.append(AddKeys(path[:-1], {path[-1]: new}, None))
    else:
        found.structural.append(InsertItem(path[:-1], path[-1], new))
    return found


def _compare(old: Json, new: Json, path: DocumentPath, found: Steps) -> None:
    if same(old, new):
        return
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() & new.keys():
        _compare_mappings(old, new, path, found)
    elif isinstance(old, list) and isinstance(new, list) and old and new:
        _compare_lists(old, new, path, found)
    else:
        found.replaced.append(Replace(path, new))


def _compare_mappings(old: dict[str, Json], new: dict[str, Json], path: DocumentPath, found: Steps) -> None:
    begin, after = len(found.structural), None
    added: dict[str | None, dict[str, Json]] = {}
    for key in old:
        if key not in new:
            found.structural.append(TakeOut((*path, key)))
    for key, value in new.items():
        if key in old:
            _compare(old[key], value, (*path, key), found)
            after = key
        else:
            added.setdefault(after, {})[key] = value
    last = next(reversed(old))
    found.structural[begin:begin] = [
        AddKeys(path, values, None if key == last else key) for key, values in added.items()
    ]


def _compare_lists(old: list[Json], new: list[Json], path: DocumentPath, found: Steps) -> None:
    for tag, i, j, k, m in opcodes(*tokens(old, new)):
        paired = min(j - i, m - k) if tag != "insert" else 0
        for offset in range(paired):
            _compare(old[i + offset], new[k + offset], (*path, i + offset), found)
        found.structural += [TakeOut((*path, index)) for index in range(i + paired, j)]
        found.structural += [InsertItem(path, j, value) for value in new[k + paired : m]]


def tokens(old: list[Json], new: list[Json]) -> tuple[list[str], list[str]]:
    """Return what items are recognised by: their id where they have one of their own, else all that they are."""
    names = [{_name(item) for item in items if _name(item)} for items in (old, new)]
    unique = all(
        len(of) == sum(1 for item in items if _name(item)) for of, items in zip(names, (old, new), strict=True)
    )

    def token(item: Json) -> str:
        name = _name(item)
        return f"id {name}" if unique and name else json.dumps(item, sort_keys=True)

    return [token(item) for item in old], [token(item) for item in new]


def _name(item: Json) -> str | None:
    name = item.get("id") if isinstance(item, dict) else None
    return name if isinstance(name, str) else None
