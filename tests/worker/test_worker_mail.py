"""What a worker does, it does on another event loop than a short run: mails leave it all the same."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from weft.embedded.outbox import Outbox
from weft.registry import Registry
from weft.runtime import Runtime

MAIL = """
name: mail
steps:
  - id: mail
    uses: send_email
    connection: outbox
    with: {to: me@example.com, subject: Hello, body: Hi.}
"""


def test_a_mail_leaves_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was handed over sends its mail at the first attempt."""
    file = tmp_path / "mail.yaml"
    file.write_text(MAIL)
    monkeypatch.setenv("WEFT_HOME", str(tmp_path / "home"))
    for arguments in (["run", str(file), "--detach"], ["worker", "--until-idle"]):
        subprocess.run([sys.executable, "-m", "weft", *arguments], check=True, timeout=60, capture_output=True)

    assert [mail.subject for mail in Outbox(tmp_path / "home" / "outbox").messages()] == ["Hello"]


def test_a_mail_leaves_through_uvloop(tmp_path: Path, core_registry: Registry) -> None:
    """The session that we drive by hand needs nothing of the loop but what every loop has."""
    file = tmp_path / "mail.yaml"
    file.write_text(MAIL)

    async def run() -> str:
        async with Runtime(tmp_path / "home", core_registry, environ={}) as runtime:
            report = await asyncio.wait_for(runtime.run(runtime.compile(file), {}), 20)
            return report.state

    assert uvloop.run(run()) == "succeeded"
