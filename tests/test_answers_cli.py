"""`weft runs answer`: a question is answered by run and step, or by the token of a link, once, and by whom is recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click
import pytest

from weft.cli.exits import ExitCode, exit_code
from weft.cli.problems import tell
from weft.cli.run_doing import answer
from weft.cli.state import State
from weft.engine.approving import Question
from weft.errors import WeftError
from weft.runtime import Runtime

WORKFLOW = """
name: ask
steps:
  - {id: ok, approval: {message: Shall we?, who: [ann, bob]}}
"""
Weft: TypeAlias = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEFT_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    return tmp_path / "weft-home"


@pytest.fixture
def weft(capsys: pytest.CaptureFixture[str]) -> Weft:
    """Call the command; returns exit code, output and what was said beside."""

    def weft(*arguments: str) -> tuple[int, str, str]:
        state = State()
        try:
            code = answer.main(list(arguments), prog_name="weft runs answer", standalone_mode=False, obj=state)
        except WeftError as error:
            tell(error.problems, state)
            code = exit_code(error)
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        told = capsys.readouterr()
        return int(code or 0), told.out, told.err

    return weft


async def asked(home: Path, run_id: str) -> str:
    """Leave a run waiting for its answer, and return the token of ann's link."""
    Path("ask.yaml").write_text(WORKFLOW)  # noqa: ASYNC240
    async with Runtime.open(home=home) as runtime:
        await runtime.submit(runtime.compile(Path("ask.yaml")), {}, run_id=run_id)
        await runtime.driver.advance(run_id)
        return runtime.signer.token(Question(run_id, "/ok", 1, "ann", "Shall we?", None))


async def said(home: Path, run_id: str) -> dict[str, Any]:
    """Return the answer that is on record."""
    async with Runtime.open(home=home) as runtime:
        kept = await (await runtime.opened()).load(run_id)
        (found,) = (json.loads(record.payload) for record in kept.records if record.kind == "signal")
        return {name: found[name] for name in ("answer", "by", "how", "comment")}


@pytest.mark.parametrize(
    "form",
    ["{token}", "http://127.0.0.1:8321/approve/{token}", "https://weft.example.com/x/approve/{token}?answer=approve"],
)
def test_a_token_or_its_link_answers_once(home: Path, weft: Weft, form: str) -> None:
    """B1: who the token was made for, how and what is on record; a second answer is refused."""
    token = asyncio.run(asked(home, "r"))
    code, out, _ = weft("--token", form.format(token=token), "--approve", "--comment", "go on")
    again, _, err = weft("--token", token, "--reject")

    assert (code, out.startswith("Step ok of run r is approved.")) == (ExitCode.OK, True)
    assert asyncio.run(said(home, "r")) == {"answer": "approve", "by": "ann", "how": "token", "comment": "go on"}
    assert again == ExitCode.RUN_FAILED
    assert token not in out + err


def test_a_link_says_its_answer_itself(home: Path, weft: Weft) -> None:
    """What the link is for need not be said again; an option says otherwise."""
    token = asyncio.run(asked(home, "r"))
    other = asyncio.run(asked(home, "other"))
    weft("--token", f"http://127.0.0.1/approve/{token}?answer=reject")
    weft("--token", f"http://127.0.0.1/approve/{other}?answer=reject", "--approve")

    assert [asyncio.run(said(home, run))["answer"] for run in ("r", "other")] == ["reject", "approve"]


def test_run_and_step_answer_in_a_name_that_is_allowed(home: Path, weft: Weft) -> None:
    """Without a token the name is what one says of oneself, and must be one of those who may answer."""
    asyncio.run(asked(home, "r"))
    refused, _, err = weft("r", "ok", "approve", "--by", "joe")
    code, _, _ = weft("r", "ok", "reject", "--by", "bob")

    assert (refused, "Only ann or bob may answer" in err, code) == (ExitCode.USAGE, True, ExitCode.OK)
    assert asyncio.run(said(home, "r")) == {"answer": "reject", "by": "bob", "how": "cli", "comment": None}


def test_a_token_that_was_changed_answers_nothing(home: Path, weft: Weft) -> None:
    """A wrong signature is refused, and is not told to be anything else."""
    token = asyncio.run(asked(home, "r"))
    code, _, err = weft("--token", f"{token[:-3]}AAA", "--approve")

    assert (code, "The token is not valid." in err) == (ExitCode.USAGE, True)


@pytest.mark.parametrize(
    "words",
    [
        ("r", "ok"),
        ("r", "ok", "approve", "--reject"),
        ("--token", "x"),
        ("r", "--token", "x", "--approve"),
        ("--token", "x", "--approve", "--by", "joe"),
        (),
    ],
)
def test_what_is_missing_or_too_much_is_told(weft: Weft, words: tuple[str, ...]) -> None:
    """A command that does not say whose question, or what the answer is, is a mistake in the command."""
    code, _, err = weft(*words)

    assert (code, "Usage: " in err) == (ExitCode.USAGE, True)
