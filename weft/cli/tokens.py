"""`weft tokens`: what other programs, and people on other machines, come in with."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import click
from rich.table import Table
from rich.text import Text

from weft.access import Access, Audit
from weft.access.identity import SCOPES, Identity, Scope, told
from weft.access.shapes import TokenFacts, facts_of
from weft.cli.instants import moment, started
from weft.cli.opening import open_runtime
from weft.cli.state import State, home_option, json_option, pass_state
from weft.cli.terminal import Screen, clean_line, is_live, to_json
from weft.runtime import Runtime
from weft.workflow import seconds

T = TypeVar("T")


@click.group("tokens")
def command() -> None:
    """Create, list and revoke tokens: what other programs come in with, and browsers on other machines.

    \b
    weft tokens create ci --scope run --scope view --for 90d
    weft tokens list
    weft tokens revoke 3f0c52d1a9be
    """


class _Length(click.ParamType[float]):
    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return seconds(str(value))
        except ValueError:
            self.fail(f"{value!r} is no length of time such as 12h or 90d.", param, ctx)


@command.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What it may do; may be repeated. admin includes all others.",
)
@click.option("--for", "expires_s", type=_Length(), help="How long it is valid, such as 90d [default: until revoked].")
@json_option
@home_option
@pass_state
def create(state: State, *, name: str, scopes: Sequence[Scope], expires_s: float | None, as_json: bool) -> None:
    """Create a token called NAME, and print it. It is shown this once.

    A running server knows it at once.
    """

    async def work(access: Access, audit: Audit) -> tuple[str, TokenFacts]:
        content, token = await access.create_token(name, scopes, by=here().name, expires_s=expires_s)
        await audit.record(here(), "token.created", token.id, {"name": token.name, "scopes": list(token.scopes)})
        return content, facts_of(token)

    content, token = with_access(state, work)
    if as_json:
        click.echo(to_json({**token.model_dump(mode="json"), "token": content}))
        return
    click.echo(content)
    until = f" until {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at else ""
    click.echo(
        f"token {token.id} of {clean_line(token.name)} may {told(token.scopes)}{until}; shown this once", err=True
    )


@command.command("list")
@json_option
@home_option
@pass_state
def list_(state: State, *, as_json: bool) -> None:
    """List all tokens, revoked and expired ones too."""

    async def work(access: Access, audit: Audit) -> list[TokenFacts]:
        return [facts_of(token) for token in await access.tokens()]

    found = with_access(state, work)
    if as_json:
        click.echo(to_json({"items": [token.model_dump(mode="json") for token in found]}))
    elif not found:
        click.echo("There are no tokens. To make one: weft tokens create NAME --scope view", err=True)
    elif is_live(sys.stdout):
        table = Table("id", "name", "scopes", "used", "state", box=None, pad_edge=False, header_style="dim")
        for token in found:
            table.add_row(*(Text(cell) for cell in _cells(token)), style="" if _state(token) == "valid" else "dim")
        Screen(sys.stdout).print(table)
    else:
        for token in found:
            click.echo("\t".join(_cells(token)))


@command.command("revoke")
@click.argument("id_", metavar="ID")
@json_option
@home_option
@pass_state
def revoke(state: State, *, id_: str, as_json: bool) -> None:
    """Revoke the token ID, at once; browsers that logged in with it are out, too."""

    async def work(access: Access, audit: Audit) -> TokenFacts:
        token = await access.revoke_token(id_)
        await audit.record(here(), "token.revoked", token.id, {"name": token.name})
        return facts_of(token)

    token = with_access(state, work)
    if as_json:
        click.echo(to_json(token.model_dump(mode="json")))
    else:
        click.echo(f"token {token.id} of {clean_line(token.name)} is revoked")


def with_access(state: State, work: Callable[[Access, Audit], Awaitable[T]]) -> T:
    """Do something with the tables of who may come in, beside any server that runs."""

    async def whole(runtime: Runtime) -> T:
        async with runtime:
            opened = await runtime.opened_state()
            return await work(Access(opened), Audit(opened))

    return asyncio.run(whole(open_runtime(state)))


def here() -> Identity:
    """Return who types, as the audit log calls it."""
    return Identity(getpass.getuser(), "local", frozenset({"admin"}))


def _cells(token: TokenFacts) -> list[str]:
    used = "never" if token.used_at is None else started(token.used_at, datetime.now(UTC))
    return [token.id, clean_line(token.name), told(token.scopes), used, _state(token)]


def _state(token: TokenFacts) -> str:
    now = datetime.now(UTC)
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is None:
        return "valid"
    return f"valid until {moment(token.expires_at, now)}" if token.expires_at > now else "expired"
