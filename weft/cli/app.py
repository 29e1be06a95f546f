"""The table of commands, and the border where every error becomes a message and an exit code."""

from __future__ import annotations

import codecs
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from weft import __version__
from weft.cli.exits import ExitCode, exit_code
from weft.cli.state import State
from weft.errors import WeftError

COMMANDS = {
    "run": "Run a workflow and watch it.",
    "serve": "Serve the API, webhooks, schedules and runs; open the browser.",
    "worker": "Go on with runs that others left or handed over.",
    "runs": "See what ran, and cancel, resume, repeat or remove it.",
    "schedules": "See what starts by the clock, what did and did not, and why.",
    "webhooks": "See what starts by HTTP requests; turn addresses over; send one.",
    "validate": "Check workflows and manifests, and say all that is wrong.",
    "test": "Run the tests that lie beside workflows.",
    "budgets": "See what may be used up, and what is left.",
    "actions": "List actions and read what they take.",
    "models": "See providers and models, and why a parameter is refused.",
    "connections": "Add, test and list accounts on other systems.",
    "outbox": "Read the mail that the outbox keeps.",
    "workspace": "See the workspace's documents and their history; push and pull them.",
    "mcp": "Let agents use workflows and actions as tools.",
    "tokens": "Create, list and revoke tokens for programs.",
    "audit": "See and verify what was done by whom.",
    "doctor": "Look for whatever may keep Weft from working, and say what to do.",
    "backup": "Copy everything that Weft keeps into one file, while work goes on.",
    "restore": "Put a backup in the place of what Weft keeps.",
    "journal": "See where runs are kept; back up, check and move them.",
    "schema": "Print the JSON Schema of a kind of document.",
    "completion": "Print the completion script of a shell.",
}
"""Name → what it is for. Each is `command` in the module `weft.cli.<name>`, imported when it is called."""


class Commands(click.Group):
    """Shows its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"weft.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and name[0].isalnum():
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            ctx.fail(f"There is no command {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # before click takes it for a failure with exit code 1
            raise click.exceptions.Exit(ExitCode.BROKEN_PIPE) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[click.shell_completion.CompletionItem]:
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        found = [click.shell_completion.CompletionItem(name, help=COMMANDS[name]) for name in names]
        return found or click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: weft run email-results",
)
@click.version_option(__version__, message="weft %(version)s")
def weft() -> None:
    """Workflows whose steps are actions: ask a model, mail its answer, and more."""


REPLACE = "weft.replace"
"""The name under which streams know what to write for a character that their encoding does not have."""

_PLAIN = str.maketrans(
    {"…": "...", "→": "->", "•": "*", "·": "-", "─": "-", "\u201c": '"', "\u201d": '"', "\u2019": "'"}
)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return "".join(character if character.isascii() else "?" for character in text), error.end


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    state = State()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed before we began
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - for as long as the process lives
    codecs.register_error(REPLACE, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a narrow encoding shows less, it does not stop the command
            stream.reconfigure(errors=REPLACE)
    sys.exit(_quietly_flushed(_call(list(sys.argv[1:] if arguments is None else arguments), state)))


def _call(arguments: list[str], state: State) -> int:
    try:
        result: Any = weft.main(arguments, prog_name="weft", standalone_mode=False, obj=state)
    except WeftError as error:
        from weft.cli.problems import tell  # noqa: PLC0415 - costs rich, which only errors need

        tell(error.problems, state)
        return exit_code(error)
    except UnicodeEncodeError as error:
        if not (bad := [each for each in arguments if not _is_text(each)]):
            return _fault(error, state)
        click.echo(f"weft: this is no text in UTF-8: {bad[0]!a}", err=True)
        return ExitCode.USAGE
    except click.Abort:
        return ExitCode.CANCELLED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OSError as error:
        if error.filename is None:
            return _fault(error, state)
        home = Path(str(error.filename)).is_relative_to(state.find_home())
        what = " (Weft keeps its state there; --home DIR or WEFT_HOME name another place)" if home else ""
        click.echo(f"weft: {error.filename}: {error.strerror}{what}", err=True)
        return ExitCode.FILES
    except Exception as error:  # noqa: BLE001 - the last border: told in one line, kept in a file
        return _fault(error, state)
    return result if isinstance(result, int) else ExitCode.OK


def _is_text(argument: str) -> bool:
    """Return whether an argument has no bytes that are not UTF-8; they came in as surrogates."""
    return not any("\udc80" <= character <= "\udcff" for character in argument)


def _fault(error: Exception, state: State) -> ExitCode:
    """Tell a fault of Weft itself in one line; its traceback goes to the log."""
    from weft.cli import logs  # noqa: PLC0415 - hopefully never

    file = logs.keep(error, state)
    click.echo(f"weft: a fault of Weft itself ({type(error).__name__}). The log has its details: {file}", err=True)
    return ExitCode.FAULT


def _quietly_flushed(code: int) -> int:
    """Flush what was printed; a reader that went away (`| head`) is no error worth a message."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # one that was closed before we began is None
        try:
            stream.flush()
        except BrokenPipeError:  # the interpreter would flush again at exit and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = code or ExitCode.BROKEN_PIPE
    return code
