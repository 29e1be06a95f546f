"""What durability adds to real work: a completion and a mail of it, beside the same without any engine, and beside DBOS.

    python benchmarks/durable/script.py [--quick] [--repeat N] [--dbos PYTHON]

Each contestant is a process of its own, and so are the provider, which answers at once, and the mail server. Contestants
take turns; in its turn each makes 300 runs, 50 at once. Figures are medians, ratios are to the plain script in the same
round. CPU time is user and system of the contestant's process. The exit status is 1 when a goal is missed.

- plain: LiteLLM and aiosmtplib as their documentation shows them.
- plain, uvloop: the same on the faster loop, with modules out of the garbage collector's sight.
- weft: the workflow, durable on SQLite, with the connection's own pool of SMTP sessions.
- weft, uvloop: the same on the faster loop.
- dbos: the plain script's functions as steps of DBOS, durable on SQLite. PYTHON is an interpreter that has
  dbos, litellm and aiosmtplib: `uv venv DIR`, `uv pip install --python DIR/bin/python dbos litellm aiosmtplib`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict
from email.message import EmailMessage
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from measuring import Block, Table, block, middle

HERE = Path(__file__)
AT_ONCE = 50
SIDES = ("plain", "plain-uvloop", "weft", "weft-uvloop", "dbos")
SYSTEM, PROMPT = "You write short status mails.", "Summarise this week's orders for the team in one paragraph."
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1768721350,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "All is well. " * 20}}
    ],
    "usage": {"prompt_tokens": 31, "completion_tokens": 60, "total_tokens": 91},
}
WORKFLOW = f"""\
name: report
steps:
  - id: answer
    uses: generate_chat_completion
    connection: model
    with:
      provider: openai
      model: gpt-4o-mini
      messages:
        - {{role: system, content: "{SYSTEM}"}}
        - {{role: user, content: "{PROMPT}"}}
  - id: mail
    uses: send_email
    connection: mail
    with: {{to: team@example.com, subject: Weekly status, body: "{{{{ steps.answer.output.choices[0].message.content }}}}"}}
"""

Run: TypeAlias = Callable[[], Awaitable[object]]


# ---- the other sides
async def serve_provider() -> None:
    """Answer every request with the same completion."""
    from aiohttp import web

    body = json.dumps(ANSWER)

    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(text=body, content_type="application/json")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def serve_mail() -> None:
    from weft.testing.mail_server import MailServer

    async with MailServer() as server:
        print(server.port, flush=True)
        while True:
            await asyncio.sleep(1)
            server.messages.clear()
            server.commands.clear()


# ---- the contestants
async def complete(provider: int) -> str:
    import litellm

    answer: Any = await litellm.acompletion(
        model="openai/gpt-4o-mini",
        messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}],
        api_key="key",
        api_base=f"http://127.0.0.1:{provider}/v1",
    )
    text: str = answer.choices[0].message.content
    return text


async def send(port: int, text: str) -> None:
    import aiosmtplib

    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "weft@example.com", "team@example.com", "Weekly status"
    message.set_content(text)
    await aiosmtplib.send(message, hostname="127.0.0.1", port=port, start_tls=False)


@contextlib.asynccontextmanager
async def plain(provider: int, mail: int, directory: Path) -> AsyncIterator[Run]:
    async def run() -> None:
        await send(mail, await complete(provider))

    yield run


@contextlib.asynccontextmanager
async def weft(provider: int, mail: int, directory: Path) -> AsyncIterator[Run]:
    from weft.runtime import Runtime

    connections = directory / "connections.yaml"
    connections.write_text(
        f"model: {{type: model_provider, provider: openai, api_key: key, api_base: 'http://127.0.0.1:{provider}/v1'}}\n"
        f"mail: {{type: smtp, host: 127.0.0.1, port: {mail}, tls: none, from: weft@example.com}}\n"
    )
    connections.chmod(0o600)
    document = directory / "report.yaml"
    document.write_text(WORKFLOW)
    async with Runtime.open(home=directory / "home", connections=connections) as runtime:
        plan = runtime.compile(document)

        async def run() -> None:
            found = await runtime.start(plan, {})
            assert found.status.state == "succeeded", found.status.result

        yield run


@contextlib.asynccontextmanager
async def dbos(provider: int, mail: int, directory: Path) -> AsyncIterator[Run]:
    """DBOS as we know to tune it: an engine of its own, WAL and FULL as Weft, short transactions, JSON."""
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    engine_of_runs: Any = importlib.import_module("dbos")
    durable: Any = engine_of_runs.DBOS
    url = f"sqlite:///{directory / 'dbos.db'}"
    engine = sqlalchemy.create_engine(url, pool_size=20, max_overflow=0, pool_timeout=30)

    @sqlalchemy.event.listens_for(engine, "connect")  # type: ignore[untyped-decorator]
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in ("busy_timeout=30000", "foreign_keys=ON", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    durable(
        config={
            "name": "benchmark",
            "run_admin_server": False,
            "log_level": "ERROR",
            "executor_id": "one",
            "application_version": "1",
            "system_database_url": url,
            "system_database_engine": engine,
            "max_executor_threads": 8,
            "serializer": engine_of_runs.DBOSPortableJSONSerializer(),
        }
    )

    @durable.step()  # type: ignore[untyped-decorator]
    async def answer() -> str:
        return await complete(provider)

    @durable.step()  # type: ignore[untyped-decorator]
    async def mailed(text: str) -> None:
        await send(mail, text)

    @durable.workflow()  # type: ignore[untyped-decorator]
    async def report() -> None:
        await mailed(await answer())

    durable.launch()
    yield report
    durable.destroy()


async def contend(side: str, provider: int, mail: int) -> None:
    """Be a contestant: for each number that is read make so many runs, and print what they took."""
    os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    contestants = {"plain": plain, "weft": weft, "dbos": dbos}
    name, _, loop = side.partition("-")
    with tempfile.TemporaryDirectory() as directory:
        async with contestants[name](provider, mail, Path(directory)) as run:
            await block(run, 20, 10)  # imports and first uses
            if name == "weft" or loop:
                gc.collect()
                gc.freeze()
            print("ready", flush=True)
            while asked := (await asyncio.to_thread(sys.stdin.readline)).strip():
                print(json.dumps(asdict(await block(run, int(asked), AT_ONCE))), flush=True)


# ---- the figures
@contextlib.contextmanager
def child(python: str, *arguments: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process of this script; with the first line that it printed, empty if it failed."""
    command = [python, str(HERE), *map(str, arguments)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    quiet = None if arguments[1] != "dbos" else subprocess.DEVNULL
    with subprocess.Popen(command, text=True, stderr=quiet, **pipes) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def turn(process: subprocess.Popen[str], runs: int) -> Block:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{runs}\n")
    process.stdin.flush()
    return Block(**json.loads(process.stdout.readline()))


def compare(table: Table, repeat: int, runs: int, dbos_python: str | None) -> None:
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(child(sys.executable, "--side", name))[0] for name in ("provider", "mail-server")]
        contestants = {}
        for side in SIDES:
            python = dbos_python if side == "dbos" else sys.executable
            ready, process = stack.enter_context(child(python, "--side", side, *ports)) if python else ("", None)
            if not ready or process is None:
                print(f"  {side}: left out: it is not installed, or does not start")
            else:
                contestants[side] = process
        rounds = [{side: turn(process, runs) for side, process in contestants.items()} for _ in range(repeat)]
    for side in contestants:
        tell(table, side, rounds)


def tell(table: Table, side: str, rounds: list[dict[str, Block]]) -> None:
    found = middle(each[side] for each in rounds)
    cpu = median(each[side].cpu_ms / each["plain"].cpu_ms for each in rounds)
    speed = median(each[side].per_s / each["plain"].per_s for each in rounds)
    table.line(f"{side}: CPU of a run, runs/s", f"{found.cpu_ms:.2f} ms, {found.per_s:.0f}/s")
    goal = side.startswith("weft")
    table.line(f"{side}: CPU beside plain", f"{cpu:.2f} x", "≤ 1.0 x" * goal, met=cpu <= 1.0 if goal else None)
    table.line(f"{side}: runs/s beside plain", f"{speed:.2f} x", "≥ 1.0 x" * goal, met=speed >= 1.0 if goal else None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few runs: shows that it works, the figures mean little")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--dbos", metavar="PYTHON", help="an interpreter that has dbos, litellm and aiosmtplib")
    parser.add_argument("--side", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        side, *ports = given.side
        if side.endswith("uvloop"):
            import uvloop

            uvloop.install()
        servers = {"provider": serve_provider, "mail-server": serve_mail}
        asyncio.run(servers[side]() if side in servers else contend(side, *map(int, ports)))
        return 0
    table = Table()
    print("a completion and a mail of it, 50 at once, beside the plain script")
    compare(table, 1 if given.quick else given.repeat, 50 if given.quick else 300, given.dbos)
    return 1 if table.missed else 0


if __name__ == "__main__":
    sys.exit(main())
