"""Operations brought to a document that somebody else has changed meanwhile.

Operations are done again, one by one, on the changed document when what they touch is disjoint from what the other side
changed. Items of lists are recognised: by their `id` where each item has one of its own, else by all that they are; so
a step that others came before is found at its new place. Disjoint means:

- `set` and `remove`: the other side changed nothing at the path, above it or below it;
- `insert`, and the place that `move` brings an item to: the items before and behind still stand next to each other;
- `move`: the item is still there; what the other side changed inside of it moves along;
- `rename_step`: the step is still there and has its old id;
- `text`: no character that the edit replaces, and none beside it, was changed.

To want what the other side has already done is no conflict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from weft import wording
from weft.editing import changes, meaning
from weft.editing.aligning import opcodes
from weft.editing.editor import Edited, compared, performed
from weft.editing.meaning import same
from weft.editing.operations import Insert, Move, Operation, Remove, RenameStep, Set, Text, TextEdit
from weft.editing.structural import tokens
from weft.errors import Conflict, EditRefused
from weft.source import Source
from weft.types import DocumentPath, Json


class _Touched(Exception):
    """Both sides change the same thing; carries its path, or none when it is the text."""

    def __init__(self, path: DocumentPath) -> None:
        self.path = path


def merge(base: Source, theirs: Source, yours: Sequence[Operation]) -> Edited:
    """Do operations that were meant for `base` to `theirs`, what has become of it.

    Returns:
        What they make of `theirs`; the difference and the inverse are those to it.

    Raises:
        Conflict: Both sides change the same thing; carries the text of both.
        EditRefused: The operations do not fit `base` either.
    """
    mine, target, references = base, theirs, 0
    for number, operation in enumerate(yours):
        before = mine
        mine, _ = performed(before, operation)
        try:
            carried = _carried(operation, before, mine, target)
            if carried is not None:
                target, count = performed(target, carried)
                references += count
        except _Touched as touched:
            raise _conflict(touched.path, mine, theirs, yours[number + 1 :]) from None
        except EditRefused:
            path = () if isinstance(operation, Text) else operation.path
            raise _conflict(path, mine, theirs, yours[number + 1 :]) from None
    return compared(theirs, target, references)


def _conflict(path: DocumentPath, mine: Source, theirs: Source, rest: Sequence[Operation]) -> Conflict:
    """Return the conflict, with all that the own side wants."""
    for operation in rest:
        mine, _ = performed(mine, operation)
    what = wording.field(path) or "the same text"
    return Conflict(
        f"Somebody else has changed {what} meanwhile.",
        theirs=theirs.content,
        yours=mine.content,
        remedy="Compare both sides, and make the change again where it is still wanted.",
    )


def _carried(operation: Operation, before: Source, mine: Source, target: Source) -> Operation | None:
    """Return an operation as it has to be for `target`; None when it is done there already.

    `before` and `target` differ by what the other side did; `mine` is what the operation makes of `before`.

    Raises:
        _Touched: The other side changed what it touches.
    """
    match operation:
        case Text():
            return _text(operation, before, target)
        case Set() | Remove():
            return _at_path(operation, before.value, mine.value, target.value)
        case Insert(path=path, index=index):
            place = _place(before.value, target.value, path)
            items = _items(before.value, path)
            at = len(items) if index is None else index
            return operation.model_copy(
                update={"path": place, "index": _gap(items, _items(target.value, place), at, path)}
            )
        case Move():
            return _move(operation, before.value, target.value)
        case RenameStep(path=path):
            place = _place(before.value, target.value, path)
            old, now = (
                meaning.at(side, (*where, "id")) for side, where in ((before.value, path), (target.value, place))
            )
            if old != now:
                raise _Touched((*path, "id"))
            return operation.model_copy(update={"path": place})


def _at_path(operation: Set | Remove, before: Json, mine: Json, target: Json) -> Operation | None:
    """Carry an operation that replaces or takes out what stands at its path."""
    path = operation.path
    depth = len(path)
    while depth and not meaning.exists(before, path[:depth]):
        depth -= 1
    place = _place(before, target, path[:depth])
    carried = operation.model_copy(update={"path": (*place, *path[depth:])})
    there, here = meaning.at(target, place), meaning.at(before, path[:depth])
    if depth == len(path):
        if same(there, here):
            return carried
        if isinstance(operation, Set) and same(there, operation.value):
            return None
        raise _Touched(path)
    part = path[depth]
    if isinstance(part, int):  # an item behind the last
        return carried.model_copy(
            update={"path": (*place, _gap(_list(here), _list(there), part, path), *path[depth + 1 :])}
        )
    if not isinstance(there, type(here)):
        raise _Touched(path)
    if meaning.exists(there, (part,)):
        if same(meaning.at(there, (part,)), meaning.at(mine, path[: depth + 1])):
            return None
        raise _Touched(path[: depth + 1])
    return carried


def _move(operation: Move, before: Json, target: Json) -> Operation:
    path, to = operation.path, operation.to
    place, there = _place(before, target, path), _place(before, target, to)
    items, others = _items(before, to), _items(target, there)
    own, other = int(path[-1]), int(place[-1])
    if path[:-1] == to:
        items = [*items[:own], *items[own + 1 :]]
    if place[:-1] == there:
        others = [*others[:other], *others[other + 1 :]]
    return Move(path=place, to=there, index=_gap(items, others, operation.index, to))


def _place(before: Json, target: Json, path: DocumentPath) -> DocumentPath:
    """Return where what stands at a path of `before` stands in `target`; items are recognised.

    Raises:
        _Touched: It does not stand there any more, or something else stands above it.
    """
    place: list[str | int] = []
    for depth, part in enumerate(path):
        if not isinstance(before, dict | list) or not isinstance(target, type(before)):
            raise _Touched(path[: depth + 1])
        if isinstance(part, int):
            index = _pairs(_list(before), _list(target)).get(part)
            if index is None:
                raise _Touched(path[: depth + 1])
            before, target = _list(before)[part], _list(target)[index]
            place.append(index)
        elif meaning.exists(target, (part,)) and meaning.exists(before, (part,)):
            before, target = meaning.at(before, (part,)), meaning.at(target, (part,))
            place.append(part)
        elif not meaning.exists(target, (part,)) and not meaning.exists(before, (part,)):
            return (*place, *path[depth:])
        else:
            raise _Touched(path[: depth + 1])
    return tuple(place)


def _pairs(items: list[Json], others: list[Json]) -> dict[int, int]:
    """Return which items are the same ones: those with the same id, or those that are equal, or changed in their place.

    Of several equal ones nobody can tell which is which, once something else in the list has changed.
    """
    named, names = tokens(items, others)
    if named == names:
        return dict(enumerate(range(len(named))))
    if all(token.startswith("id ") for token in (*named, *names)):
        return {index: names.index(token) for index, token in enumerate(named) if token in names}
    pairs: dict[int, int] = {}
    for tag, i, j, k, m in opcodes(named, names):
        if tag == "equal" or (tag == "replace" and j - i == m - k):
            pairs.update(zip(range(i, j), range(k, m), strict=True))
    counts = Counter(named) | Counter(names)
    return {one: other for one, other in pairs.items() if counts[named[one]] == 1 == counts[names[other]]}


def _gap(items: list[Json], others: list[Json], index: int, path: DocumentPath) -> int:
    """Return the place between the same two items, or at the same end, that `index` is among `items`.

    Raises:
        _Touched: These two do not stand next to each other any more.
    """
    pairs = _pairs(items, others)
    before = -1 if index == 0 else pairs.get(index - 1)
    behind = len(others) if index == len(items) else pairs.get(index)
    if before is None or behind != before + 1:
        raise _Touched(path)
    return behind


def _items(value: Json, path: DocumentPath) -> list[Json]:
    return _list(meaning.at(value, path)) if meaning.exists(value, path) else []


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _text(operation: Text, before: Source, target: Source) -> Text:
    """Carry edits of characters past what the other side changed in the text."""
    found = changes.inverse(before.text, target.text, changes.compare(before.text, target.text))
    theirs: list[tuple[int, int, int]] = []  # begin and end in the text before, and by how much what follows moved
    moved = 0
    for edit in found.edits:
        start = edit.start - moved
        end = start + len(edit.text)
        moved += edit.end - edit.start - len(edit.text)
        theirs.append((start, end, moved))
    return Text(edits=tuple(_shifted(edit, theirs) for edit in operation.edits))


def _shifted(edit: TextEdit, theirs: list[tuple[int, int, int]]) -> TextEdit:
    by = 0
    for start, end, moved in theirs:
        if edit.start <= end and start <= edit.end:
            raise _Touched(())
        if end < edit.start:
            by = moved
    return TextEdit(start=edit.start + by, end=edit.end + by, text=edit.text)
