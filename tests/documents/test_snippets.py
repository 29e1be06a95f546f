"""Every snippet and command in the documents for people is one that works: none is only looked at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from markdown_it import MarkdownIt

from weft import manifest, packs, plan, source
from weft.catalogue import catalogue_of
from weft.cli.app import weft
from weft.cli.problems import render
from weft.cli.state import State
from weft.connections import read_environments
from weft.redaction import Redactor
from weft.registry import Registry
from weft.rehearsal.testing import run_file
from weft.runtime import Runtime
from weft.survey import survey
from weft.workflow import Step

ROOT = Path(__file__).parents[2]
THIRD_PARTY = ROOT / "tests" / "packaging" / "third_party"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/**/*.md"))]
FOREIGN = {
    "python3 -m venv .venv": "made by CI, which runs README's two blocks",
    ".venv/bin/pip install": "run by CI, and the locks are checked by tests/test_readme.py",
    "bash tests/run": "it is what runs this test",
    "set --": "only keeps the words of the next lines",
    ".venv/bin/uv pip compile": "needs the package index; its options are checked below",
    "curl": "the tours of docs/api.md are run by tests/server/test_api_page.py",
    "cat etag.txt": "a part of the same tour",
    "eval": "what it evaluates is a command of ours and checked as such",
}
"""The begin of a command that is not ours → why it is not run here."""


@dataclass(frozen=True)
class Snippet:
    """One fenced block."""

    page: Path
    line: int
    language: str
    text: str


def tokens(page: Path) -> Iterator[Any]:
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


SNIPPETS = [
    Snippet(page, token.map[0] + 1, token.info.partition(" ")[0], textwrap.dedent(token.content))
    for page in PAGES
    for token in tokens(page)
    if token.type in {"fence", "code_block"}
]
SPOKEN_OF = sorted(
    {
        (page.name, token.content)
        for page in PAGES
        for token in tokens(page)
        if token.type == "code_inline" and re.match(r"(\.venv/bin/)?weft( |$)", token.content)
    }
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return packs.discover([THIRD_PARTY])


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: f"{snippet.page.name}:{snippet.line}")
def test_a_snippet_works(snippet: Snippet, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fenced block names its language, and is read, checked or run as that."""
    monkeypatch.chdir(tmp_path)
    kinds: dict[str, Callable[[str], None]] = {
        "sh": check_commands,
        "json": json.loads,
        "toml": tomllib.loads,
        "python": check_python,
        "yaml": lambda text: check_yaml(text, registry),
        "text": lambda text: check_shown(text, registry),
    }
    assert snippet.language in kinds, "say what it is: " + ", ".join(kinds)

    kinds[snippet.language](snippet.text)


@pytest.mark.parametrize(("page", "command"), SPOKEN_OF)
def test_a_command_spoken_of_exists(page: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that a sentence names has this name and these options; its arguments may be left out."""
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(click.MissingParameter):
        check_commands(command.replace("COMMAND", "run").replace("KIND", "workflow").replace("SHELL", "bash"))


def test_documents_are_found() -> None:
    """The parser of Markdown finds blocks and commands."""
    assert {snippet.page.name for snippet in SNIPPETS} >= {"README.md", "CONTRIBUTING.md", "cli.md", "write-a-pack.md"}
    assert len(SPOKEN_OF) > 15


# -- commands


def check_commands(text: str) -> None:
    """Check each command of a block: ours are read by our own parser, of others it is known why they are not run."""
    Path("inputs.json").write_text("{}")
    for line in text.replace("\\\n", " ").strip().splitlines():
        for command in re.split(r" [|>] | > ", re.sub(r"\s# .*$", "", line)):
            inner = re.search(r"\$\((.*)\)", command)
            words = shlex.split(inner[1] if inner else command)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]
            if Path(words[0]).name == "weft":
                check_ours(words[1:])
            elif words != ["source"] and not words[0].endswith(".json"):
                reason = next((why for start, why in FOREIGN.items() if command.startswith(start)), None)
                assert reason, f"nobody knows whether this works: {command}"


def check_ours(words: list[str]) -> None:
    """Let click read a command line with all its options and arguments; nothing is run."""
    if not words:
        return
    command: click.Command = weft
    context = click.Context(weft, info_name="weft", obj=State())
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]!r}"
        command, words = found, words[1:]
    if words == ["--help"]:
        return
    command.make_context(command.name, words, parent=context)


def test_the_options_for_refreshing_the_locks_exist() -> None:
    """Each option that CONTRIBUTING gives to uv is one that it has."""
    (block,) = (snippet.text for snippet in SNIPPETS if snippet.page.name == "CONTRIBUTING.md")
    uv = Path(sys.executable).parent / "uv"
    told = subprocess.run([uv, "pip", "compile", "--help"], capture_output=True, text=True, check=True).stdout

    options = set(re.findall(r"(?<=\s)--?[a-z][\w-]*", block))
    assert len(options) > 8
    assert [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", told)] == []


# -- code and data


def check_python(text: str) -> None:
    """Run a snippet that stands alone; one of a pack's files is run by the packaging tests, which compare it."""
    code = compile(text, "<snippet>", "exec")
    if "from ." not in text and "def test_" not in text:
        exec(code, {"__name__": "snippet"})


def check_yaml(text: str, registry: Registry) -> None:
    """Check a whole document as what it is, a part of a step by the keys and parameters that there are."""
    document = source.read(text, "snippet.yaml")
    value = document.value
    assert isinstance(value, dict)
    if "steps" in value:
        found = survey(document)
        assert found.problems == ()
        plan.compile(found.workflow, document, registry)
    elif "parameters" in value:
        manifest.load(document)
    elif value.keys() == {"models"}:
        Path("models.yaml").write_text(text)
        assert catalogue_of(Path.cwd()).model("hosted_vllm", "our-qwen").max_input_tokens == 32_000
    elif value.keys() == {"cases"}:
        check_cases(text)
    elif "fields" in value:
        manifest.load_connection_type(document)
    elif {"connection", "with"} & value.keys():
        known = {key.alias or name for name, key in Step.model_fields.items()}
        assert value.keys() <= known
        assert any(
            value["with"].keys() <= {parameter.name for parameter in action.manifest.all_parameters}
            for action in registry.actions()
        )
    elif all(isinstance(entry, dict) and entry.keys() <= {"variables", "connections"} for entry in value.values()):
        read_environments(document)
    else:
        check_connections(text, value)


def check_cases(text: str) -> None:
    """Run the cases of a page; they are those of the example that the page speaks of."""
    Path("sort-feedback.yaml").write_text((ROOT / "workflows" / "sort-feedback.yaml").read_text())
    file = Path("sort-feedback.test.yaml")
    file.write_text(text)
    result = asyncio.run(run_file(Runtime.open(home=Path("home")), file, lambda name: True))
    assert result.problems == ()
    assert [(case.name, case.misses) for case in result.cases if case.state != "passed"] == []


def check_connections(text: str, value: dict[str, Any]) -> None:
    file = Path("connections.yaml")
    file.write_text(text)
    known = Runtime.open(home=Path("home"), connections=file).connections
    for name, entry in value.items():
        facts = known.facts(name, entry["type"])
        assert facts is not None
        assert facts.type == entry["type"]


def check_shown(text: str, registry: Registry) -> None:
    """Check what a page shows of a terminal or a directory."""
    if text.startswith("error["):
        check_fault_shown(text, registry)
    else:
        for line in text.strip().splitlines():
            names = re.findall(r"[\w.]+/?", line)[:2]
            assert (THIRD_PARTY / Path(*names)).exists() or (THIRD_PARTY / names[0]).is_file(), line


def check_fault_shown(text: str, registry: Registry) -> None:
    """Make the mistake that a page shows in the example that it names, and compare what is said."""
    file, number = re.search(r"--> (\S+):(\d+):\d+", text).groups()  # type: ignore[union-attr]
    line = re.search(rf"^{number} \| (.*)$", text, re.MULTILINE)[1]  # type: ignore[index]
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    lines[int(number) - 1] = line
    Path(file).parent.mkdir()
    Path(file).write_text("\n".join(lines), encoding="utf-8")
    document = source.read_file(Path(file))
    found = survey(document)
    with pytest.raises(Exception, match="temprature") as caught:
        plan.compile(found.workflow, document, registry)

    assert [render(problem, Redactor(), 80).plain for problem in caught.value.problems] == [text.rstrip()]  # type: ignore[attr-defined]
