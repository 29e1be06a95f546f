"""What a terminal shows of documents, their versions, and what goes between a directory and the database."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table
from rich.text import Text

from weft.cli import instants
from weft.cli.terminal import UNICODE, Screen, clean, clean_line, size, symbols
from weft.documents import Document, DocumentFacts, Version
from weft.editing import changes

if TYPE_CHECKING:
    from weft.documents.moving import Step, What

MARKS: dict[str, tuple[str, str]] = {
    "added": ("+", "green"),
    "changed": ("~", "cyan"),
    "removed": ("-", "red"),
    "newer": ("!", "bold yellow"),
    "gone": ("!", "bold yellow"),
    "conflict": ("!", "bold red"),
    "unfit": ("!", "bold red"),
}


@dataclass(frozen=True, slots=True)
class Listing:
    """The documents of a workspace."""

    place: str
    documents: Sequence[DocumentFacts]

    def as_json(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "documents": [
                {
                    "name": each.name,
                    "file": each.file,
                    "etag": each.etag,
                    "size": each.size,
                    "changed_at": _at(each.changed_at).isoformat(),
                }
                for each in self.documents
            ],
        }


@dataclass(frozen=True, slots=True)
class History:
    """The versions of a document, the youngest first."""

    name: str
    versions: Sequence[Version]

    def as_json(self) -> dict[str, Any]:
        versions = [
            asdict(each) | {"at": _at(each.at).isoformat(), "etag": each.etag or None} for each in self.versions
        ]
        return {"name": self.name, "versions": versions}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a push or pull comes to."""

    which: Literal["push", "pull"]
    directory: str
    steps: Sequence[Step]
    force: bool
    dry_run: bool

    @property
    def refused(self) -> list[Step]:
        """What is not carried, and why a person has to look."""
        return [each for each in self.steps if each.what in _refused(force=self.force)]

    @property
    def done(self) -> list[Step]:
        return [each for each in self.steps if each.what not in ("same", "missing") and each not in self.refused]

    def as_json(self, carried: Sequence[Step]) -> dict[str, Any]:
        return {
            "from": self.directory if self.which == "push" else "database",
            "to": "database" if self.which == "push" else self.directory,
            "dry_run": self.dry_run,
            "documents": [
                {
                    "name": each.name,
                    "what": each.what,
                    "note": each.note or None,
                    "carried": each in carried,
                    "diff": _diff_of(each),
                }
                for each in self.steps
            ],
        }


def _refused(*, force: bool) -> set[What]:
    return {"unfit"} if force else {"unfit", "newer", "gone", "conflict"}


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# ---- lists
def plain(facts: DocumentFacts) -> str:
    cells = [facts.name, _at(facts.changed_at).isoformat(timespec="seconds"), str(facts.size), facts.etag]
    return "\t".join(clean_line(cell) for cell in cells)


def plain_version(version: Version) -> str:
    at = _at(version.at).isoformat(timespec="seconds")
    cells = [str(version.number), at, version.by, version.why or "-", str(version.size), version.etag or "-"]
    return "\t".join(clean_line(cell) for cell in cells)


def show_list(listing: Listing) -> None:
    screen = Screen(sys.stdout)
    where = "the database" if listing.place == "database" else f"{listing.place}/"
    if not listing.documents:
        screen.print(Text.assemble(f"There are no workflows in {where}."), soft_wrap=True)
        return
    now = datetime.now(UTC)
    table = _table("workflow", "changed", "size")
    for each in listing.documents:
        changed = instants.started(_at(each.changed_at), now)
        table.add_row(Text(clean_line(each.name), "bold"), Text(changed, "dim"), Text(size(each.size), "dim"))
    screen.print(table)
    count = len(listing.documents)
    screen.print(Text(f"{count} {'workflow' if count == 1 else 'workflows'} in {where}", "dim"), soft_wrap=True)


def show_history(history: History) -> None:
    screen, now = Screen(sys.stdout), datetime.now(UTC)
    table = _table("version", "saved", "by", "why", "size")
    for each in history.versions:
        table.add_row(
            Text(str(each.number), "bold"),
            Text(instants.started(_at(each.at), now)),
            Text(clean_line(each.by), "cyan" if each.by == "outside" else ""),
            Text(clean_line(each.why), "dim"),
            Text(size(each.size) if each.etag else "removed", "dim"),
        )
    screen.print(table)
    oldest = history.versions[-1].number if history.versions else 1
    if oldest > 1:
        more = f"weft workspace history {history.name} --before {oldest}"
        screen.print(Text.assemble((f"{oldest - 1} older: ", "dim"), clean_line(more)), soft_wrap=True)


def _table(*headers: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for header in headers:
        right = header in ("size", "version")
        table.add_column(header, no_wrap=True, overflow="ellipsis", justify="right" if right else "left")
    return table


# ---- differences
def difference(name: str, old: str, new: str) -> str:
    """Return what changes, as `diff -u` shows it; empty when nothing does."""
    return changes.unified(changes.compare(old, new), f"{name}.yaml")


def show_difference(text: str) -> None:
    screen = Screen(sys.stdout)
    for line in text.splitlines():
        style = "bold" if line.startswith(("---", "+++")) else _STYLES.get(line[:1], "")
        screen.print(Text(clean(line), style), soft_wrap=True)


_STYLES = {"+": "green", "-": "red", "@": "cyan", "\\": "dim"}


def _diff_of(step: Step) -> str | None:
    if step.what == "same" or not _have_texts(step):
        return None
    return difference(step.name, _text(step.target), _text(step.source))


def _have_texts(step: Step) -> bool:
    return all(each is None or each.is_exact for each in (step.source, step.target))


def _text(document: Document | None) -> str:
    return "" if document is None else document.text


# ---- push and pull
def planned(plan: Plan) -> Iterator[Text]:
    """Say what changes, a line for each document."""
    there = "the database" if plan.which == "push" else plan.directory
    here = plan.directory if plan.which == "push" else "the database"
    shown = [each for each in plan.steps if each.what not in ("same", "missing")]
    if shown:
        yield Text.assemble(
            (f"{here} ", ""), ("→" if symbols(sys.stdout) is UNICODE else "->", "dim"), (f" {there}", "")
        )
    for each in shown:
        mark, style = MARKS[each.what]
        counts = f"  {_counts(each)}" if each not in plan.refused and each.what != "unfit" else ""
        note = f"  {each.note}" if each.note else ""
        yield Text.assemble((f"  {mark} ", style), (clean_line(each.name), "bold"), (counts, "dim"), (note, style))


def _counts(step: Step) -> str:
    found = changes.compare(_text(step.target), _text(step.source))
    more = sum(span.new_end - span.new_start for span in found.spans)
    less = sum(span.old_end - span.old_start for span in found.spans)
    return f"+{more} -{less}"


def outcome(plan: Plan, carried: Sequence[Step]) -> str:
    """Say in a sentence what was done, and what can be done about the rest."""
    count = len(plan.done) if plan.dry_run else len(carried)
    what = "pushed" if plan.which == "push" else "pulled"
    same = sum(each.what == "same" for each in plan.steps)
    if plan.dry_run:
        told = f"{count} would be {what}, {same} {'is' if same == 1 else 'are'} the same."
    elif not plan.steps:
        told = "There are no workflows on either side."
    elif not count and not plan.refused:
        told = f"Nothing to do: {same} {'is' if same == 1 else 'are'} the same."
    else:
        told = f"{count} {what}, {same} the same."
    missing = [each.name for each in plan.steps if each.what == "missing"]
    if missing:
        there = "the database" if plan.which == "push" else plan.directory
        told += f" Only in {there}: {', '.join(missing)}."
    stopped = [each for each in plan.refused if each.what != "unfit"]
    if stopped:
        back = "pull" if plan.which == "push" else "push"
        told += (
            f" {len(stopped)} left alone: see what the other side has with weft workspace {back} --dry-run,"
            " or overwrite it with --force."
        )
    return told
