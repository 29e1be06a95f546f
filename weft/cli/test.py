"""`weft test`: runs the tests that lie beside workflows, and shows where they fail."""

from __future__ import annotations

import asyncio
import fnmatch
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from weft.cli import logs
from weft.cli.exits import ExitCode
from weft.cli.opening import open_runtime
from weft.cli.problems import as_json as problem_as_json
from weft.cli.problems import tell
from weft.cli.state import State, env_option, home_option, json_option, pack_option, pass_state
from weft.cli.terminal import Screen, clean, clean_line, duration, symbols, to_json
from weft.errors import NotFound
from weft.plan import Plan
from weft.reading import learn_secrets
from weft.redaction import Redactor
from weft.rehearsal import junit
from weft.rehearsal.cases import SUFFIX
from weft.rehearsal.matching import MISSING
from weft.rehearsal.testing import CaseResult, FileResult, Miss, find, run_file
from weft.runtime import Runtime
from weft.types import JsonObject
from weft.workspace import workspace_directory


@click.command("test")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-k", "--filter", "pattern", metavar="TEXT", help="Run only cases whose name holds TEXT; * and ? stand for any."
)
@click.option(
    "--junit",
    "report",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the results as JUnit's XML.",
)
@json_option
@pack_option
@env_option
@home_option
@pass_state
def command(
    state: State, *, paths: tuple[Path, ...], pattern: str | None, report: Path | None, as_json: bool
) -> ExitCode:
    """Run the tests that lie beside workflows: workflows/NAME.test.yaml tests workflows/NAME.yaml.

    PATH is such a file, a workflow with one beside it, its name, or a directory; left out, it is workflows/. Nothing is
    sent, no connection is opened, and no wait takes its time. Tests beside which no workflow lies are of the one in the
    database, where the workspace is there.
    """
    logs.start(state)
    runtime = open_runtime(state)
    files = find([_meant(path) for path in paths] or (workspace_directory(),))
    results = asyncio.run(_run(runtime, files, pattern))
    if pattern is not None and not any(True for result in results for _ in result.every_case()):
        raise NotFound(
            f"No case has a name with {pattern!r}.", code="no_tests", remedy="Leave out --filter to see all."
        )
    if report is not None:
        junit.write(report, results)
    if as_json:
        click.echo(to_json(_as_json(results, runtime.redactor)))
    else:
        _show(results, state)
    return _exit_code(results)


def _meant(path: Path) -> Path:
    """Return a path; for the bare name of a workflow, as `weft run` takes it, that of its tests in workflows/."""
    named, tests = (workspace_directory() / f"{path}{suffix}" for suffix in (".yaml", SUFFIX))
    if len(path.parts) != 1 or path.exists():
        return path
    return named if named.is_file() else tests if tests.is_file() else path


async def _run(runtime: Runtime, files: Sequence[Path], pattern: str | None) -> list[FileResult]:
    def wanted(name: str) -> bool:
        return pattern is None or fnmatch.fnmatchcase(name.lower(), f"*{pattern.lower()}*")

    async def learn(plan: Plan) -> None:
        await learn_secrets(runtime, plan)

    async with runtime:
        return [await run_file(runtime, file, wanted, learn) for file in files]


def _exit_code(results: Sequence[FileResult]) -> ExitCode:
    if any(result.problems for result in results):
        return ExitCode.INVALID_DOCUMENT
    passed = all(case.state == "passed" for result in results for case in result.cases)
    return ExitCode.OK if passed else ExitCode.RUN_FAILED


# ---- for people
def _show(results: Sequence[FileResult], state: State) -> None:
    screen, marks = Screen(sys.stdout), symbols(sys.stdout)
    for result in results:
        if not result.cases and not result.problems:
            continue  # none of its cases was wanted
        screen.print(Text(str(result.path), "bold"))
        if result.problems:
            tell(result.problems, state, sys.stdout)
        for case in result.cases:
            mark, colour = (marks.succeeded, "green") if case.state == "passed" else (marks.failed, "red")
            screen.print(Text.assemble("  ", (mark, colour), f" {clean_line(case.name)}"), soft_wrap=True)
            for line in junit.told_of(case):
                screen.print(Text(f"      {clean(line)}"), soft_wrap=True)
    screen.print(Text(_summary(results)), soft_wrap=True)


def _summary(results: Sequence[FileResult]) -> str:
    cases = [case for result in results for case in result.every_case()]
    counts = {state: sum(case.state == state for case in cases) for state in ("passed", "failed", "error")}
    told = [f"{counts['passed']} passed"]
    told += [f"{counts['failed']} failed"] if counts["failed"] else []
    told += [f"{counts['error']} could not be run"] if counts["error"] else []
    return f"{', '.join(told)} in {duration(sum(result.ms for result in results) / 1000)}"


# ---- for programs
def _as_json(results: Sequence[FileResult], redactor: Redactor) -> JsonObject:
    """Return the results in the shape that docs/testing.md tells."""
    cases = [case for result in results for case in result.every_case()]
    told: dict[str, Any] = {
        state: sum(case.state == state for case in cases) for state in ("passed", "failed", "error")
    }
    told["files"] = [
        {
            "file": str(result.path),
            "workflow": result.workflow,
            "problems": [problem_as_json(each, redactor) for each in result.problems],
            "cases": [_case_as_json(case) for case in result.cases],
        }
        for result in results
    ]
    return told


def _case_as_json(case: CaseResult) -> JsonObject:
    problem = case.problem
    return {
        "name": case.name,
        "state": case.state,
        "line": case.where.line,
        "ms": case.ms,
        "misses": [_miss_as_json(miss) for miss in case.misses],
        "problem": None if problem is None else {"code": problem.code, "message": problem.message},
    }


def _miss_as_json(miss: Miss) -> JsonObject:
    told: dict[str, Any] = {
        "where": {"file": miss.where.file, "line": miss.where.line, "column": miss.where.column},
        "message": miss.message or None,
        "remedy": miss.remedy,
    }
    if miss.difference is not None:
        told["field"] = miss.difference.field
        values = {"expected": miss.difference.expected, "got": miss.difference.got}
        told |= {name: value for name, value in values.items() if value is not MISSING}
    return told
