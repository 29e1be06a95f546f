"""What an edit does to a document besides the edit: our splicer and ruamel.yaml, in one run.

    python benchmarks/round_trip/run.py [--files DIRECTORY] [--edits N] [--seed SEED]

Every editor gets the same edits on the same files, each on the file as it was. `weft` splices the text; ruamel.yaml reads
it, changes the value and writes all of it: as it comes, and tuned to the file (quotes kept, lines never folded, the
indentation of the file's own lists and keys). For every edit that all of them can make are counted

- lines changed beyond the edit: those of the difference, less the fewest that any of the editors needed;
- comments that are gone, though the edit did not remove what they stand beside or directly above;
- whether the file still means what it should, by a reader that is neither's own (tests/editing/witness.py);
- time of the processor, from text to text.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import io
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from editing.gestures import Gestures  # noqa: E402  the directory of tests is found by the line above
from editing.judge import applied, same  # noqa: E402
from editing.witness import Witness  # noqa: E402
from ruamel.yaml import YAML  # noqa: E402
from ruamel.yaml import __version__ as ruamel_version  # noqa: E402

from weft import source  # noqa: E402
from weft.editing import OPERATIONS, edit  # noqa: E402

Operation = dict[str, Any]
KINDS = ("open and save", "word of a text", "value", "key added", "item added", "removed", "moved")


@dataclass
class Sum:
    """What one editor did over all edits of one kind."""

    edits: int = 0
    failed: int = 0
    beyond: list[int] = field(default_factory=list)
    lost: int = 0
    wrong: int = 0
    seconds: float = 0.0


def with_weft(text: str, operation: Operation | None) -> str:
    operations = OPERATIONS.validate_python([operation] if operation else [])
    return edit(source.read(text, "file.yaml"), operations).source.content


def with_ruamel(text: str, operation: Operation | None, *, tuned: bool) -> str:
    yaml = YAML()
    if tuned:
        step, offset, width = habits(text)
        yaml.preserve_quotes = True
        yaml.width = 1_000_000
        yaml.indent(mapping=step, sequence=offset + width, offset=offset)
        yaml.explicit_start = bool(re.search(r"^---", text, re.MULTILINE)) or None  # type: ignore[assignment]
    value = yaml.load(text)
    if operation:
        value = changed(value, operation)
    stream = io.StringIO(newline="")
    if tuned and "\r\n" in text:
        yaml.line_break = "\r\n"  # type: ignore[assignment]
    yaml.dump(value, stream)
    return stream.getvalue()


def habits(text: str) -> tuple[int, int, int]:
    """Return by how much a file indents keys and dashes, and how wide its dashes are: what a careful user would set."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    steps: Counter[int] = Counter()
    offsets: Counter[int] = Counter()
    widths = Counter(len(found[0]) for line in lines if (found := re.match(r"- +(?=\S)", line.lstrip())))
    for line, below in pairwise(lines):
        if re.search(r":\s*(#.*)?$", line) and not line.lstrip().startswith("- "):
            by = len(below) - len(below.lstrip()) - (len(line) - len(line.lstrip()))
            (offsets if below.lstrip().startswith("- ") else steps)[by] += 1

    def usual(counts: Counter[int], else_: int) -> int:
        return next((by for by, _ in counts.most_common() if by >= 0), else_)

    return usual(steps, 2) or 2, usual(offsets, 2), usual(widths, 2)


def changed(value: Any, operation: Operation) -> Any:
    """Do an operation on ruamel's value, as its documentation shows it."""
    *above, last = operation["path"] or [None]
    match operation["op"]:
        case "set":
            at(value, above)[last] = operation["value"]
        case "insert":
            items = at(value, operation["path"])
            items.insert(operation["index"], operation["item"])
        case "remove":
            del at(value, above)[last]
        case "move":
            item = at(value, above).pop(last)
            at(value, operation["to"]).insert(operation["index"], item)
    return value


def at(value: Any, path: list[Any]) -> Any:
    for part in path:
        value = value[part]
    return value


EDITORS: dict[str, Callable[[str, Operation | None], str]] = {
    "weft": with_weft,
    "ruamel tuned": lambda text, operation: with_ruamel(text, operation, tuned=True),
    "ruamel default": lambda text, operation: with_ruamel(text, operation, tuned=False),
}


def gesture(kind: str, seen: Witness, gestures: Gestures) -> Operation | None:
    """Return an edit of a kind that fits a file; plain ones, as a form or a canvas makes them."""
    places = [path for path, place in seen.places.items() if path]
    pick = gestures.random.choice

    def where(fits: Callable[[Any, Any], bool]) -> list[Any] | None:
        found = [list(path) for path in places if fits(at(seen.value, list(path)), seen.places[path])]
        return pick(found) if found else None

    if kind == "word of a text":
        path = where(lambda value, place: isinstance(value, str) and place.scalar and len(value.split(" ")) > 2)
        if path:
            words = at(seen.value, path).split(" ")
            words[pick(range(len(words)))] += "x"
            return {"op": "set", "path": path, "value": " ".join(words)}
    elif kind == "value":
        path = where(lambda value, place: place.scalar and "\n" not in str(value))
        return {"op": "set", "path": path, "value": pick(["text", 7, True, 0.3])} if path else None
    elif kind == "key added":
        path = where(lambda value, place: isinstance(value, dict) and "added" not in value)
        return {"op": "set", "path": [*path, "added"], "value": "text"} if path else None
    elif kind == "item added":
        path = where(lambda value, place: isinstance(value, list) and bool(value))
        if path:
            items = at(seen.value, path)
            return {
                "op": "insert",
                "path": path,
                "index": pick(range(len(items) + 1)),
                "item": copy.deepcopy(pick(items)),
            }
    elif kind == "removed":
        path = where(lambda value, place: place.last - place.first < 12)
        return {"op": "remove", "path": path} if path else None
    elif kind == "moved":
        path = where(lambda value, place: True)
        paths = [list(p) for p in places if isinstance(p[-1], int) and len(at(seen.value, list(p[:-1]))) > 1]
        path = pick(paths) if paths else None
        if path:
            index = pick([i for i in range(len(at(seen.value, path[:-1]))) if i != path[-1]])
            return {"op": "move", "path": path, "to": path[:-1], "index": index}
    return None


def difference(old: str, new: str) -> int:
    """Return how many lines a difference has, those that went and those that came."""
    split = [text.removeprefix("\ufeff").split("\n") for text in (old, new)]
    codes = difflib.SequenceMatcher(None, *split, autojunk=False).get_opcodes()
    return sum((j - i) + (m - k) for tag, i, j, k, m in codes if tag != "equal")


def lost(before: Witness, operation: Operation | None, after: Witness) -> int:
    """Return how many comments are gone that the edit did not remove."""
    gone = Counter(c.text for c in before.comments) - Counter(c.text for c in after.comments)
    if operation and operation["op"] == "remove":
        path = tuple(operation["path"])
        place = before.places[path]
        lines = [*before.above(path), place.first, place.last, *before.below(path)]
        gone -= Counter(c.text for c in before.comments if min(lines) <= c.line <= max(lines))
    return gone.total()


def trial(text: str, operation: Operation | None, kind: str, sums: dict[str, dict[str, Sum]]) -> None:
    """Let every editor make one edit."""
    before = Witness(text)
    wanted = before.value if operation is None else applied(operation, before.value)
    results: dict[str, str] = {}
    for name, editor in EDITORS.items():
        total = sums[name][kind]
        begun = time.process_time()
        try:
            results[name] = editor(text, operation)
        except Exception as error:  # noqa: BLE001  an editor that fails is counted, whatever it failed with
            total.failed += 1
            print(f"  {name} failed: {type(error).__name__}: {str(error).splitlines()[0][:100]}", file=sys.stderr)
            continue
        finally:
            total.edits += 1
            total.seconds += time.process_time() - begun
    least = min((difference(text, result) for result in results.values()), default=0)
    for name, result in results.items():
        total = sums[name][kind]
        total.beyond.append(difference(text, result) - least)
        try:
            after = Witness(result)
        except Exception:  # noqa: BLE001  it cannot even be read again, whatever the reader says
            total.wrong += 1
            continue
        total.wrong += not same(after.value, wanted)
        total.lost += lost(before, operation, after)


def large() -> str:
    """Return what one edit of a large document takes, beside reading it once."""
    step = """\
  # {n}. does its part
  - id: step{n}
    uses: http_request
    retry: {{attempts: 3, backoff: 10s}}
    with:
      method: GET   # nothing is changed there
      url: "https://example.com/items/{n}"
      query:
        region: "{{{{ inputs.region }}}}"
      text: |
        a text of some lines,
        of which this one is the last, number {n}

"""
    text = "name: large\nsteps:\n" + "".join(step.format(n=n) for n in range(250))
    operation = {"op": "set", "path": ["steps", 100, "with", "method"], "value": "PUT"}
    times = {"reading it once": least(lambda: source.read(text, "file.yaml"))}
    times |= {name: least(lambda editor=editor: editor(text, operation)) for name, editor in EDITORS.items()}
    once = times["reading it once"]
    lines = [f"{name:18}{1000 * seconds:9.1f} ms{seconds / once:8.1f}" for name, seconds in times.items()]
    return (
        f"One value in 250 steps, {len(text) // 1000} kB; milliseconds, and as a multiple of reading it once:\n"
        + "\n".join(lines)
    )


def least(work: Callable[[], Any], times: int = 3) -> float:
    """Return the least processor time of several."""
    found = []
    for _ in range(times):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return min(found)


def table(sums: dict[str, dict[str, Sum]], files: int) -> str:
    lines = [
        f"{files} files; ruamel.yaml {ruamel_version}, Python {sys.version.split()[0]}. Lines are those of the difference,",
        "removed and added, beyond the fewest that any editor needed: median / worst / share of edits with none.",
        "",
        f"{'edit':16}{'editor':16}{'edits':>6}{'failed':>7}{'  lines beyond the edit':26}{'lost':>5}{'wrong':>6}{'  ms':>7}{'ratio':>7}",
    ]
    for kind in KINDS:
        base = sums["weft"][kind]
        for name in EDITORS:
            each = sums[name][kind]
            beyond = each.beyond or [0]
            none = 100 * sum(count == 0 for count in beyond) // len(beyond)
            spread = f"  {statistics.median(beyond):.0f} / {max(beyond)} / {none}%"
            ms, ours = 1000 * each.seconds / max(each.edits, 1), 1000 * base.seconds / max(base.edits, 1)
            lines.append(
                f"{kind if name == 'weft' else '':16}{name:16}{each.edits:6}{each.failed:7}{spread:26}{each.lost:5}"
                f"{each.wrong:6}{ms:7.1f}{ms / ours if ours else 0:7.1f}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=Path, default=ROOT / "tests" / "corpora" / "documents")
    parser.add_argument("--edits", type=int, default=4, help="of each kind per file")
    parser.add_argument("--seed", default="1")
    given = parser.parse_args()
    sums = {name: {kind: Sum() for kind in KINDS} for name in EDITORS}
    files = sorted(path for path in given.files.iterdir() if path.suffix in (".yaml", ".yml"))
    for path in files:
        text = path.read_bytes().decode()
        seen, gestures = Witness(text), Gestures(f"{given.seed}/{path.name}")
        trial(text, None, "open and save", sums)
        for kind in KINDS[1:]:
            for _ in range(given.edits):
                if operation := gesture(kind, seen, gestures):
                    trial(text, operation, kind, sums)
    print(table(sums, len(files)))
    print()
    print(large())


if __name__ == "__main__":
    main()
