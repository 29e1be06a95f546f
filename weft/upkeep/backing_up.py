"""A copy of a whole home in one file, made while work goes on, and complete or not there at all.

The databases are copied by SQLite (rule A14), the journal last: what it knows of is in what was copied before, or was
there before that. The finished file is read back before it gets its name.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from weft import __version__
from weft.errors import JournalRefused, JournalUnavailable, NotFound
from weft.journal.health import no_journal, of_file
from weft.journal.sqlite import SqliteJournal
from weft.journal.sqlite_file import back_up as copy_database
from weft.journal.sqlite_file import failed
from weft.upkeep.members import (
    DATABASES,
    DOCUMENTS,
    FORMAT,
    KEYS,
    MANIFEST,
    OUTBOX,
    WORKSPACE,
    Kind,
    Manifest,
    Member,
    files_in,
    key_files,
    sha256_of,
)
from weft.upkeep.reading import verified

JOURNAL: Final = DATABASES[0]
TRIES: Final = 5
"""A mail may be moved by whoever reads it while it is being copied."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What goes into a backup besides the home."""

    workspace: Path | None  #: directory of workflows
    with_keys: bool
    environ: Mapping[str, str]


async def back_up(home: Path, to: Path, parts: Parts) -> Manifest:
    """Write a copy of a home to a file.

    Raises:
        NotFound: There is no journal in the home, or no directory for the copy.
        JournalRefused: The file would lie in what is being copied.
        JournalUnavailable: The journal, or another database, cannot be copied.
    """
    if not (home / JOURNAL).exists():
        raise no_journal(str(home / JOURNAL), "There is nothing to back up.")
    if not to.parent.is_dir():
        raise NotFound(
            f"There is no directory {to.parent}.", code="no_directory", remedy="Make it, or name another place."
        )
    _refuse_inside(to, home, parts.workspace)
    with tempfile.TemporaryDirectory(prefix=".weft-backup-", dir=to.parent) as place:
        staged = Path(place)
        members = list(_copied(home, staged, parts))
        journal = SqliteJournal(home / JOURNAL)
        await journal.open()
        try:
            await journal.back_up(staged / JOURNAL)
        finally:
            await journal.close()
        members.insert(0, _member(staged, JOURNAL, "database"))
        manifest = Manifest(
            format=FORMAT,
            weft=__version__,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            lineage=of_file(home / JOURNAL).lineage,
            keys=any(member.kind == "key" for member in members),
            members=tuple(members),
        )
        part = staged / "whole.part"
        _pack(manifest, staged, part)
        with verified(part, staged / "read-back"):
            pass
        _keep(part, to)
    return manifest


def _refuse_inside(to: Path, home: Path, workspace: Path | None) -> None:
    for place in (home, workspace):
        if place is not None and to.resolve().is_relative_to(place.resolve()):
            raise JournalRefused(
                f"{to} would lie in {place}, which is to be copied.", code="file_inside", remedy="Name another place."
            )


def _copied(home: Path, staged: Path, parts: Parts) -> Iterator[Member]:
    for name in DATABASES[1:]:
        if (home / name).exists():
            _copy_database(home / name, staged / name)
            yield _member(staged, name, "database")
    for name in DOCUMENTS:
        if (home / name).is_file():
            shutil.copyfile(home / name, staged / name)
            yield _member(staged, name, "document")
    if (home / OUTBOX).is_dir():
        yield from _copied_tree(home / OUTBOX, staged, OUTBOX, "mail")
    if parts.workspace is not None and parts.workspace.is_dir():
        yield from _copied_tree(parts.workspace, staged, WORKSPACE, "workspace")
    if parts.with_keys:
        for file in key_files(home, parts.environ):
            (staged / KEYS).mkdir(exist_ok=True, mode=0o700)
            shutil.copyfile(file, staged / KEYS / file.name)
            yield _member(staged, f"{KEYS}/{file.name}", "key")


def _copy_database(file: Path, to: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(file, isolation_level=None, timeout=10)) as connection:
            copy_database(connection, to)
    except sqlite3.Error as error:
        raise failed(file, error, "copied") from None


def _copied_tree(directory: Path, staged: Path, name: str, kind: Kind) -> Iterator[Member]:
    for _ in range(TRIES):
        shutil.rmtree(staged / name, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):  # it was moved meanwhile: look again where everything is
            for file in files_in(directory):
                to = staged / name / file.relative_to(directory)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, to)
            break
    else:
        raise JournalUnavailable(f"{directory} changes too fast to be copied.", remedy="Call again in a moment.")
    if (staged / name).is_dir():
        for file in files_in(staged / name):
            yield _member(staged, str(file.relative_to(staged)), kind)


def _member(staged: Path, name: str, kind: Kind) -> Member:
    file = staged / name
    return Member(name=name, kind=kind, size=file.stat().st_size, sha256=sha256_of(file))


def _pack(manifest: Manifest, staged: Path, to: Path) -> None:
    descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out, tarfile.open(fileobj=out, mode="w:gz", compresslevel=4) as packed:
        told = manifest.model_dump_json(indent=2).encode()
        packed.addfile(_entry(MANIFEST, len(told)), io.BytesIO(told))
        for member in manifest.members:
            with (staged / member.name).open("rb") as content:
                packed.addfile(_entry(member.name, member.size), content)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(datetime.now(UTC).timestamp())
    return entry


def _keep(part: Path, to: Path) -> None:
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(to)
    directory = os.open(to.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
