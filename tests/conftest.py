"""What every test stands on: a clean environment, a home of its own, nothing left running."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from servers.postgres import Postgres

    from weft.registry import Registry
    from weft.testing.mail_server import MailServer
    from weft.testing.model_server import ModelServer

LEAKS = re.compile(
    r"WEFT_.*|SMTP_.*|.*_API_KEY|.*_API_BASE|.*_BASE_URL|AWS_.*|AZURE_.*|OPENAI_.*|ANTHROPIC_.*|LITELLM_.*"
    r"|NO_COLOR|FORCE_COLOR|CLICOLOR.*|COLUMNS|LINES"
)
"""Variables of the developer's machine that would change what a test sees."""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep os.environ clean of keys and settings, Weft's home inside the test, and loopback off any proxy."""
    for name in list(os.environ):
        if LEAKS.fullmatch(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WEFT_HOME", str(tmp_path / "weft-home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost,::1")


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail a test that leaves a thread which would keep the process alive; pools end with the process."""
    before = set(threading.enumerate())
    yield
    until = time.monotonic() + 2
    while (left := _left_over(before)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not left, f"threads left running: {left}"


def _left_over(before: set[threading.Thread]) -> list[str]:
    pools = ("ThreadPoolExecutor", "asyncio_", "litellm-logging", "aws-signing")
    new = (thread for thread in threading.enumerate() if thread not in before and not thread.daemon)
    return [thread.name for thread in new if not thread.name.startswith(pools)]


@pytest.fixture(scope="session")
def core_registry() -> Registry:
    """The registry with the core pack, as the command line would find it."""
    from weft import packs

    return packs.discover()


@pytest.fixture
async def model_server() -> AsyncIterator[ModelServer]:
    """A model provider on loopback that records requests."""
    from weft.testing.model_server import ModelServer

    async with ModelServer() as server:
        yield server


@pytest.fixture
async def mail_server() -> AsyncIterator[MailServer]:
    """An SMTP server on loopback that records messages and commands."""
    from weft.testing.mail_server import MailServer

    async with MailServer() as server:
        yield server


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let CI fail when a test was skipped: there nothing may be left out."""
    if os.environ.get("CI") != "true" or hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"CI leaves nothing out, but {len(skipped)} tests were skipped:", red=True)
        for report in skipped:
            reporter.write_line(f"  {report.nodeid}", red=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A server for tests that do not stop it; its site has another default isolation than ours (rule A25)."""
    from servers.postgres import QUICK, Postgres

    with Postgres({**QUICK, "default_transaction_isolation": "repeatable read"}) as server:
        yield server
