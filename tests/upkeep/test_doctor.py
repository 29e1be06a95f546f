"""`weft doctor` finds what is wrong, and says what to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from servers.postgres import QUICK, Postgres

from weft.redaction import Secret
from weft.runtime import Runtime
from weft.upkeep import doctor
from weft.upkeep.doctor import Finding, Patient, examine

ROOT = Path(__file__).parents[2]
GREET = "name: greet\nsteps: [{id: say, uses: set_values, with: {values: {text: hello}}}]\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a run and a stored connection, and a workspace with a workflow."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "greet.yaml").write_text(GREET, encoding="utf-8")
    return tmp_path


async def furnish(home: Path) -> None:
    async with Runtime.open(home=home) as runtime:
        await runtime.run(runtime.compile(Path("workflows/greet.yaml")), {})
        runtime.store.write("mine", "http", {"base_url": "http://127.0.0.1:1"}, {"token": Secret("hush-hush-hush")})
        await runtime.opened_state()


def found(home: Path, port: int = 0) -> dict[str, Finding]:
    """Return the worst finding of each check."""

    async def look() -> list[Finding]:
        patient = Patient(home, os.environ, lambda: Runtime.open(home=home), port)
        return [finding async for finding in examine(patient)]

    order = ("ok", "warning", "error")
    worst: dict[str, Finding] = {}
    for finding in asyncio.run(look()):
        known = worst.get(finding.check)
        if known is None or order.index(finding.grade) > order.index(known.grade):
            worst[finding.check] = finding
    return worst


def test_a_sound_home_has_one_warning_that_nobody_works(place: Path) -> None:
    """Everything else is in order, and nothing was changed."""
    asyncio.run(furnish(place / "home"))
    before = sorted(path.name for path in (place / "home").rglob("*") if "alive" not in path.parts)
    told = found(place / "home")
    assert {name: each.grade for name, each in told.items() if each.grade != "ok"} == {"workers": "warning"}
    assert set(told) >= {
        "python",
        "litellm",
        "home",
        "disk",
        "connections",
        "journal",
        "state",
        "settings",
        "workflows",
        "port",
    }
    after = sorted(path.name for path in (place / "home").rglob("*") if "alive" not in path.parts)
    assert [name for name in after if not name.endswith(("-wal", "-shm"))] == [
        name for name in before if not name.endswith(("-wal", "-shm"))
    ]


def opened_to_all(home: Path) -> None:
    home.chmod(0o755)


def without_key(home: Path) -> None:
    for file in (home.parent / "config").rglob("*.key"):
        file.unlink()


def with_another_key(home: Path) -> None:
    for file in (home.parent / "config").rglob("*.key"):
        file.write_text("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=\n")


def with_a_broken_journal(home: Path) -> None:
    for suffix in ("-wal", "-shm"):
        (home / f"journal.db{suffix}").unlink(missing_ok=True)
    content = bytearray((home / "journal.db").read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    (home / "journal.db").write_bytes(content)


def with_a_broken_state(home: Path) -> None:
    for suffix in ("-wal", "-shm"):
        (home / f"state.db{suffix}").unlink(missing_ok=True)
    (home / "state.db").write_bytes(b"no database at all, but long enough to be looked at" * 100)


def with_a_faulty_workflow(home: Path) -> None:
    (home.parent / "workflows" / "bad.yaml").write_text("name: bad\nsteps: [{id: a, uses: nothing}]\n")


def with_faulty_settings(home: Path) -> None:
    (home / "workspace.yaml").write_text("budgett: {}\n")


def with_a_clock_that_was_set_back(home: Path) -> None:
    os.utime(home / "journal.db", (4_000_000_000, 4_000_000_000))


@pytest.mark.parametrize(
    ("spoil", "check", "grade"),
    [
        (opened_to_all, "home", "warning"),
        (without_key, "connections", "error"),
        (with_another_key, "connections", "error"),
        (with_a_broken_journal, "journal", "error"),
        (with_a_broken_state, "state", "error"),
        (with_a_faulty_workflow, "workflows", "error"),
        (with_faulty_settings, "settings", "error"),
        (with_a_clock_that_was_set_back, "clock", "error"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_each_thing_that_is_wrong_is_found(place: Path, spoil: Callable[[Path], None], check: str, grade: str) -> None:
    """With what can be done about it."""
    asyncio.run(furnish(place / "home"))
    spoil(place / "home")
    told = found(place / "home")[check]
    assert told.grade == grade, told
    assert told.remedy


def test_a_journal_that_is_held_is_found(place: Path) -> None:
    """Whoever holds it is named, where the system tells."""
    asyncio.run(furnish(place / "home"))
    with contextlib.closing(sqlite3.connect(place / "home" / "journal.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = found(place / "home")["journal"]
        other.execute("ROLLBACK")
    assert told.grade == "error"
    assert "holds the journal" in told.message


def test_a_port_that_is_taken_is_found(tmp_path: Path) -> None:
    """It may be the server itself, so it is a warning."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert found(tmp_path, taken.getsockname()[1])["port"].grade == "warning"


def test_traces_without_their_packages_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is the extra."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert found(tmp_path)["telemetry"].grade == "ok"

    def version(name: str) -> str:
        if name.startswith("opentelemetry"):
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return "1.105.3"

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    told = found(tmp_path)["telemetry"]
    assert told.grade == "warning"
    assert "weft[otel]" in (told.remedy or "")


def test_a_database_that_may_lose_things_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings are looked at, and its clock."""
    with Postgres({**QUICK, "synchronous_commit": "off"}) as server:
        monkeypatch.setenv("WEFT_DATABASE_URL", server.database())

        async def begin() -> None:
            async with Runtime.open(home=place / "home") as runtime:
                await runtime.opened()

        asyncio.run(begin())
        told = found(place / "home")
        assert told["durability"].grade == "warning"
        assert told["durability"].remedy
        assert (told["clock"].grade, told["journal"].grade, told["workers"].grade) == ("ok", "ok", "warning")
        server.stop()
        assert found(place / "home")["journal"].grade == "error"


def test_what_was_left_in_the_home_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a database, nobody looks at tokens, connections and runs that still lie in files."""
    asyncio.run(furnish(place / "home"))
    monkeypatch.setenv("WEFT_DATABASE_URL", "postgresql://weft@127.0.0.1:1/weft")
    told = found(place / "home")["home"]
    assert told.grade == "warning"
    assert "connections.db" in told.message
    assert "state.db" in told.message
    assert "weft journal move" in (told.remedy or "")


def test_the_command_tells_lines_or_json(place: Path) -> None:
    """Exit code 1 where there is an error, and no secret in what it says."""
    asyncio.run(furnish(place / "home"))
    with_a_faulty_workflow(place / "home")
    words = [sys.executable, "-m", "weft", "doctor", "--home", str(place / "home"), "--port", "1"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    plain = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert plain.returncode == 1, plain.stderr
    assert re.search(r"^error\tworkflows\t.*bad\.yaml", plain.stdout, re.MULTILINE)
    told = subprocess.run([*words, "--json"], env=environ, capture_output=True, text=True, timeout=60, check=False)
    answer = json.loads(told.stdout)
    assert answer["ok"] is False
    assert {"check", "grade", "message", "remedy"} == set(answer["findings"][0])


def test_the_versions_are_those_that_weft_is_installed_with() -> None:
    """What the doctor asks for is what pyproject.toml says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [litellm] = [each for each in project["dependencies"] if each.startswith("litellm")]
    low, high = (".".join(map(str, each)) for each in doctor.LITELLM)
    refused = "".join(f",!={'.'.join(map(str, each))}.*" for each in doctor.LITELLM_REFUSED)
    assert litellm == f"litellm>={low},<{high}{refused}"
    assert project["requires-python"] == f">={'.'.join(map(str, doctor.PYTHON))}"
