"""Where workflows live: a directory of files, or the database of an installation. Both speak one protocol.

    text ──save(if_match)──▶ one writer at a time ──▶ the whole new text or the old one ──▶ a version, with who and why
    an editor, git pull ───▶ watching ──▶ a version by "outside" ──▶ changes()

The modules, lowest first: `base` (the protocol), `tables`, `history` (versions, texts, pins), `layout` (its YAML),
`files` (what is done to a disk), `watching`, `directory` and `database` (the two stores), `changing` (an edit saved),
`moving` (push and pull).
"""

from weft.documents.base import OUTSIDE, Change, Document, DocumentFacts, Documents, Version

__all__ = ["OUTSIDE", "Change", "Document", "DocumentFacts", "Documents", "Version"]
