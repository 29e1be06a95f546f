"""What belongs to a home, and what a backup of one says of itself."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field

from weft.connections import Keys
from weft.errors import ConnectionUnusable

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"

DATABASES: Final = ("journal.db", "state.db", "connections.db")
"""Files that are in use while they are copied: only SQLite itself may copy them (rule A14)."""

DOCUMENTS: Final = ("connections.yaml", "environments.yaml", "workspace.yaml", "models.yaml")
"""What people write by hand, where it lies in the home."""

OUTBOX: Final = "outbox"
WORKSPACE: Final = "workspace"
KEYS: Final = "keys"

APPROVALS: Final = "approvals"
"""The name of the keys that approval tokens are signed with."""

LEFT_OUT: Final = {
    "alive": "says which processes live",
    "locks": "the same of writers",
    "logs": "tells of what was, and is needed by nothing",
    "models": "weights of the built-in model; they are fetched again",
}

Kind = Literal["database", "document", "mail", "workspace", "key"]


class Member(BaseModel):
    """One file of a backup."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Kind
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What a backup holds; it stands first in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    weft: str
    made_at: str
    lineage: str | None = None  #: of the journal
    keys: bool  #: whether those of stored connections and approval tokens are in it
    members: tuple[Member, ...]


def files_in(directory: Path) -> Iterator[Path]:
    """Yield the files below a directory, none that is hidden or leads elsewhere."""
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_dir():
            yield from files_in(path)
        elif path.is_file():
            yield path


def key_files(home: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files of the keys that this home needs; none where WEFT_KEY holds them."""
    keys = Keys(environ, home)
    if keys.given:
        return
    found = {keys.file(name) for name in (APPROVALS, *_store_ids(home / "connections.db")) if _is_usable(keys, name)}
    yield from (file for file in sorted(found) if file.is_file())


def key_place(environ: Mapping[str, str], name: str) -> Path:
    """Return where the file of a key belongs on this machine."""
    named = environ.get("WEFT_KEY_FILE")
    return Path(named) if named else platformdirs.user_config_path("weft-keys") / name


def _is_usable(keys: Keys, name: str) -> bool:
    try:
        keys.file(name)
    except ConnectionUnusable:  # it would lie in the home: nothing was kept there
        return False
    return True


def _store_ids(file: Path) -> list[str]:
    if not file.exists():
        return []
    connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
    try:
        return [str(id_) for (id_,) in connection.execute("SELECT id FROM weft_store")]
    finally:
        connection.close()


def sha256_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
