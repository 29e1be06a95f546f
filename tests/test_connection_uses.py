from __future__ import annotations

from weft import source
from weft.connections.uses import Use, uses

TEXT = """\
on:
  webhook:
    - {connection: hook}
steps:
  - id: a
    uses: send_email
    connection: post
    with: {connection: not-one, uses: nothing}
  - id: g
    steps:
      - uses: generate_chat_completion
        connections: {openai: one, anthropic: two}
  - connection: lost
  - 7
"""


def test_uses() -> None:
    """Steps and webhooks tell the connections that they name, wherever they stand; arguments are none."""
    assert list(uses(source.read(TEXT, "x.yaml").value)) == [
        Use("hook", "", ("on", "webhook", 0)),
        Use("post", "send_email", ("steps", 0), "a"),
        Use("one", "generate_chat_completion", ("steps", 1, "steps", 0)),
        Use("two", "generate_chat_completion", ("steps", 1, "steps", 0)),
    ]
