"""Commands with --server: the same output as on this machine, from a server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from offered import WRONG
from premises import Served

from weft.cli.app import _call
from weft.cli.state import State
from weft.engine.approving import Question

ROOT = Path(__file__).parents[2]


@dataclass
class Done:
    """What a command has done."""

    returncode: int
    stdout: str
    stderr: str


def call(*words: str, **environ: str) -> Done:
    """Do a command in this process; WEFT_SERVER and WEFT_TOKEN name the server."""
    out, err = io.StringIO(), io.StringIO()
    with patch.dict(os.environ, environ), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _call(list(words), State())
    return Done(code, out.getvalue(), err.getvalue())


async def weft(*words: str, **environ: str) -> Done:
    return await asyncio.to_thread(call, *words, **environ)


async def weft_run(*words: str) -> Done:
    """Do a command in a process of its own, as those that stop runs by Ctrl-C must be."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "weft", *words),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return Done(process.returncode or 0, out.decode(), err.decode())


async def shown(*words: str) -> Any:
    done = await weft(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def here(server: Served) -> dict[str, str]:
    """Return the environment in which commands work on the server's own home."""
    return {"WEFT_SERVER": "", "WEFT_HOME": str(server.home)}


async def test_a_run_is_shown_as_here(server: Served) -> None:
    """A run on a server is watched to its end; its report is the one that is told on the server's machine."""
    done = await weft_run("run", "greet", "-i", "who=Ada", "-i", "times=3")
    reported = json.loads((await weft_run("run", "greet", "-i", "who=Ada", "--json")).stdout)
    listed = await weft("runs", "list")
    there, local = await shown("runs", "show", reported["run_id"][:12]), None
    on_its_machine = await weft("runs", "show", reported["run_id"], "--json", **here(server))
    local = json.loads(on_its_machine.stdout)

    assert done.returncode == 0, done.stderr
    assert "Hello Ada 3" in done.stdout
    assert reported["outputs"] == {"text": "Hello Ada 1"}
    assert there == local == reported
    assert len(listed.stdout.splitlines()) == 2
    assert listed.stdout == (await weft("runs", "list", **here(server))).stdout


async def test_exit_codes_and_problems_are_those_of_here(server: Served) -> None:
    """What goes wrong on a server is told in the same words and with the same exit code."""
    missing, unknown, nothing = [
        await weft(*words) for words in (("run", "greet"), ("run", "nothing"), ("runs", "show", "nothing"))
    ]
    failed = await weft_run("run", "fails")

    assert (missing.returncode, unknown.returncode, failed.returncode, nothing.returncode) == (2, 4, 1, 4)
    assert "'who'" in missing.stderr
    assert "The stars are wrong." in failed.stderr


async def test_a_run_is_cancelled_answered_and_repeated(server: Served) -> None:
    """Runs of a server are cancelled, answered, run again and replayed."""
    slow = await shown("run", "slow", "--detach")
    stopped = await weft("runs", "cancel", slow["run_id"])
    ended = await weft("runs", "watch", slow["run_id"])
    asks = await shown("run", "asks", "--detach")
    for _ in range(50):
        if (await shown("runs", "show", asks["run_id"]))["state"] == "waiting":
            break
    answered = await weft("runs", "answer", asks["run_id"], "ok", "approve")
    done = await weft("runs", "watch", asks["run_id"])
    first = await shown("run", "greet", "-i", "who=Ada", "--detach")
    again = await shown("runs", "rerun", first["run_id"], "--with", "who=Eve", "--detach")
    again = await shown("runs", "watch", again["run_id"])
    replayed = await shown("runs", "replay", again["run_id"], "--from", "say", "--detach")

    assert "was asked to stop" in stopped.stdout
    assert ended.returncode == 130
    assert "is approved" in answered.stdout
    assert done.returncode == 0
    assert again["outputs"] == {"text": "Hello Eve 1"}
    assert replayed["origin"] == again["run_id"]


async def test_a_link_is_answered_and_pages_are_read_on(server: Served) -> None:
    """The token of a link answers on a server in the name that it was made for; a list goes on behind a run."""
    asks = await shown("run", "asks", "--detach")
    runtime = server.house.runtime
    async with asyncio.timeout(20):
        while (found := await runtime.journal.load(asks["run_id"])).status.state != "waiting":
            await asyncio.sleep(0.05)
    (question,) = [record for record in found.records if record.kind == "waits"]
    token = runtime.signer.token(Question(asks["run_id"], question.path, question.n, "", "May I?", None))
    answered = await weft("runs", "answer", "--token", f"http://any.example/approve/{token}?answer=approve")
    again = await weft("runs", "answer", "--token", token, "--reject")
    foreign = await weft("runs", "answer", "--token", "x", "--reject")
    done = await weft("runs", "watch", asks["run_id"])
    first = await shown("run", "greet", "-i", "who=Ada", "--detach")
    older = await shown("runs", "list", "--before", first["run_id"], "--limit", "1000")

    assert "is approved" in answered.stdout
    assert (again.returncode, foreign.returncode, done.returncode) == (1, 2, 0)
    assert token not in answered.stdout + answered.stderr + again.stdout + again.stderr
    assert [run["run_id"] for run in older] == [asks["run_id"]]


async def test_ctrl_c_cancels_the_run_on_the_server(server: Served) -> None:
    """Ctrl-C in `weft run --server` asks the server to stop the run, and ends with its exit code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "weft", "run", "slow"),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    while b"rest" not in (line := await asyncio.wait_for(process.stdout.readline(), 20)).lower():
        assert line
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 130
    assert (await shown("runs", "list"))[0]["state"] == "cancelled"


async def test_schedules_and_budgets_are_those_of_the_server(server: Served) -> None:
    """Schedules and budgets of a server are shown and changed as here."""
    armed = await weft("schedules", "sync", **here(server))
    assert armed.returncode == 0, armed.stderr
    for words in (
        ("schedules", "list"),
        ("schedules", "show", "clock"),
        ("schedules", "next", "clock"),
        ("budgets", "list"),
        ("budgets", "show", "greet"),
    ):
        there, local = await weft(*words, "--json"), await weft(*words, "--json", **here(server))
        assert (there.returncode, there.stderr) == (0, "")
        assert json.loads(there.stdout) == json.loads(local.stdout)
        plain, own = await weft(*words), await weft(*words, **here(server))
        assert plain.stdout == own.stdout
    paused = await weft("schedules", "pause", "clock")
    would = await shown("schedules", "backfill", "clock", "--from", "2026-11-01", "--to", "2026-11-02", "--dry-run")

    assert "paused" in paused.stdout
    assert (await shown("schedules", "list"))[0]["state"] == "paused"
    assert len(would) == 2


async def test_documents_are_checked_by_the_server(server: Served, tmp_path: Path) -> None:
    """A file of this machine is checked against what the server has; without a file, its workspace is."""
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG, encoding="utf-8")
    wrong, right = await weft("validate", str(file), "--json"), await weft("validate")

    assert wrong.returncode == 3
    (checked,) = json.loads(wrong.stdout)["documents"]
    assert checked["file"] == str(file)
    assert [problem["code"] for problem in checked["problems"]] == ["unknown_action"]
    assert right.returncode == 0
    assert "5 documents checked" in right.stdout


async def test_the_token_is_never_shown(server: Served) -> None:
    """Neither a wrong token nor a server that cannot be reached brings the token to light."""
    token = "weft_" + "q" * 43
    wrong = await weft("runs", WEFT_TOKEN=token)
    away = await weft("runs", "--server", "http://127.0.0.1:9", WEFT_TOKEN=token)

    assert wrong.returncode == away.returncode == 1
    assert "qqq" not in wrong.stdout + wrong.stderr + away.stdout + away.stderr
    assert "cannot be reached" in away.stderr


@pytest.mark.parametrize("words", [("run", "greet", "--dry-run"), ("runs", "purge", "--older-than", "1d", "--dry-run")])
async def test_what_only_works_here_is_refused(server: Served, words: tuple[str, ...]) -> None:
    """Options that are for what this machine keeps are refused with --server, before anything is done."""
    done = await weft(*words)

    assert done.returncode == 2
    assert "does not go with --server" in done.stderr
