"""What the documents for people show is what the repository holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from weft import manifest, workflow
from weft.cli import keys
from weft.types import JsonObject

ROOT = Path(__file__).parent.parent.parent
THIRD_PARTY = ROOT / "tests" / "packaging" / "third_party"
BLOCK = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXTS = sorted(path for path in ROOT.glob("*.md") if path.name != "README.md")


def test_the_tutorials_pack_is_the_one_that_is_tested() -> None:
    """docs/write-a-pack.md shows each file of the pack that the packaging tests build, install and run."""
    shown = dict(BLOCK.findall((ROOT / "docs" / "write-a-pack.md").read_text()))
    files = (path for path in THIRD_PARTY.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert shown == {str(path.relative_to(THIRD_PARTY)): text for path in files if (text := path.read_text())}


@pytest.mark.parametrize(("page", "schema"), [("workflows", workflow.json_schema), ("manifests", manifest.json_schema)])
def test_the_tables_of_keys_are_those_of_the_models(page: str, schema: Callable[[], JsonObject]) -> None:
    """A page on a kind of document ends with what `weft schema KIND --markdown` prints."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")

    assert text.endswith(f"\n\n{keys.markdown(schema())}\n"), f"the tables in docs/{page}.md are old"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link in a document names a file of the repository."""
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []
