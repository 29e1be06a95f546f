"""The keys of the store: from the variable WEFT_KEY, or from a file of the user's that does not lie beside the store."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from weft.errors import ConnectionUnusable, Where

BYTES = 32  #: of a key for AES-256
LEFTOVER_S = 3600.0  #: after which a temporary file belongs to nobody; one is used for less than a second

MAKE_ONE = "openssl rand -base64 32"


@dataclass(frozen=True, slots=True)
class Key:
    """A key and its id, which tells it from others and nothing else of it."""

    id: str
    content: bytes = field(repr=False)


def key_of(text: str, origin: str) -> Key:
    """Return the key that a text holds: 32 bytes in base64, of either alphabet.

    Raises:
        ConnectionUnusable: It is none; the text is not shown.
    """
    try:
        content = base64.b64decode(text.strip().replace("-", "+").replace("_", "/") + "==", validate=False)
    except (binascii.Error, ValueError):
        content = b""
    if len(content) != BYTES:
        raise ConnectionUnusable(
            f"{origin} holds no key: a key is {BYTES} random bytes in base64.",
            code="bad_key",
            remedy=f"Give the key that the store was made with; a new one comes from: {MAKE_ONE}",
        )
    return Key(hashlib.sha256(b"weft key id" + content).hexdigest()[:16], content)


class Keys:
    """Where keys are found, and kept when Weft makes them itself.

    WEFT_KEY holds one key, or several with commas between while the store goes over to the first. Otherwise each
    store has a file of its own, by default in the user's configuration, which is the user's alone.
    """

    def __init__(self, environ: Mapping[str, str], beside: Path) -> None:
        self._environ = environ
        self._given = environ.get("WEFT_KEY")
        self._named = environ.get("WEFT_KEY_FILE")
        self._beside = beside

    @property
    def given(self) -> bool:
        """Whether the keys come from WEFT_KEY, so that Weft cannot change them."""
        return bool(self._given)

    @property
    def shared(self) -> bool:
        """Whether somebody has provided the keys, so that other machines can have the same."""
        return self.given or (self._named is not None and Path(self._named).is_file())

    def file(self, store: str) -> Path:
        """Return the file of a store's keys.

        Raises:
            ConnectionUnusable: It would lie beside the store, where whoever takes one takes both.
        """
        file = Path(self._named) if self._named else platformdirs.user_config_path("weft-keys") / f"{store}.key"
        if file.resolve().is_relative_to(self._beside.resolve()):
            raise ConnectionUnusable(
                f"The key file {file} would lie in the directory of the store that it protects.",
                code="key_beside_store",
                remedy="Name another file with WEFT_KEY_FILE, or give the key itself in WEFT_KEY.",
            )
        return file

    def origin(self, store: str) -> str:
        """Return where the keys come from, for messages."""
        return "WEFT_KEY" if self.given else str(self.file(store))

    def load(self, store: str) -> tuple[Key, ...]:
        """Return the keys that there are, the newest first; none when there is no file yet.

        Raises:
            ConnectionUnusable: One is no key, or others may read the file.
        """
        if self._given:
            parts = [part for part in self._given.split(",") if part.strip()]
            return tuple(key_of(part, "WEFT_KEY") for part in parts or [""])  # commas alone are a key that is none
        file = self.file(store)
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
        except FileNotFoundError:
            return ()
        if mode & (0o037 if self._is_credential(file) else 0o077):
            raise ConnectionUnusable(
                f"Others may read the key file {file}.",
                code="open_key",
                remedy=f"Run: chmod 600 {file}. If others may have read it: weft connections rotate-key",
                where=Where(str(file)),
            )
        lines = file.read_text(encoding="ascii", errors="replace").split()
        return tuple(key_of(line, str(file)) for line in lines or [""])

    def _is_credential(self, file: Path) -> bool:
        """Tell whether a service manager hands the file over: its mode shows an access list, which names one user, as a group.

        systemd.exec(5), LoadCredential=.
        """
        directory = self._environ.get("CREDENTIALS_DIRECTORY")
        return bool(directory) and file.parent == Path(str(directory))

    def first(self, store: str) -> Key:
        """Return the newest key; a first one is made when there is none, and kept unless somebody else was faster."""
        if not (keys := self.load(store)):
            with contextlib.suppress(FileExistsError):
                self.keep(store, [new_key()], anew=True)
            keys = self.load(store)
        return keys[0]

    def keep(self, store: str, keys: Sequence[Key], *, anew: bool = False) -> None:
        """Write the file of a store's keys, whole or not at all, on the disk when this returns.

        Raises:
            FileExistsError: There is one, and it was to be made `anew`.
        """
        file = self.file(store)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_leftovers(file.parent, f".{file.name}-" if self._named else ".")
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")  # made 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as out:
                out.writelines(f"{base64.b64encode(key.content).decode()}\n" for key in keys)
                out.flush()
                os.fsync(out.fileno())
            if anew:
                file.hardlink_to(temporary)
            else:
                Path(temporary).replace(file)
        finally:
            Path(temporary).unlink(missing_ok=True)
        sync_directory(file.parent)


def new_key() -> Key:
    """Return a new random key."""
    return key_of(base64.b64encode(secrets.token_bytes(BYTES)).decode(), "the machine's source of random bytes")


def remove_leftovers(directory: Path, prefix: str) -> None:
    """Remove temporary files of a process that was killed: those so old that nobody can be writing them still."""
    for file in directory.iterdir():
        if file.name.startswith(prefix):
            with contextlib.suppress(FileNotFoundError):  # another process is tidying up too
                if file.stat().st_mtime < time.time() - LEFTOVER_S:
                    file.unlink()


def sync_directory(directory: Path) -> None:
    """Bring a directory's entries to the disk: a file that was made or renamed is there after a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
