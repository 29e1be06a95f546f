"""Random gestures on the corpus, each judged, and all of them undone in the end.

    python tests/editing/trial.py [GESTURES] [--seed SEED] [--corpus DIRECTORY] [--show]

Per file, gestures are made one after the other; after each the judge looks at meaning, comments and lines. Then as many
undos have to bring the file back byte by byte. `--corpus` takes other files than our own; `--show` prints what failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from editing.gestures import Gestures  # noqa: E402  the directory of tests is found by the line above
from editing.judge import faults  # noqa: E402
from editing.witness import Witness  # noqa: E402
from ruamel.yaml.error import YAMLError  # noqa: E402

from weft import source  # noqa: E402
from weft.editing import OPERATIONS, edit  # noqa: E402
from weft.errors import EditRefused, InvalidSource  # noqa: E402

CORPUS = ROOT / "tests" / "corpora" / "documents"


@dataclass
class Outcome:
    """What a trial has found."""

    gestures: int = 0
    refused: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


def files(corpus: Path = CORPUS, pattern: str = "*") -> list[Path]:
    return sorted(path for path in corpus.rglob(pattern) if path.suffix in (".yaml", ".yml"))


def try_file(path: Path, gestures: int, seed: int | str, outcome: Outcome, *, stop: bool = False) -> None:
    """Make gestures on one file, judge each, undo all; with `stop` no further than to the first fault."""
    content = path.read_bytes()
    document = source.read(content, path.name)
    if edit(document, []).source.content.encode() != content:
        outcome.faults.append(f"{path.name}: opening and saving changed it")
    random, undos = Gestures(f"{seed}/{path.name}"), []
    seen = Witness(document.content)
    for number in range(gestures):
        operation = random.one(seen)
        items = operation.pop("_items", None)
        outcome.gestures += 1
        outcome.kinds[operation["op"]] += 1
        try:
            edited = edit(document, OPERATIONS.validate_python([operation]))
        except EditRefused as refused:
            outcome.refused.append(told(path, number, operation, str(refused), document.text))
            continue
        try:
            after = Witness(edited.source.content)
        except YAMLError as error:
            outcome.faults.append(told(path, number, operation, f"another parser cannot read it: {error}", edited.diff))
            continue
        for fault in faults(seen, operation, after, items=items):
            outcome.faults.append(told(path, number, operation, fault, edited.diff))
        if stop and outcome.faults:
            return
        undos.append((edited.inverse, document.text))
        document, seen = edited.source, after
    for inverse, text in reversed(undos):
        document = edit(document, inverse).source
        if document.text != text:
            outcome.faults.append(f"{path.name}: an undo did not bring the text back")
            return
    if document.content.encode() != content:
        outcome.faults.append(f"{path.name}: after all undos it is not what it was")


def told(path: Path, number: int, operation: dict[str, Any], what: str, shown: str) -> str:
    return f"{path.name} #{number} {operation}: {what}\n{shown}"


def run(gestures: int, seed: int | str, corpus: Path = CORPUS, *, pattern: str = "*", stop: bool = False) -> Outcome:
    """Make gestures, shared out evenly over the files of a corpus; with `stop` no further than to the first fault."""
    outcome = Outcome()
    found = files(corpus, pattern)
    for index, path in enumerate(found):
        share = gestures // len(found) + (index < gestures % len(found))
        if stop and outcome.faults:
            break
        try:
            try_file(path, share, seed, outcome, stop=stop)
        except InvalidSource as invalid:
            print(f"{path}: not read: {invalid.problem.message}")
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("gestures", type=int, nargs="?", default=600)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    begun = time.perf_counter()
    outcome = run(given.gestures, given.seed, given.corpus)
    if given.show:
        print("\n\n".join(outcome.faults + [f"REFUSED {text}" for text in outcome.refused]))
    print(
        f"{outcome.gestures} gestures on {len(files(given.corpus))} files in {time.perf_counter() - begun:.0f} s: "
        f"{len(outcome.faults)} faults, {len(outcome.refused)} refused; {dict(outcome.kinds)}"
    )
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
