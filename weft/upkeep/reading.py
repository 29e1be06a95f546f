"""Reads a backup: nothing in it is believed before its hash, its name and its content have been looked at."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
import sqlite3
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import BaseModel, ValidationError

from weft.errors import JournalRefused, JournalUnavailable, NotFound
from weft.journal.checking import check_file
from weft.upkeep.members import DATABASES, DOCUMENTS, FORMAT, KEYS, MANIFEST, OUTBOX, WORKSPACE, Manifest, Member

LARGEST_MANIFEST: Final = 64_000_000
CHUNK: Final = 1 << 20

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def verified(file: Path, place: Path) -> Iterator[Manifest]:
    """Unpack a backup into a directory that is not there yet, and look at all of it; the directory goes in the end.

    Raises:
        NotFound: There is no such file.
        JournalRefused: It is no backup, or not as it was made (`backup_damaged`), or of a newer Weft (`backup_too_new`).
        JournalUnavailable: There is no room for it.
    """
    if not file.is_file():
        raise NotFound(f"There is no backup at {file}.", code="no_backup", remedy="Name a file that weft backup made.")
    place.mkdir(mode=0o700)
    try:
        try:
            manifest = _unpacked(file, place)
        except (tarfile.TarError, EOFError, zlib.error, OSError, ValidationError) as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise no_room(place.parent.parent, error) from None
            raise damaged(file, f"it cannot be read ({type(error).__name__})") from None
        _look(file, place, manifest)
        yield manifest
    finally:
        shutil.rmtree(place, ignore_errors=True)


def no_room(place: Path, error: OSError) -> JournalUnavailable:
    return JournalUnavailable(
        f"There is no room in {place} ({error.strerror}). Nothing was changed.", code="disk_full", remedy="Make room."
    )


def damaged(file: Path, why: str) -> JournalRefused:
    return JournalRefused(
        f"{file} is not as weft backup makes it: {why}.", code="backup_damaged", remedy="Take an older backup."
    )


def _unpacked(file: Path, place: Path) -> Manifest:
    with tarfile.open(file, "r:gz") as packed:
        first = packed.next()
        content = None if first is None or first.name != MANIFEST else packed.extractfile(first)
        if first is None or content is None or first.size > LARGEST_MANIFEST:
            raise damaged(file, "it does not begin with its manifest")
        manifest = _manifest(file, content.read())
        missing = {member.name: member for member in manifest.members}
        if len(missing) != len(manifest.members):
            raise damaged(file, "it names a member twice")
        while (entry := packed.next()) is not None:
            member = missing.pop(entry.name, None)
            if member is None or not entry.isreg() or entry.size != member.size:
                raise damaged(file, f"{entry.name!r} is not what the manifest says")
            _unpack(file, packed, entry, member, place)
        if missing:
            raise damaged(file, f"{min(missing)!r} is missing")
    return manifest


class _About(BaseModel):
    """What the manifest of every format says."""

    format: int
    weft: str


def _manifest(file: Path, text: bytes) -> Manifest:
    about = _About.model_validate_json(text)
    if about.format != FORMAT:
        raise JournalRefused(
            f"{file} has format {about.format}; this Weft reads format {FORMAT}.",
            code="backup_too_new",
            remedy=f"Use Weft {about.weft}, which made it, or a newer one.",
        )
    manifest = Manifest.model_validate_json(text)
    for member in manifest.members:
        _require_name(file, member)
    return manifest


def _require_name(file: Path, member: Member) -> None:
    """Refuse a name that would lead out of the home, or to what no backup holds."""
    path = PurePosixPath(member.name)
    expected = {
        "database": member.name in DATABASES,
        "document": member.name in DOCUMENTS,
        "mail": path.parts[0] == OUTBOX and len(path.parts) > 1,
        "workspace": path.parts[0] == WORKSPACE and len(path.parts) > 1,
        "key": path.parts[0] == KEYS and len(path.parts) == 2,
    }
    is_plain = (
        not path.is_absolute() and str(path) == member.name and ".." not in path.parts and "\0" not in member.name
    )
    if not is_plain or not expected[member.kind]:
        raise damaged(file, f"it holds {member.name!r}")


def _unpack(file: Path, packed: tarfile.TarFile, entry: tarfile.TarInfo, member: Member, place: Path) -> None:
    content, hash_, to = packed.extractfile(entry), hashlib.sha256(), place / member.name
    if content is None:
        raise damaged(file, f"{member.name!r} has no content")
    to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with to.open("xb") as out:
        while chunk := content.read(CHUNK):
            hash_.update(chunk)
            out.write(chunk)
    to.chmod(0o600)
    if hash_.hexdigest() != member.sha256:
        raise damaged(file, f"the content of {member.name!r} was changed")


def _look(file: Path, place: Path, manifest: Manifest) -> None:
    """Look at the databases as whoever opens them does."""
    names = {member.name for member in manifest.members}
    if DATABASES[0] not in names:
        raise damaged(file, "it holds no journal")
    found = check_file(place / DATABASES[0], is_copy=True)
    if not found.sound:
        raise damaged(file, found.problems[0].message.rstrip("."))
    for name in DATABASES[1:]:
        if name in names and (fault := integrity_fault(place / name)):
            raise damaged(file, f"{name}: {fault}")


def integrity_fault(file: Path) -> str | None:
    """Return what SQLite finds wrong with a file; None when nothing is."""
    try:
        with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            told = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        return getattr(error, "sqlite_errorname", type(error).__name__)
    return None if told == "ok" else str(told)
