"""`weft doctor`: what may keep Weft from working, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict
from typing import Final

import click

from weft.cli import logs
from weft.cli.exits import ExitCode
from weft.cli.opening import open_runtime
from weft.cli.state import State, connections_option, env_option, home_option, json_option, pack_option, pass_state
from weft.cli.terminal import clean_line, is_live, to_json
from weft.redaction import MASK, PATTERNS, Secret
from weft.runtime import DATABASE_URL, Runtime
from weft.upkeep.doctor import PORT, Finding, Grade, Patient, examine

_SIGNS: Final[dict[Grade, tuple[str, str]]] = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}
_WORDS: Final[dict[Grade, str]] = {"ok": "ok", "warning": "warning", "error": "error"}


@click.command("doctor", short_help="Look for whatever keeps Weft from working.")
@click.option("--port", type=click.IntRange(1, 65_535), default=PORT, show_default=True, help="The port of weft serve.")
@json_option
@pack_option
@connections_option
@env_option
@home_option
@pass_state
def command(state: State, *, port: int, as_json: bool) -> ExitCode:
    """Look at versions, home, disk, keys, journal, database, clock, workers, workflows and port, and change nothing.

    Exit code 1: there is an error.
    """
    logs.start(state)
    if url := os.environ.get(DATABASE_URL):
        state.redactor.add(Secret(url))

    def opened() -> Runtime:
        return open_runtime(state)

    patient = Patient(state.find_home(), os.environ, opened, port)
    found = asyncio.run(_examined(patient, state, silent=as_json))
    errors = sum(each.grade == "error" for each in found)
    if as_json:
        told = {"ok": not errors, "findings": [asdict(each) for each in found]}
        click.echo(PATTERNS.sub(MASK, state.redactor.text(to_json(told))))
    else:
        click.echo(_verdict(errors, sum(each.grade == "warning" for each in found)))
    return ExitCode.RUN_FAILED if errors else ExitCode.OK


async def _examined(patient: Patient, state: State, *, silent: bool) -> list[Finding]:
    found = []
    async for finding in examine(patient):
        found.append(finding)
        if not silent:
            _tell(finding, state)
    return found


def _tell(finding: Finding, state: State) -> None:
    def masked(text: str) -> str:
        return PATTERNS.sub(MASK, state.redactor.text(clean_line(text)))

    sign, colour = _SIGNS[finding.grade]
    if is_live(sys.stdout):
        click.echo(f"{click.style(sign, fg=colour)} {finding.check}: {masked(finding.message)}")
    else:
        click.echo(f"{_WORDS[finding.grade]}\t{finding.check}\t{masked(finding.message)}")
    if finding.remedy and finding.grade != "ok":
        click.echo(f"  {masked(finding.remedy)}" if is_live(sys.stdout) else f"\t\t{masked(finding.remedy)}")


def _verdict(errors: int, warnings: int) -> str:
    if not errors and not warnings:
        return "Nothing is wrong."
    parts = [
        f"{count} {what}{'' if count == 1 else 's'}"
        for count, what in ((errors, "error"), (warnings, "warning"))
        if count
    ]
    return f"{' and '.join(parts)}."
