"""What every store of documents is asked, and what it answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from weft.errors import Conflict, InvalidInputs, InvalidSource, NotFound, TooLarge, Where
from weft.source import MAX_BYTES, Source, read
from weft.types import Json, JsonObject

OUTSIDE: Final = "outside"
"""By whom a change is that was made past Weft: an editor, git."""

LONGEST_NAME: Final = 64
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(?:-[a-z0-9_]+)*")


@dataclass(frozen=True, slots=True)
class DocumentFacts:
    """A document of a list."""

    name: str
    file: str
    etag: str  #: sha256 of its bytes, in hexadecimal
    size: int  #: in bytes
    changed_at: float  #: seconds since 1970


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it is at one moment."""

    name: str
    file: str  #: what messages give as its place
    text: str
    etag: str
    is_exact: bool = True  #: False: its bytes are not UTF-8, and the text shows them as well as it can


@dataclass(frozen=True, slots=True)
class Version:
    """What a document was, from one moment on."""

    number: int  #: grows by one with every change of the document
    etag: str  #: empty: it was removed
    at: float
    by: str
    why: str
    size: int


@dataclass(frozen=True, slots=True)
class Change:
    """A document that changed just now."""

    kind: Literal["added", "changed", "removed"]
    name: str
    etag: str  #: of what is there now; empty when nothing is
    by: str
    what: Literal["document", "layout"] = "document"


class Documents(Protocol):
    """The workflows of a workspace. Names are file names without `.yaml`."""

    @property
    def kind(self) -> Literal["directory", "database"]: ...

    @property
    def place(self) -> str:
        """Where they are: a path, or `database`."""
        ...

    async def list(self) -> Sequence[DocumentFacts]:
        """Return all documents by name, those that are no readable YAML among them."""
        ...

    async def peek(self, name: str) -> Document:
        """Return a document and leave its history alone, as whoever runs it does. Raises what `read` raises."""
        ...

    async def read(self, name: str) -> Document:
        """Return a document; what was done to it outside becomes a version first.

        Raises:
            NotFound: There is none of this name (`unknown_workflow`).
            TooLarge: It is larger than any document that Weft reads.
        """
        ...

    async def save(self, name: str, text: str, *, if_match: str | None, by: str, why: str = "") -> Document:
        """Keep a text, whole or not at all.

        Args:
            name: Of the document.
            text: What it is from now on.
            if_match: The etag of what it takes the place of; None: it is new.
            by: Who does it.
            why: What for.

        Raises:
            Conflict: It was changed since (`conflict`), or there is one already (`exists`); carries both sides.
            InvalidInputs: The name is none, or the text cannot be kept.
            TooLarge: It is larger than any document that Weft reads.
            StateUnavailable: Its history cannot be kept; nothing was changed.
        """
        ...

    async def remove(self, name: str, *, if_match: str, by: str) -> None:
        """Remove a document, its layout and its pins; its versions stay. Raises what `save` raises, and NotFound."""
        ...

    async def rename(self, name: str, to: str, *, if_match: str, by: str) -> Document:
        """Give a document another name; layout and pins go with it, versions stay with their names."""
        ...

    async def versions(self, name: str, *, before: int | None = None, limit: int = 50) -> Sequence[Version]:
        """Return the versions of a document, the youngest first; those of one that was removed, too.

        Raises:
            NotFound: There has never been such a document.
        """
        ...

    async def version(self, name: str, number: int) -> str:
        """Return the text of a version. Raises NotFound (`unknown_version`)."""
        ...

    async def known(self, etag: str) -> str | None:
        """Return a text that some document was once, by its etag; None when no such text was kept."""
        ...

    async def layout(self, name: str) -> JsonObject:
        """Return how a document is drawn, as `save_layout` was given it; empty when nobody has said."""
        ...

    async def save_layout(self, name: str, layout: JsonObject, *, by: str) -> None: ...

    async def pins(self, name: str) -> dict[str, Json]:
        """Return the outputs that are held fast while a workflow is being made, by step."""
        ...

    async def save_pins(self, name: str, pins: Mapping[str, Json]) -> None: ...

    async def change_pins(self, name: str, pins: Mapping[str, Json], *, without: Collection[str] = ()) -> None:
        """Hold these fast as well, and those of `without` no longer; what others do at the same moment stays."""
        ...

    def changes(self) -> AsyncIterator[Change]:
        """Yield what changes from now on, by whomever, within half a second; close it when done (`aclose`)."""
        ...

    async def close(self) -> None: ...


class Exists(Conflict):
    """There is a document of this name already."""

    code = "exists"


# ---- what holds for all
def etag_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_name(name: str) -> bool:
    return len(name) <= LONGEST_NAME and _NAME.fullmatch(name) is not None


def require_name(name: str) -> None:
    """Refuse a name that a new document cannot have; InvalidInputs with the code `bad_name`."""
    if not is_name(name):
        raise InvalidInputs(
            f"{name[:80]!r} cannot be the name of a workflow.",
            code="bad_name",
            remedy=f"Use lower case letters, digits, _ and -, a letter first, at most {LONGEST_NAME} characters.",
        )


def content_of(name: str, text: str) -> bytes:
    """Return the bytes of a text that may be kept; raises InvalidInputs, or TooLarge."""
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInputs(
            f"Character {error.start + 1} of the text for {name!r} is half of a surrogate pair.",
            code="encoding",
            remedy="Send text that can be written as UTF-8.",
        ) from None
    require_size(name, len(content))
    return content


def require_size(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise TooLarge(
            f"{name!r} has {size:,} bytes; a workflow has at most {MAX_BYTES:,}.",
            remedy="Move long texts into inputs or artifacts, or split the workflow.",
        )


def document(name: str, file: str, content: bytes) -> Document:
    text = content.decode("utf-8", "replace")
    return Document(name, file, text, etag_of(content), text.encode("utf-8") == content)


DATABASE: Final = "database"


def file_in_database(name: str) -> str:
    """Return what messages give as the place of a document that is in no file."""
    return f"{DATABASE}:{name}.yaml"


def is_in_database(file: str) -> bool:
    return file.startswith(f"{DATABASE}:")


def source_of(found: Document) -> Source:
    """Read the YAML of a document.

    Raises:
        InvalidSource: It is not the YAML that Weft reads.
    """
    if not found.is_exact:
        raise InvalidSource(
            f"{found.file} is not UTF-8.", code="encoding", remedy="Save it as UTF-8.", where=Where(found.file, 1, 1)
        )
    return read(found.text, found.file)


def unknown(name: str, place: str) -> NotFound:
    return NotFound(f"There is no workflow {name[:80]!r} in {place}.", code="unknown_workflow")


def unknown_version(name: str, number: int) -> NotFound:
    return NotFound(
        f"{name!r} has no version {number}.", code="unknown_version", remedy=f"See: weft workspace history {name}"
    )


def conflict(name: str, theirs: str | None, yours: str | None) -> Conflict:
    """Return what to tell who speaks of a document that is no longer what it was."""
    what = "was removed" if theirs is None else "was changed by somebody else"
    return Conflict(
        f"{name!r} {what} since you have read it. Nothing was saved.",
        theirs=theirs,
        yours=yours,
        remedy="Read it again, and make your change in what it is now.",
    )


def exists(name: str, theirs: str, yours: str | None) -> Exists:
    return Exists(
        f"There is a workflow {name!r} already. Nothing was saved.",
        theirs=theirs,
        yours=yours,
        remedy="Choose another name, or change the one that is there.",
    )
