"""What one call of the command line knows, and the options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from weft.redaction import Redactor

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class State:
    """Kept by `main`, so that an error is told with what the command had learned before it."""

    redactor: Redactor = field(default_factory=Redactor)
    home: Path | None = None  #: as given by `--home`; None: the default
    packs: tuple[Path, ...] = ()
    connections: Path | None = None
    environment: str | None = None  #: as given by `--env`; None: what WEFT_ENV says, if anything
    server: str | None = None  #: as given by `--server` or WEFT_SERVER; None: what this machine keeps
    beside: frozenset[str] = frozenset()  #: actions of a pack in this directory that is not loaded

    def find_home(self) -> Path:
        """Return where state lives, as the runtime finds it; for what must work when the runtime cannot be opened."""
        import platformdirs  # noqa: PLC0415 - most commands need it only when they open the runtime

        return self.home or Path(os.environ.get("WEFT_HOME") or platformdirs.user_data_path("weft"))


pass_state = click.make_pass_decorator(State)

_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:  # the option may have been given to the group already
            setattr(context.ensure_object(State), name, value)

    return callback


def home_option(function: F) -> F:
    """Add `--home`."""
    return click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        expose_value=False,
        is_eager=True,
        callback=_remember("home"),
        help="Where Weft keeps its state [default: $WEFT_HOME, else the user's data directory].",
    )(function)


def pack_option(function: F) -> F:
    """Add `--pack`."""
    return click.option(
        "--pack",
        "packs",
        type=_DIRECTORY,
        multiple=True,
        expose_value=False,
        is_eager=True,
        callback=_remember("packs"),
        help="Load a pack from a directory, without installing it. May be repeated.",
    )(function)


def connections_option(function: F) -> F:
    """Add `--connections`."""
    return click.option(
        "--connections",
        type=_FILE,
        expose_value=False,
        is_eager=True,
        callback=_remember("connections"),
        help="Take connections from this file.",
    )(function)


def env_option(function: F) -> F:
    """Add `--env`."""
    return click.option(
        "--env",
        metavar="NAME",
        expose_value=False,
        is_eager=True,
        callback=_remember("environment"),
        shell_complete=_environment_names,
        help="Use the variables and connections of this environment in environments.yaml [default: $WEFT_ENV].",
    )(function)


def server_option(function: F) -> F:
    """Add `--server`."""
    return click.option(
        "--server",
        metavar="URL",
        envvar="WEFT_SERVER",
        expose_value=False,
        is_eager=True,
        callback=_remember("server"),
        help="Do it on this server, with the token in WEFT_TOKEN [default: $WEFT_SERVER, else what is kept here].",
    )(function)


def _environment_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of an environment."""
    from weft.errors import WeftError  # noqa: PLC0415 - only completion needs these
    from weft.runtime import environments  # noqa: PLC0415

    try:
        known = environments((context.find_object(State) or State()).find_home())
    except WeftError:
        return []
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")(function)
