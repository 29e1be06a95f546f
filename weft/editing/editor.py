"""An edit: operations on a document, each spliced into its text, read again and compared with what it means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from weft import source, wording
from weft.editing import changes, meaning, structural
from weft.editing.cuts import Cut, made
from weft.editing.meaning import same
from weft.editing.operations import Insert, Move, Operation, Remove, RenameStep, Set, Text
from weft.editing.pasting import Pasted, lifted, sent
from weft.editing.renaming import renamed
from weft.editing.splicing import Splicer
from weft.editing.structural import AddKeys, InsertItem, Structural, TakeOut
from weft.errors import EditRefused, InvalidSource
from weft.source import Source
from weft.types import DocumentPath, Json

MOST_STEPS = 24
"""In how many steps a value is changed into another; beyond that it is written anew."""


@dataclass(frozen=True)
class Edited:
    """What an edit has made of a document."""

    source: Source  #: the document after it
    diff: str  #: in the unified format; empty when nothing changed
    inverse: tuple[Text, ...]  #: what brings the old text back, byte by byte
    lines: tuple[tuple[int, int], ...]  #: first and last line of each part of the new text that changed
    references: int = 0  #: how many references to a renamed step were rewritten


def edit(document: Source, operations: Sequence[Operation]) -> Edited:
    """Apply operations, one after the other, changing nothing in the text but what they say.

    Args:
        document: The document as it was read; it need not be a valid workflow.
        operations: Each speaks of the document as the one before has left it.

    Raises:
        EditRefused: One of them does not fit the document, or its text cannot be changed without changing more;
            nothing is changed then.
    """
    current, references = document, 0
    for operation in operations:
        current, count = performed(current, operation)
        references += count
    return compared(document, current, references)


def compared(old: Source, new: Source, references: int = 0) -> Edited:
    """Return what has become of a document."""
    found = changes.compare(old.text, new.text)
    back = (changes.inverse(old.text, new.text, found),) if found.spans else ()
    return Edited(new, changes.unified(found, old.file), back, changes.changed_lines(found), references)


def performed(document: Source, operation: Operation) -> tuple[Source, int]:
    """Return the document after one operation, and how many references it rewrote."""
    try:
        match operation:
            case Text():
                return _retyped(document, operation), 0
            case RenameStep():
                return _renamed(document, operation)
            case Set():
                return _set(document, operation), 0
            case Insert():
                return _inserted(document, operation), 0
            case Remove():
                expected = meaning.apply(operation, document.value)
                return _spliced(document, operation.path, expected, lambda s: s.remove(operation.path)), 0
            case Move():
                return _moved(document, operation), 0
    except EditRefused as refused:
        path = () if isinstance(operation, Text) else operation.path
        if refused.problem.where.line is None:
            refused.placed(document.where(path))
        raise


def _spliced(document: Source, path: DocumentPath, expected: Json, cut: Callable[[Splicer], list[Cut]]) -> Source:
    """Return the document with cuts made, if it then reads as expected.

    Raises:
        EditRefused: It does not.
    """
    for blocks in (True, False):  # a text in quotes fits where one in lines may not
        splicer = Splicer(document, blocks=blocks)
        found = _read_again(splicer, cut(splicer))
        if found is not None and same(found.value, expected):
            return found
    raise _harmful(document, path)


def _read_again(splicer: Splicer, cuts: list[Cut]) -> Source | None:
    """Return the document with cuts made; None when it cannot be read then."""
    document, layout = splicer.document, splicer.layout
    text = made(layout.text, cuts)
    if text is None:
        return None
    if not layout.closed:
        text = text[: -len(layout.newline)] if text.endswith(layout.newline) else text.removesuffix("\n")
    try:
        return source.read(document.mark + text, document.file)
    except InvalidSource:
        return None


def _harmful(document: Source, path: DocumentPath) -> EditRefused:
    place = document.where(path)
    return EditRefused(
        f"{wording.field(path) or 'The document'} cannot be changed here without changing more of the text.",
        remedy=f"Change it in the text itself, at line {place.line}.",
        where=place,
    )


# -- the operations


def _retyped(document: Source, operation: Text) -> Source:
    cuts = [Cut(edit.start, edit.end, edit.text) for edit in operation.edits]
    text = made(document.text, cuts)
    if text is None or text.startswith("\ufeff"):
        raise EditRefused(
            "The edits overlap, or lie outside of the text.", remedy="Read the document again.", code="offsets"
        )
    try:
        return source.read(document.mark + text, document.file)
    except InvalidSource as invalid:
        raise EditRefused(problems=invalid.problems) from None


def _renamed(document: Source, operation: RenameStep) -> tuple[Source, int]:
    rewritten = renamed(document, operation)
    splicer = Splicer(document)
    expected = document.value
    cuts: list[Cut] = []
    for path, text in rewritten.texts.items():
        expected = meaning.apply(Set(path=path, value=text.new), expected)
        cuts += splicer.replace(path, text.new, wanted=text.changes)
    found = _read_again(splicer, cuts)
    if found is None or not same(found.value, expected):
        raise _harmful(document, operation.path)
    return found, rewritten.references


def _set(document: Source, operation: Set) -> Source:
    expected = meaning.apply(operation, document.value)
    if same(expected, document.value):
        return document
    path, value = structural.nearest(document.value, operation.path, operation.value)
    steps = structural.steps(document.value, path, value)
    found = _in_steps(document, steps) if len(steps.structural) <= MOST_STEPS else None
    if found is not None and same(found.value, expected):
        return found
    return _spliced(document, path, expected, lambda splicer: _anew(splicer, document, path, value))


def _anew(splicer: Splicer, document: Source, path: DocumentPath, value: Json) -> list[Cut]:
    if meaning.exists(document.value, path):
        return splicer.replace(path, value)
    part = path[-1]
    if isinstance(part, str):
        return splicer.add_keys(path[:-1], {part: value}, None)
    return splicer.insert(path[:-1], part, [value])


def _in_steps(document: Source, steps: structural.Steps) -> Source | None:
    """Return the document after single changes; None when one of them leads nowhere."""
    current: Source | None = document
    if steps.replaced:
        splicer = Splicer(document)
        cuts = [cut for each in steps.replaced for cut in splicer.replace(each.path, each.value)]
        current = _read_again(splicer, cuts)
    for step in reversed(steps.structural):
        if current is None:
            return None
        splicer = Splicer(current)
        current = _read_again(splicer, _cuts(splicer, step))
    return current


def _cuts(splicer: Splicer, step: Structural) -> list[Cut]:
    match step:
        case AddKeys(path=path, values=values, after=after):
            return splicer.add_keys(path, values, after)
        case InsertItem(path=path, index=index, value=value):
            return splicer.insert(path, index, [value])
        case TakeOut(path=path):
            return splicer.remove(path)


def _inserted(document: Source, operation: Insert) -> Source:
    expected = meaning.apply(operation, document.value)
    path, items = operation.path, meaning.pasted(operation)
    if not isinstance(meaning.at(document.value, path) if meaning.exists(document.value, path) else None, list):
        document = _set(document, Set(path=path, value=[]))
    found = meaning.at(document.value, path)
    index = len(found) if operation.index is None else operation.index  # type: ignore[arg-type]
    if operation.text is None:
        return _spliced(document, path, expected, lambda splicer: splicer.insert(path, index, items))
    pasted = sent(operation.text)
    return _spliced(document, path, expected, lambda splicer: pasted.into(splicer, path, index, items))


def _moved(document: Source, operation: Move) -> Source:
    expected = meaning.apply(operation, document.value)
    path, index = operation.path, operation.index
    within = operation.to == path[:-1]
    own = path[-1]
    if within and own == index:
        return document
    splicer = Splicer(document)
    pasted = lifted(splicer, path)
    item = meaning.at(document.value, path)
    target = meaning.at(document.value, operation.to) if meaning.exists(document.value, operation.to) else None
    if isinstance(target, list):
        place = index + 1 if within and isinstance(own, int) and index > own else index
        found = _read_again(splicer, _move_cuts(splicer, operation, place, pasted, item))
        if found is not None and same(found.value, expected):
            return found
    left = _spliced(document, path, meaning.apply(Remove(path=path), document.value), lambda s: s.remove(path))
    to = meaning.after_removal(operation.to, path)
    found = _inserted(left, Insert(path=to, index=index, text=pasted.text()))
    if not same(found.value, expected):
        raise _harmful(document, path)
    return found


def _move_cuts(splicer: Splicer, operation: Move, place: int, pasted: Pasted, item: Json) -> list[Cut]:
    path, to = operation.path, operation.to
    holder = splicer.layout.slot(to)
    if path[:-1] == to and splicer.layout.is_flow(holder.node, holder.in_flow):
        cuts = splicer.flows.move(holder, int(path[-1]), place)
        if cuts is not None:
            return cuts
    return splicer.remove(path) + pasted.into(splicer, to, place, [item])
