"""A copy of the whole home, and its way back."""

from __future__ import annotations

import asyncio
import io
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from weft.access import Access, Audit, Identity
from weft.errors import JournalRefused, JournalUnavailable, NotFound
from weft.journal.health import of_file
from weft.redaction import Secret
from weft.runtime import Runtime
from weft.upkeep.backing_up import Parts, back_up
from weft.upkeep.members import Manifest
from weft.upkeep.restoring import restore

ROOT = Path(__file__).parents[2]
FLOW = """
name: flow
steps:
  - {id: greet, uses: set_values, with: {values: {text: hello}}}
"""
WAITS = """
name: waits
steps:
  - {id: before, uses: set_values, with: {values: {text: hello}}}
  - {id: nap, wait: {for: 3h}}
"""
BOSS = Identity("boss", "local", frozenset({"admin"}))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a workspace, in which `weft` is called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflows").mkdir()
    for text in (FLOW, WAITS):
        name = text.split()[1]
        (tmp_path / "workflows" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


async def furnish(home: Path) -> str:
    """Put something of everything into a home; return the id of a run that has not ended."""
    async with Runtime.open(home=home) as runtime:
        assert (await runtime.run(runtime.compile(Path("workflows/flow.yaml")), {})).state == "succeeded"
        waiting = await runtime.submit(runtime.compile(Path("workflows/waits.yaml")), {})
        await runtime.driver.advance(waiting)
        runtime.store.write("mine", "http", {"base_url": "http://127.0.0.1:1"}, {"token": Secret("hush-hush-hush")})
        state = await runtime.opened_state()
        await Access(state).create_token("ci", ("view",), by="boss", expires_s=None)
        await Access(state).begin_session("somebody", "session", ("view",))
        await Audit(state).record(BOSS, "token.created", "ci")
        letter = home / "outbox" / "new" / "1.M1P1Q1.host"
        letter.parent.mkdir(parents=True, exist_ok=True)
        letter.write_bytes(b"Subject: kept\n\nhello")
    (home / "workspace.yaml").write_text("budget: {day: {tokens: 1000}}\n", encoding="utf-8")
    (home / "models").mkdir(exist_ok=True)
    (home / "models" / "weights.gguf").write_bytes(b"large")
    return waiting


def parts(*, with_keys: bool = False) -> Parts:
    return Parts(Path("workflows"), with_keys, os.environ)


def weft(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "weft", *words, "--home", str(home)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_home_comes_back_with_all_that_belongs_to_it(place: Path) -> None:
    """Runs, versions, tokens, audit log, connections, mails and settings are there; what has not ended is for review."""
    home, copy = place / "home", place / "copies" / "home.weft"
    copy.parent.mkdir()
    waiting = asyncio.run(furnish(home))
    manifest = asyncio.run(back_up(home, copy, parts(with_keys=True)))
    assert {member.name for member in manifest.members} >= {
        "journal.db",
        "state.db",
        "connections.db",
        "workspace.yaml",
        "outbox/new/1.M1P1Q1.host",
        "workspace/flow.yaml",
        "workspace/waits.yaml",
    }
    assert copy.stat().st_mode & 0o777 == 0o600
    asyncio.run(later(home))
    keys = list((place / "config").rglob("*.key"))
    for file in keys:
        file.unlink()

    done = restore(copy, home, os.environ, workspace=place / "theirs")
    assert done.aside is not None
    assert (done.aside / "journal.db").exists()
    assert (home / "models" / "weights.gguf").read_bytes() == b"large"
    assert (place / "theirs" / "flow.yaml").read_text() == FLOW
    assert sorted(done.keys) == sorted(map(str, keys))
    assert [file.stat().st_mode & 0o777 for file in keys] == [0o600] * len(keys)
    assert (home / "outbox" / "new" / "1.M1P1Q1.host").read_bytes().endswith(b"hello")
    assert not (home / "keys").exists()
    found = of_file(home / "journal.db")
    assert (found.runs, found.review) == ({"succeeded": 1, "parked": 1}, 1)
    assert found.lineage != manifest.lineage
    asyncio.run(look(home, waiting))


async def later(home: Path) -> None:
    """Do what the restore must undo."""
    async with Runtime.open(home=home) as runtime:
        await runtime.run(runtime.compile(Path("workflows/flow.yaml")), {})
        await Audit(await runtime.opened_state()).record(BOSS, "token.created", "later")


async def look(home: Path, waiting: str) -> None:
    async with Runtime.open(home=home) as runtime:
        journal = await runtime.opened()
        reason = json.loads((await journal.status(waiting)).status.reason or "{}")
        assert reason["code"] == "restored"
        assert runtime.store.opened("mine")[1]["token"].reveal() == "hush-hush-hush"
        state = await runtime.opened_state()
        assert [entry.target for entry in await Audit(state).list()] == ["ci"]
        assert (await Audit(state).verify()).faults == ()
    with closing(sqlite3.connect(home / "state.db")) as connection:
        assert connection.execute("SELECT count(*) FROM weft_sessions").fetchone() == (0,), "logins are ended"
        assert connection.execute("SELECT count(*) FROM weft_tokens").fetchone() == (1,)


def test_keys_stay_out_unless_they_are_asked_for(place: Path) -> None:
    """Without them a backup opens no stored connection, and nothing of them is in it."""
    asyncio.run(furnish(place / "home"))
    keys = [file.read_bytes() for file in (place / "config").rglob("*.key")]
    assert keys
    for with_keys in (False, True):
        copy = place / f"{with_keys}.weft"
        manifest = asyncio.run(back_up(place / "home", copy, parts(with_keys=with_keys)))
        assert manifest.keys is with_keys
        with tarfile.open(copy) as packed:
            held = [content.read() for entry in packed if (content := packed.extractfile(entry))]
        assert any(key in text for key in keys for text in held) is with_keys


def test_a_backup_is_made_while_a_worker_works(place: Path) -> None:
    """Runs go on meanwhile, and each of the copies, made one after the other, can be restored (rule A14)."""
    home, stop, ran = place / "home", threading.Event(), 0
    asyncio.run(furnish(home))

    async def work() -> None:
        nonlocal ran
        async with Runtime.open(home=home) as runtime:
            planned = runtime.compile(Path("workflows/flow.yaml"))
            while not stop.is_set():
                await runtime.run(planned, {})
                ran += 1

    worker = threading.Thread(target=lambda: asyncio.run(work()))
    worker.start()
    try:
        counts = []
        for number in range(3):
            before = ran
            asyncio.run(back_up(home, place / f"{number}.weft", parts()))
            counts.append((before, ran))
            time.sleep(0.1)
    finally:
        stop.set()
        worker.join()
    assert counts[-1][1] > counts[0][0], "it worked meanwhile"
    for number, (before, after) in enumerate(counts):
        restore(place / f"{number}.weft", place / f"new-{number}", os.environ)
        ended = of_file(place / f"new-{number}" / "journal.db").runs["succeeded"]
        assert before <= ended - 1 <= after + 1


def test_nothing_is_restored_under_a_process_that_lives(place: Path) -> None:
    """It is refused, and nothing is changed."""
    home, copy = place / "home", place / "home.weft"
    asyncio.run(furnish(home))
    asyncio.run(back_up(home, copy, parts()))

    async def alive() -> None:
        async with Runtime.open(home=home) as runtime:
            await runtime.opened()
            with pytest.raises(JournalRefused) as refused:
                await asyncio.to_thread(restore, copy, home, os.environ)
            assert refused.value.problem.code == "journal_in_use"

    before = (home / "state.db").stat().st_ino
    asyncio.run(alive())
    assert (home / "state.db").stat().st_ino == before
    assert sorted(path.name for path in place.glob(".weft*")) == []


def entries(copy: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(copy) as packed:
        return [(entry, content.read()) for entry in packed if (content := packed.extractfile(entry))]


def pack(copy: Path, held: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with tarfile.open(copy, "w:gz") as packed:
        for entry, content in held:
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))


def renamed(held: list[tuple[tarfile.TarInfo, bytes]], old: str, new: str) -> None:
    """Call a member otherwise, in the manifest too."""
    manifest = json.loads(held[0][1])
    for member in manifest["members"]:
        if member["name"] == old:
            member["name"] = new
    held[0] = (held[0][0], json.dumps(manifest).encode())
    for entry, _ in held:
        entry.name = new if entry.name == old else entry.name


def spoil(how: str, held: list[tuple[tarfile.TarInfo, bytes]]) -> Iterator[Any]:
    match how:
        case "changed":
            number = next(i for i, (entry, _) in enumerate(held) if entry.name == "workspace/flow.yaml")
            held[number] = (held[number][0], held[number][1].replace(b"hello", b"jello"))
        case "missing":
            del held[-1]
        case "more":
            held.append((tarfile.TarInfo("outbox/new/extra"), b"x"))
        case "upwards":
            renamed(held, "workspace.yaml", "../escaped")
        case "absolute":
            renamed(held, "workspace.yaml", "/tmp/escaped")
        case "hidden":
            renamed(held, "workspace.yaml", "journal.db-mark")
        case "link":
            entry = tarfile.TarInfo(held[-1][0].name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            held[-1] = (entry, b"")
        case "no journal":
            renamed(held, "journal.db", "workspace/journal.db")
        case "no manifest":
            del held[0]
        case "newer":
            manifest = json.loads(held[0][1]) | {"format": 99, "of": "another make"}
            held[0] = (held[0][0], json.dumps(manifest).encode())
    yield None


@pytest.mark.parametrize(
    "how",
    [
        "changed",
        "missing",
        "more",
        "upwards",
        "absolute",
        "hidden",
        "link",
        "no journal",
        "no manifest",
        "newer",
        "cut off",
    ],
)
def test_what_is_not_as_it_was_made_is_refused(place: Path, how: str) -> None:
    """Nothing of it comes to the home, nor anywhere else."""
    home, copy = place / "home", place / "home.weft"
    asyncio.run(furnish(home))
    asyncio.run(back_up(home, copy, parts()))
    if how == "cut off":
        copy.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2])
    else:
        held = entries(copy)
        list(spoil(how, held))
        pack(copy, held)
    shutil.rmtree(home)
    with pytest.raises(JournalRefused) as refused:
        restore(copy, home, os.environ)
    assert refused.value.problem.code == ("backup_too_new" if how == "newer" else "backup_damaged")
    assert not home.exists()
    assert not (place / "escaped").exists()
    assert list(place.glob(".weft*")) == []


def test_a_full_disk_is_not_taken_for_a_damaged_backup(place: Path) -> None:
    """Neither the home nor the copy is harmed, and the remedy is room."""
    home, copy = place / "home", place / "home.weft"
    asyncio.run(furnish(home))
    asyncio.run(back_up(home, copy, parts()))
    before = of_file(home / "journal.db").lineage
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, hard))
    try:
        with pytest.raises(JournalUnavailable) as refused:
            restore(copy, home, os.environ)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.problem.code == "disk_full"
    assert str(place) in refused.value.problem.message
    assert of_file(home / "journal.db").lineage == before
    assert list(place.glob(".weft*")) == []
    assert restore(copy, home, os.environ).aside is not None


def test_a_place_that_is_not_there_is_told(place: Path) -> None:
    """By its own name."""
    asyncio.run(furnish(place / "home"))
    with pytest.raises(NotFound, match=r"no directory .*gone") as missing:
        asyncio.run(back_up(place / "home", place / "gone" / "home.weft", parts()))
    assert missing.value.problem.code == "no_directory"


def test_a_damaged_journal_is_not_restored(place: Path) -> None:
    """Its hash may be right, and its content wrong."""
    home, copy = place / "home", place / "home.weft"
    asyncio.run(furnish(home))
    asyncio.run(back_up(home, copy, parts()))
    held = entries(copy)
    manifest = Manifest.model_validate_json(held[0][1])
    assert held[1][0].name == "journal.db"
    broken = held[1][1][:8192] + b"\0" * (len(held[1][1]) - 8192)
    (place / "broken").write_bytes(broken)
    told = json.loads(manifest.model_dump_json())
    import hashlib

    told["members"][0] |= {"sha256": hashlib.sha256(broken).hexdigest()}
    pack(copy, [(held[0][0], json.dumps(told).encode()), (held[1][0], broken), *held[2:]])
    with pytest.raises(JournalRefused):
        restore(copy, place / "other", os.environ)


def test_a_home_that_is_a_volume_is_restored_in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's volume cannot be renamed: what is in it changes places entry by entry.

    It is only said to be one: to mount takes rights that not everybody has.
    """
    home, copy = place / "home", place / "home.weft"
    monkeypatch.setattr(Path, "is_mount", lambda path: path == home)
    asyncio.run(furnish(home))
    asyncio.run(back_up(home, copy, parts()))
    asyncio.run(later(home))
    done = restore(copy, home, os.environ)
    assert done.aside is not None
    assert done.aside.parent == home
    assert of_file(done.aside / "journal.db").runs["succeeded"] == 2
    assert of_file(home / "journal.db").runs == {"succeeded": 1, "parked": 1}
    assert (home / "models" / "weights.gguf").exists()
    assert not (home / "journal.db.moved.txt").exists()
    asyncio.run(later(home))


def test_the_commands_say_what_was_done(place: Path) -> None:
    """`weft backup` and `weft restore`, as people call them."""
    home, copy = place / "home", place / "home.weft"
    asyncio.run(furnish(home))
    made = weft(home, "backup", str(copy))
    assert made.returncode == 0, made.stderr
    assert "read back, and sound" in made.stdout
    assert "Keys are not in it" in made.stdout
    again = weft(home, "backup", str(copy))
    assert (again.returncode, "file_exists" in again.stderr or "is there already" in again.stderr) == (1, True)
    back = weft(place / "other", "restore", str(copy))
    assert back.returncode == 0, back.stderr
    assert "1 run held for review: weft runs list --state parked" in back.stdout


async def test_a_home_without_a_journal_has_nothing_to_copy(tmp_path: Path) -> None:
    """It is said, and nothing is written."""
    with pytest.raises(NotFound):
        await back_up(tmp_path, tmp_path.parent / "nothing.weft", Parts(None, False, {}))
    with pytest.raises(NotFound):
        await asyncio.to_thread(restore, tmp_path / "nothing.weft", tmp_path / "home", {})
