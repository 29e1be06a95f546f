"""The audit log, to read and to verify."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from weft.access.shapes import AuditEntry, AuditReport, report_of, shown
from weft.server.deps import Cursor, HouseDep, Limit, Page, api, cursor, needs, read_cursor

router = api("audit")


@router.get("/audit", dependencies=[needs("admin")])
async def list_audit(
    house: HouseDep, cursor_: Annotated[Cursor, Query(alias="cursor")] = None, limit: Annotated[Limit, Query()] = 100
) -> Page[AuditEntry]:
    """List what was done, the newest first."""
    before = None if cursor_ is None else read_cursor(cursor_, int)[0]
    entries = await house.audit.list(before=before, limit=limit)
    return Page(
        items=[shown(entry) for entry in entries], next=cursor(entries[-1].number) if len(entries) == limit else None
    )


@router.get("/audit/verification", dependencies=[needs("admin")])
async def verify_audit(
    house: HouseDep, noted: Annotated[str | None, Query(max_length=100, pattern=r"^\d{1,18}:[0-9a-f]{64}$")] = None
) -> AuditReport:
    """Follow the chain of hashes from the first entry to the last, and tell every break."""
    return report_of(await house.audit.verify(noted))
