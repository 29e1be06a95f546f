"""The page of rules names tests that there are, and their docstrings name the rules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\| ([^|]+?) \| [^|]+ \| (`test_[^|]+`) \|$", PAGE, re.MULTILINE)
ROWS = [(rule, test) for rule, tests in LINES for test in re.findall(r"`(test_\w+)`", tests)]
OWED = {f"A{n}" for n in range(1, 28)} | {f"B{n}" for n in range(1, 12)}


@pytest.fixture(scope="module")
def docstrings() -> dict[str, str]:
    """The docstring of every test, by name."""
    found = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found[node.name] = ast.get_docstring(node) or ""
    return found


@pytest.mark.parametrize(("rule", "test"), ROWS)
def test_a_rule_has_its_test(docstrings: dict[str, str], rule: str, test: str) -> None:
    """The test is there; where the rule has a name, its docstring says it."""
    assert docstrings.get(test)
    if re.fullmatch(r"[AB]\d+", rule):
        assert re.search(rf"\b{rule}\b", docstrings[test]), docstrings[test]


def test_no_rule_is_missing() -> None:
    """The page has every rule, and every row of it was read."""
    assert {rule for rule, _ in ROWS} >= OWED
    assert len(LINES) == PAGE.count("` |\n")
