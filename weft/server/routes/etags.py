"""Which state of a document a request speaks of: the headers ETag, If-Match and If-None-Match (RFC 9110, 13.1)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header
from starlette.exceptions import HTTPException

IfMatch = Annotated[
    str | None,
    Header(max_length=200, description="The ETag of the document that the change is made in; a change needs it."),
]
IfNoneMatch = Annotated[str | None, Header(max_length=2_000, description="ETags that the client has already.")]


class Unconditional(HTTPException):
    """A change that does not say what it changes."""

    code = "precondition_required"

    def __init__(self) -> None:
        super().__init__(428, "A change needs the header If-Match with the ETag of the document as you have read it.")


def quoted(etag: str) -> str:
    """Return an ETag as the header has it."""
    return f'"{etag}"'


def required(header: str | None) -> str:
    """Return the ETag that a change names.

    Raises:
        Unconditional: It names none.
    """
    if header is None or not header.strip():
        raise Unconditional
    return plain(header)


def plain(header: str) -> str:
    return header.strip().removeprefix("W/").strip('"')


def is_known(header: str | None, etag: str) -> bool:
    """Return whether the client has this state already."""
    return header is not None and any(plain(each) in (etag, "*") for each in header.split(","))
