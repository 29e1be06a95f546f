"""`weft completion`: the script that teaches a shell our commands, workflows and actions."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

VARIABLE = "_WEFT_COMPLETE"
"""Set by the script when it asks what may come next."""


SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(list(SHELLS)))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL: bash, zsh or fish.

    \b
    eval "$(weft completion bash)"   # in ~/.bashrc
    eval "$(weft completion zsh)"    # in ~/.zshrc
    weft completion fish | source    # in ~/.config/fish/config.fish
    """
    click.echo(SHELLS[shell](context.find_root().command, {}, "weft", VARIABLE).source())
