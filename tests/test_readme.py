"""README's commands and snippets, run as a reader would run them."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from weft.testing.mail_server import MailServer
from weft.testing.model_server import ModelServer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def section(title):
    """The text under a heading of README."""
    return re.split(r"^## ", README.split(f"## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(title, language):
    return re.findall(rf"```{language}\n(.*?)```", section(title), re.DOTALL)


async def weft(*arguments, cwd, environ=None):
    """The real command; its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        BIN / "weft", *arguments, cwd=cwd, env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(100):
        printed, _ = await process.communicate()
    return process.returncode, printed.decode()


def test_run_and_test_are_one_block_each_and_set_everything_up():
    """Each of the two sections holds one block whose commands start from nothing."""
    for title, lock in (("Run", "run"), ("Test", "test")):
        (block,) = blocks(title, "sh")
        lines = block.strip().splitlines()
        assert lines[0] == "python3 -m venv .venv"
        assert lines[1] == f".venv/bin/pip install --require-hashes -r requirements/{lock}.txt"
        assert (ROOT / "requirements" / f"{lock}.txt").is_file()
    assert blocks("Test", "sh")[0].strip().splitlines()[-1] == "bash tests/run"
    assert (ROOT / "tests" / "run").is_file()


def edited(tmp_path, snippet):
    """The example workflow with the lines of a snippet in place of its own."""
    text = (ROOT / "workflows/email-results.yaml").read_text(encoding="utf-8")
    keys = dict(re.findall(r"^ +(connection|model|to): (.+)$", snippet, re.MULTILINE))
    uses = "generate_chat_completion" if "model" in keys else "send_email"
    before, step = text.split(f"uses: {uses}\n")
    for key, value in keys.items():
        step = re.sub(rf"^( +{key}): .+$", rf"\1: {value}", step, count=1, flags=re.MULTILINE)
    path = tmp_path / "edited.yaml"
    path.write_text(f"{before}uses: {uses}\n{step}", encoding="utf-8")
    return path


async def test_ones_own_provider_needs_connection_and_model_alone(tmp_path):
    """With OPENAI_API_KEY and OPENAI_BASE_URL the same workflow runs against any compatible server."""
    (snippet,) = blocks("Use your own provider", "yaml")
    async with ModelServer() as server:
        environ = {"OPENAI_API_KEY": "sk-of-the-reader-0001", "OPENAI_BASE_URL": server.base_url}
        code, printed = await weft("run", str(edited(tmp_path, snippet)), cwd=tmp_path, environ=environ)
        (request,) = server.requests

    assert code == 0, printed
    assert request.headers["authorization"] == "Bearer sk-of-the-reader-0001"
    assert request.json["model"] == "gpt-4o-mini"
    assert "sk-of-the-reader" not in printed


async def test_ones_own_mail_server_needs_a_connection_alone(tmp_path):
    """With the variables of a connection `work` the mail goes to that server, over TLS."""
    (snippet,) = blocks("Use your own mail server", "yaml")
    path = edited(tmp_path, snippet)
    text = path.read_text(encoding="utf-8").replace("connection: local-model", "connection: openai")
    path.write_text(text, encoding="utf-8")
    async with (
        ModelServer() as model,
        MailServer(tls="starttls", username="robot", password="secret-of-robot") as server,
    ):
        authority = tmp_path / "authority.pem"
        server.authority.cert_pem.write_to_path(authority)
        environ = {
            "OPENAI_API_KEY": "sk-of-the-reader-0001",
            "OPENAI_BASE_URL": model.base_url,
            "WORK_HOST": server.host,
            "WORK_PORT": str(server.port),
            "WORK_USERNAME": "robot",
            "WORK_PASSWORD": "secret-of-robot",
            "WORK_FROM": "robot@example.com",
            "SSL_CERT_FILE": str(authority),
        }
        code, printed = await weft("run", str(path), cwd=tmp_path, environ=environ)

    assert code == 0, printed
    (message,) = server.messages
    assert message.recipients == ("you@example.com",)


async def test_the_action_of_the_readme_works(tmp_path):
    """The pack that the reader writes is listed, shown and run."""
    (code_block,) = blocks("Write an action", "python")
    (manifest,) = blocks("Write an action", "yaml")
    for path, text in {
        "actions/__init__.py": "",
        "actions/shout.py": code_block,
        "manifests/shout.yaml": manifest,
        "workflows/shout.yaml": "name: shout\nsteps: [{id: a, uses: shout, with: {text: hello, times: 2}}]\n",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")

    code, shown = await weft("actions", "show", "shout", "--pack", ".", cwd=tmp_path)
    assert code == 0, shown
    assert "How often to say it." in shown
    code, printed = await weft("run", "shout", "--pack", ".", "--json", cwd=tmp_path)
    assert code == 0, printed
    assert "HELLO! HELLO!" in printed


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md"], ids=lambda path: path.name)
def test_every_link_leads_somewhere(page):
    """Relative links in README and docs name files that exist."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", prose):
        assert (page.parent / target).exists(), target


def test_the_map_of_the_house_names_every_room():
    """README's table names every module and package of the runtime."""
    rooms = section("The house")
    for path in (ROOT / "weft").iterdir():
        if path.name.startswith("_") or path.suffix not in {".py", ""}:
            continue
        assert path.name in rooms or f"{path.name}/" in rooms, path.name
