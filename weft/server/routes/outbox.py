"""The outbox: the mail that was kept instead of delivered. It is foreign text, and handed out as such."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

from fastapi import Path, Query, Response
from pydantic import Field

from weft.embedded.outbox import Kept, KeptMessage
from weft.errors import NotFound
from weft.server.deps import Cursor, HouseDep, Limit, Page, api, cursor, needs, read_cursor
from weft.server.house import House
from weft.server.routes.foreign_html import harmless
from weft.server.routes.runs import download
from weft.server.routes.shapes import Shape

router = api("outbox")

MailId = Annotated[str, Path(max_length=200, description="The mail's id, or its number from 1.")]


class Mail(Shape):
    """A mail, by its header."""

    number: int
    """From 1, the oldest first."""
    id: str
    subject: str
    sender: str = Field(serialization_alias="from")
    to: list[str]
    """Who it was handed over for, Bcc too."""
    date: datetime | None
    size: int
    """Bytes."""


class Attachment(Shape):
    """A file that came with a mail."""

    number: int
    """From 1."""
    filename: str
    content_type: str
    size: int


class WholeMail(Mail):
    """A mail, taken apart."""

    headers: list[tuple[str, str]]
    text: str | None
    html: str | None
    """Without scripts, forms, frames, styles, and without anything that would be fetched from elsewhere."""
    attachments: list[Attachment]


@router.get("/outbox", dependencies=[needs("view")])
async def list_mails(
    house: HouseDep, cursor_: Annotated[Cursor, Query(alias="cursor")] = None, limit: Annotated[Limit, Query()] = 50
) -> Page[Mail]:
    """List the mails, the newest first."""
    before = None if cursor_ is None else int(read_cursor(cursor_, int)[0])
    kept = await asyncio.to_thread(house.runtime.outbox.messages)
    found = [each for each in reversed(kept) if before is None or each.number < before]
    items = [Mail.model_validate(_entry(each)) for each in found[:limit]]
    return Page(items=items, next=cursor(items[-1].number) if len(found) > limit else None)


@router.get("/outbox/{mail}", dependencies=[needs("view")])
async def show_mail(mail: MailId, house: HouseDep) -> WholeMail:
    """Show a mail: its headers, its text, its HTML made harmless, and what is attached."""
    found = await _found(house, mail)
    attachments = [
        Attachment(number=number, filename=each.filename, content_type=each.content_type, size=len(each.content))
        for number, each in enumerate(found.attachments, 1)
    ]
    html = None if found.html is None else await asyncio.to_thread(harmless, found.html)
    return WholeMail.model_validate(
        {**_entry(found.kept), "headers": found.headers, "text": found.text, "html": html, "attachments": attachments}
    )


@router.get(
    "/outbox/{mail}/raw",
    response_class=Response,
    responses={200: {"content": {"message/rfc822": {}}, "description": "The mail as it was received."}},
    dependencies=[needs("view")],
)
async def download_mail(mail: MailId, house: HouseDep) -> Response:
    """Download a mail as it was received."""
    found = await _found(house, mail)
    content = found.raw
    return download(content, f"mail-{found.kept.number}.eml", "message/rfc822")


@router.get(
    "/outbox/{mail}/attachments/{number}",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The file."}},
    dependencies=[needs("view")],
)
async def download_attachment(mail: MailId, number: Annotated[int, Path(ge=1, le=10_000)], house: HouseDep) -> Response:
    """Download a file that is attached to a mail."""
    found = await _found(house, mail)
    if number > len(found.attachments):
        raise NotFound(f"Mail {found.kept.number} has {len(found.attachments)} attachments.", code="unknown_attachment")
    attachment = found.attachments[number - 1]
    return download(attachment.content, attachment.filename or f"attachment-{number}", attachment.content_type)


async def _found(house: House, which: str) -> KeptMessage:
    try:
        return await asyncio.to_thread(house.runtime.outbox.message, which)
    except FileNotFoundError:  # removed since it was listed
        raise NotFound(f"Mail {which!r} is gone.", code="unknown_mail") from None


def _entry(mail: Kept) -> dict[str, object]:
    return {
        "number": mail.number,
        "id": mail.id,
        "subject": mail.subject,
        "sender": mail.sender,
        "to": mail.to,
        "date": mail.date,
        "size": mail.size,
    }
