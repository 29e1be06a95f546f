"""The tables of documents: what they were, and in a database workspace what they are."""

from __future__ import annotations

import sqlalchemy as sa

from weft.state import metadata

TEXTS = sa.Table(
    "weft_texts",
    metadata,
    sa.Column("etag", sa.String(64), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),  # bytes: a file may hold any
)
"""Each text that some document was once, by its hash: once, however often it was saved."""

VERSIONS = sa.Table(
    "weft_document_versions",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("etag", sa.String(64), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
)

INTENTS = sa.Table(
    "weft_document_intents",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("etag", sa.String(64), primary_key=True),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
)
"""Who is about to write what into a file: whoever finds it there knows by whom it is, though the writer died."""

PINS = sa.Table(
    "weft_document_pins",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("pins", sa.Text, nullable=False),
)

DOCUMENTS = sa.Table(
    "weft_documents",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("etag", sa.String(64), nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("layout", sa.Text, nullable=False, server_default="{}"),
    sa.Column("layout_by", sa.Text, nullable=False, server_default=""),
)
"""The documents of a workspace that lies in the database; their texts are in `weft_texts`."""

REVISIONS = sa.Table(
    "weft_workspace_revisions",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
)
"""Grows with every change of a database workspace, so that one number tells whether to look."""

MARKS = sa.Table(
    "weft_workspace_marks",
    metadata,
    sa.Column("directory", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("etag", sa.String(64), nullable=False),
)
"""What a directory and the database had in common when they were last brought together; kept in the home."""
