"""Edits of a document that change only what they say: the document protocol.

    edit(document, operations) ──▶ Edited(source, diff, inverse, lines, references)
    merge(base, theirs, operations) ──▶ Edited, or Conflict

Everything here is pure: a document is a `Source`, and what comes out is another one. The modules, lowest first:
`operations` (what clients send), `meaning` (what they mean for the value), `layout` (which lines and comments are whose),
`writing` (values as YAML), `aligning`, `scalars`, `cuts`, `flows`, `blocks` (pieces of text), `splicing` (operation →
cuts), `pasting`, `structural` (one value into another in single steps), `renaming`, `changes` (diff, lines, inverse),
`editor`, `merging`.
`docs/editing.md` tells the protocol to those who write clients.
"""

from weft.editing.editor import Edited, edit
from weft.editing.merging import merge
from weft.editing.operations import (
    OPERATIONS,
    Insert,
    Move,
    Operation,
    Remove,
    RenameStep,
    Set,
    Text,
    TextEdit,
)

__all__ = [
    "OPERATIONS",
    "Edited",
    "Insert",
    "Move",
    "Operation",
    "Remove",
    "RenameStep",
    "Set",
    "Text",
    "TextEdit",
    "edit",
    "merge",
]
