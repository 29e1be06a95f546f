"""An edit of a document, saved: read, edited, written over what was read and over nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from weft.documents.base import Document, Documents, conflict, source_of
from weft.editing import Edited, Operation, edit, merge
from weft.errors import Conflict, EditRefused, InvalidSource
from weft.source import Source, read

TRIES = 3
"""To save over what was read; each is overtaken only by a save of somebody else."""


async def change(
    documents: Documents, name: str, operations: Sequence[Operation], *, if_match: str, by: str, why: str = ""
) -> tuple[Document, Edited]:
    """Carry out operations on a document and save it.

    Where somebody else has saved since, the operations are brought to what there is now, if they touch nothing that was
    changed; otherwise both sides are told.

    Args:
        documents: Where it is.
        name: Of the document.
        operations: In their order; all of them or none.
        if_match: The etag of the text that they were made for.
        by: Who does it.
        why: What for.

    Returns:
        The document as it is now, and what the edit did.

    Raises:
        NotFound: There is no such document.
        EditRefused: It cannot be done without harm to the rest of the document; nothing was changed.
        Conflict: Somebody else has changed what the operations speak of.
        InvalidSource: What is there is no YAML that can be edited.
    """
    for tries_left in reversed(range(TRIES)):
        now, edited = await _edited(documents, name, operations, if_match)
        text = edited.source.mark + edited.source.text
        try:
            return await documents.save(name, text, if_match=now.etag, by=by, why=why), edited
        except Conflict as overtaken:  # by a save between our reading and our writing
            if not tries_left or overtaken.theirs is None:
                raise
    raise AssertionError("the last try returns or raises")


async def _edited(
    documents: Documents, name: str, operations: Sequence[Operation], if_match: str
) -> tuple[Document, Edited]:
    now = await documents.read(name)
    if not now.is_exact:
        raise EditRefused(
            f"{now.file} is not UTF-8; an edit would harm what cannot be shown.", remedy="Save it as UTF-8 first."
        )
    current = source_of(now)
    if now.etag == if_match:
        return now, edit(current, operations)
    return now, await _merged(documents, now, current, operations, if_match)


async def _merged(
    documents: Documents, now: Document, current: Source, operations: Sequence[Operation], if_match: str
) -> Edited:
    """Bring operations that were made for an older text to the one that is there."""
    text = await documents.known(if_match)
    if text is None:
        raise conflict(now.name, now.text, None)
    try:
        return merge(read(text, current.file), current, operations)
    except (InvalidSource, EditRefused, Conflict):
        raise conflict(now.name, now.text, _yours(text, current.file, operations)) from None


def _yours(text: str, file: str, operations: Sequence[Operation]) -> str | None:
    """Return what the writer meant the document to be, as far as that can be said."""
    try:
        edited = edit(read(text, file), operations)
    except (InvalidSource, EditRefused):
        return None
    return edited.source.mark + edited.source.text
