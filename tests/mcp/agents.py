"""A workspace with exposed workflows, and what a client of it needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

from mcp.client import Client

ROOT = Path(__file__).parents[2]

GREET = """
name: greet
title: Greet Somebody
description: Says hello.
expose: true
inputs:
  who: {type: string, required: true, description: Who is greeted.}
  times: {type: integer, minimum: 1, maximum: 9, default: 1}
  style: {type: string, enum: [plain, loud], default: plain}
steps:
  - {id: say, uses: set_values, with: {values: {text: "Hello {{ inputs.who }}"}}}
  - {id: log, uses: log, with: {message: "{{ steps.say.output.text }}"}}
outputs: {text: "{{ steps.say.output.text }}", line: "{{ inputs.times }} x {{ steps.say.output.text }}"}
"""
HIDDEN = GREET.replace("name: greet", "name: hidden").replace("expose: true\n", "")
SLOW = """
name: slow
expose: true
inputs: {seconds: {type: number, default: 30}}
steps:
  - {id: begin, uses: set_values, with: {values: {a: 1}}}
  - {id: rest, wait: {for: "{{ inputs.seconds }}s"}}
outputs: {done: true}
finally:
  - {id: tidy, uses: log, with: {message: tidied}}
"""
BROKEN = """
name: broken
expose: true
steps: [{id: a, uses: no_such_action}]
"""
ASKS = """
name: asks
expose: true
steps: [{id: ok, approval: {message: May I?}}]
"""

Connect: TypeAlias = Callable[..., AbstractAsyncContextManager[Client]]


def environ(place: Path) -> dict[str, str]:
    """Return the environment of a command that keeps its state in the place."""
    return {**os.environ, "WEFT_HOME": str(place / "home"), "PYTHONPATH": str(ROOT)}
