"""Compare the CPU time of a completion with bare LiteLLM's in one run: `python benchmarks/completion.py`.

A server on loopback answers two other processes: one calls the action, one `litellm.acompletion` as its documentation
shows it. They take turns, many short rounds each, and the medians of their CPU time are divided. The goal is a ratio
of at most 1.15; the exit status is 1 when it is missed.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection as Pipe
from statistics import median
from typing import Any

from aiohttp import web

GOAL = 1.15
ROUNDS = 21
CALLS = 20  #: in a round
MESSAGES = [
    {"role": "system", "content": "You are a programming assistant who answers briefly."},
    {"role": "user", "content": "How do I reverse a list in Python?"},
]
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1768721350,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Use reversed(items). " * 20}}
    ],
    "usage": {"prompt_tokens": 31, "completion_tokens": 120, "total_tokens": 151},
}

Call = Callable[[], Awaitable[Any]]


def serve(pipe: Pipe) -> None:
    """Answer every request with the same completion; the port goes through the pipe."""
    body = json.dumps(ANSWER)

    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(text=body, content_type="application/json")

    async def main() -> None:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


def action(base: str) -> Call:
    """Return a call of the action as the executor makes it."""
    chat: Any = importlib.import_module("weft_core.actions.generate_chat_completion")
    sdk: Any = importlib.import_module("weft.sdk")
    values = {"provider": "openai", "api_key": sdk.Secret("key"), "api_base": base}
    account = sdk.Connection("openai", "model_provider", values)
    given = {"provider": "openai", "model": "gpt-4o-mini", "messages": MESSAGES, "temperature": 0.2, "max_tokens": 500}
    chat.warm()

    async def call() -> Any:
        context = sdk.ActionContext(
            run_id="run",
            path="/answer",
            attempt=1,
            started_at=datetime.now(UTC),
            idempotency_key="key",
            deadline=time.monotonic() + 60,
            connection=account,
        )
        return await chat.generate_chat_completion(chat.Arguments(**given), context)

    return call


def bare(base: str) -> Call:
    """Return a call of LiteLLM as it is, with its result made a dictionary; only its look-ups elsewhere are off."""
    os.environ |= {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    litellm: Any = importlib.import_module("litellm")

    async def call() -> Any:
        response = await litellm.acompletion(
            model="openai/gpt-4o-mini",
            messages=MESSAGES,
            temperature=0.2,
            max_tokens=500,
            api_key="key",
            api_base=base,
            timeout=60,
            num_retries=0,
            max_retries=0,
        )
        return response.model_dump(exclude_none=True)

    return call


def work(pipe: Pipe, make: Callable[[str], Call], base: str) -> None:
    """Make a round of calls whenever asked to, and say how much CPU time one took, in seconds."""

    async def main() -> None:
        call = make(base)
        while await asyncio.to_thread(pipe.recv):
            started = time.process_time()
            for _ in range(CALLS):
                await call()
            pipe.send((time.process_time() - started) / CALLS)

    asyncio.run(main())


def main() -> int:
    """Run both sides in turn and print their medians."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    base = f"http://127.0.0.1:{ours.recv()}/v1"
    sides = []
    for make in (action, bare):
        near, far = context.Pipe()
        context.Process(target=work, args=(far, make, base), daemon=True).start()
        sides.append(near)

    def turn(side: Pipe) -> float:
        side.send(True)
        taken: float = side.recv()
        return taken

    for side in sides:  # imports and first uses
        turn(side)
    rounds = [[turn(side) for side in sides] for _ in range(ROUNDS)]
    mine, other = (median(column) * 1000 for column in zip(*rounds, strict=True))
    quotient = mine / other
    print(f"CPU of a completion: weft {mine:.2f} ms, litellm {other:.2f} ms, ratio {quotient:.2f} (goal: {GOAL})")
    return 0 if quotient <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
