"""The import arrows point down."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100, check=False)


def test_layers_hold() -> None:
    """No module imports from its own row or above, no action from more than weft.sdk."""
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "arrow"),
    [
        ("weft/errors.py", "from weft import packs", "weft.errors -> weft.packs"),
        ("actions/intruder.py", "from weft.registry import Registry", "actions.intruder -> weft.registry"),
        ("weft/plan/compiler.py", "import actions", "weft.plan.compiler -> actions"),
        ("weft/unplaced.py", "import json", "- weft.unplaced"),
    ],
)
def test_a_wrong_import_is_found(module: str, line: str, arrow: str, tmp_path: Path) -> None:
    """Each of the three contracts notices the line that breaks it, and a module that has no row."""
    for directory in ("weft", "actions"):
        shutil.copytree(ROOT / directory, tmp_path / directory, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode != 0
    assert arrow in done.stdout
