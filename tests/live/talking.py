"""A pack whose action speaks while it works, and workflows that let it."""

from __future__ import annotations

from pathlib import Path

TALK = '''
from __future__ import annotations

import asyncio

from weft.sdk import ActionContext, ActionError, Json


async def talk(context: ActionContext, words: str, fails: int = 0, seconds: float = 0.0) -> Json:
    """Say words one after another; fail that many attempts behind the first word."""
    for word in words.split():
        context.emit(word + " ")
        await asyncio.sleep(seconds)
        if context.attempt <= fails:
            raise ActionError("It lost its voice.", kind="server_error", retryable=True, effect="none")
    return {"said": words}
'''

MANIFEST = """
id: talk
title: Talk
purpose: Talk for tests.
category: Tests
icon: flask
version: 1
effects: none
retry: safe
parameters:
  basic:
    - {name: words, title: Words, description: Said., type: string, required: true, widget: text, example: a b}
    - {name: fails, title: Fails, description: How often., type: integer, default: 0, widget: number, example: 1}
    - {name: seconds, title: Time, description: Between two., type: number, default: 0.0, widget: number, example: 1}
output: {schema: {type: object}, example: {said: a b}}
"""

TALKS = """
name: talks
inputs:
  words: {type: string, default: one two three}
  fails: {type: integer, default: 0}
  seconds: {type: number, default: 0.0}
steps:
  - id: talk
    uses: talk
    with: {words: "{{ inputs.words }}", fails: "{{ inputs.fails }}", seconds: "{{ inputs.seconds }}"}
    retry: {attempts: 3, backoff: 10ms, jitter: false}
"""

ASKS = """
name: asks
steps:
  - id: ok
    approval: {message: "Shall it go on?"}
  - id: done
    uses: log
    with: {message: "It goes on."}
"""


def write_pack(directory: Path) -> Path:
    """Write the pack and return its directory."""
    pack = directory / "talking-pack"
    for name, text in {
        "actions/__init__.py": "",
        "actions/talk.py": TALK,
        "manifests/talk.yaml": MANIFEST,
    }.items():
        file = pack / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return pack
