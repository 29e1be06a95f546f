"""What a terminal shows of schedules: when they start, and what became of the starts of the last days."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from weft.cli import instants
from weft.cli.terminal import UNICODE, Screen, Symbols, clean_line, symbols
from weft.journal.base import Fate, Occurrence
from weft.schedules.deciding import ALARM, ON_TIME_S
from weft.schedules.reasons import told
from weft.schedules.report import (
    BackfillReport,
    InstantReport,
    OccurrenceReport,
    ScheduleHistory,
    ScheduleReport,
    SyncReport,
    times_of,
)

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
STATE_STYLES = {"armed": "green", "paused": "bold yellow", "ended": "dim", "retired": "dim"}
FATE_STYLES: dict[Fate, str] = {"fired": "green", "skipped": "yellow", "missed": "red"}
WORST: tuple[Fate, ...] = ("missed", "skipped", "fired")
RUN = 12
"""Characters of a run's id that are shown; they are enough for every command."""

AHEAD = timedelta(hours=3)
"""How far a schedule may be ahead of the clock; clocks are set back by as much as this without anybody being told."""

WIDE, MIDDLE = 100, 60
"""Cells from which on a table says the zone and the last start; when a schedule starts."""


# ---- words
def clock(local: str) -> str:
    """Tell an instant as its own zone shows it: `Tue 24 Nov 08:00`; seconds only where there are some."""
    try:
        at = datetime.fromisoformat(local)
    except ValueError:  # a row that stands for no instant of its own
        return local
    year = "" if at.year == datetime.now(UTC).year else f" {at.year}"
    shown = f"{at:%H:%M:%S}" if at.second else f"{at:%H:%M}"
    return f"{WEEKDAYS[at.weekday()]} {at.day} {MONTHS[at.month - 1]}{year} {shown}"


def until(each: InstantReport) -> str:
    """Tell how long it is until a start, or for how long it should have been."""
    left = (each.due - datetime.now(UTC)).total_seconds()
    if left > 0:
        return f"in {instants.length(left)}"
    return f"{instants.length(-left)} overdue" if left < -ON_TIME_S else "now"


def sentence(report: ScheduleReport) -> str:
    """Say in a line where a schedule stands."""
    match report.state:
        case "paused":
            return f"{report.id} is paused; its starts are skipped until: weft schedules resume {report.workflow}"
        case "retired":
            return f"{report.id} is retired; its workflow no longer has it, or is not enabled"
        case "ended":
            return f"{report.id} has no start to come"
    assert report.next is not None  # noqa: S101  it is armed
    return f"{report.id} starts next {report.next.local} ({until(report.next)})"


def while_paused(ids: Sequence[str]) -> str:
    return f"Paused: {', '.join(ids)}. Until resumed, these are skipped." if ids else ""


def plain(report: ScheduleReport) -> str:
    """Return a line for programs: id, state, times, zone, next instant in UTC and its zone, fate of the last."""
    upcoming = [report.next.utc.isoformat(), report.next.local] if report.next else ["", ""]
    last = report.last.fate if report.last else ""
    return line([report.id, report.state, times_of(report), report.timezone, *upcoming, last])


def line(cells: Sequence[str]) -> str:
    """Return a line for programs."""
    return "\t".join(map(clean_line, cells))


def plain_instant(each: InstantReport) -> str:
    return line([each.utc.isoformat(), each.local, each.timezone, each.schedule or ""])


def after_backfill(reports: Sequence[BackfillReport]) -> str:
    """Say what became of a backfill, and what to do now."""
    if not reports:
        return "The schedule has no starts in this time that are past."
    planned, started = (sum(each.outcome == outcome for each in reports) for outcome in ("planned", "started"))
    known = len(reports) - planned - started
    before = f", {known} had been started before" if known else ""
    if planned:
        return f"{_starts(planned)} would be made up for{before}."
    return f"{_starts(started)} made up for{before}." + (" Workers go on with the runs: weft worker" if started else "")


def synced(report: SyncReport) -> Iterator[str]:
    """Yield a line for each schedule and each fault."""
    for each in report.schedules:
        if each.change == "foreign":
            yield f"foreign: {each.schedule.id} was armed otherwise from {each.schedule.source}; to take it over add --take"
        else:
            yield f"{each.change}: {sentence(each.schedule)}"
    for fault in report.faulty:
        kept = f"; {', '.join(fault.kept)} goes on as it was armed last" if fault.kept else ""
        where = ":".join(str(part) for part in (fault.problem.where.file, fault.problem.where.line) if part)
        remedy = f" {fault.problem.remedy}" if fault.problem.remedy else ""
        yield f"not armed: {fault.workflow}{kept}: {where}: {fault.problem.message}{remedy}"
    if not report.schedules and not report.faulty:
        yield "No enabled workflow in workflows/ has a schedule."


def _starts(count: int) -> str:
    return "1 start" if count == 1 else f"{count:,} starts"


def _alarms(report: ScheduleReport) -> Iterator[str]:
    """Yield what somebody should look at."""
    if report.skips >= ALARM and report.last is not None:
        yield f"{report.id} skipped {report.skips} starts in a row: {_why(report.last)}"
    if report.state == "retired":
        return
    now = datetime.now(UTC)
    if report.watermark > now + AHEAD:
        yield (
            f"{report.id} starts nothing before {report.watermark:%Y-%m-%d %H:%M} UTC: the journal's clock was wrong when "
            "it was decided until then. If that is too long, give the workflow another name."
        )
    elif report.state == "armed" and report.next is not None and until(report.next).endswith("overdue"):
        yield f"{report.id} is overdue: no worker has started it. Start one, or see what it says: weft worker"


def _why(each: OccurrenceReport) -> str:
    """Say why an instant became what it did; runs by the beginning of their ids."""
    message = each.message
    blockers = each.facts.get("blockers")
    for blocker in blockers if isinstance(blockers, list) else ():
        message = message.replace(str(blocker), str(blocker)[:RUN])
    return message


# ---- the list
def show_list(reports: Sequence[ScheduleReport]) -> None:
    """Print a table of schedules."""
    screen = Screen(sys.stdout)
    if not reports:
        screen.print(
            Text.assemble(
                ("No schedule is armed. Those of enabled workflows in workflows/ are armed by ", "dim"),
                "weft worker",
                (" or ", "dim"),
                "weft schedules sync",
            )
        )
        return
    marks = _marks()
    table = _table(["schedule", "next", "in", "times", "zone", "last"][: _columns(screen.width)])
    for report in reports:
        cells = [
            _name(report, marks),
            *_next_cells(report),
            Text(times_of(report), "dim"),
            Text(report.timezone, "dim"),
        ]
        cells.append(_last_cell(report, marks))
        table.add_row(*cells[: _columns(screen.width)])
    screen.print(table)
    for alarm in (each for report in reports for each in _alarms(report)):
        screen.print(Text(f"! {clean_line(alarm)}", "yellow"), soft_wrap=False)
    screen.print()
    screen.print(Text.assemble(("What became of its starts: ", "dim"), "weft schedules show WORKFLOW"), soft_wrap=True)


def _columns(width: int) -> int:
    return 6 if width >= WIDE else 4 if width >= MIDDLE else 2


def _table(headers: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for header in headers:
        table.add_column(header, no_wrap=True, overflow="ellipsis")
    return table


def _name(report: ScheduleReport, marks: Symbols) -> Text:
    mark = {"armed": marks.succeeded, "paused": "!", "ended": marks.skipped, "retired": marks.skipped}[report.state]
    return Text.assemble((mark, STATE_STYLES[report.state]), " ", (clean_line(report.id), "bold"))


def _next_cells(report: ScheduleReport) -> list[Text]:
    if report.state != "armed" or report.next is None:
        return [Text(report.state, STATE_STYLES[report.state]), Text()]
    return [Text(clock(report.next.local)), Text(until(report.next), "dim")]


def _last_cell(report: ScheduleReport, marks: Symbols) -> Text:
    if report.last is None:
        return Text("none yet", "dim")
    return Text.assemble(
        (f"{_mark(report.last.fate, marks)} {report.last.fate}", FATE_STYLES[report.last.fate]),
        (f" {clock(report.last.local)}", "dim"),
    )


# ---- what comes next
def show_next(reports: Sequence[InstantReport], note: str) -> None:
    """Print instants, in UTC and as the schedule's zone shows them."""
    screen = Screen(sys.stdout)
    if note:
        screen.print(Text(clean_line(note), "yellow"))
        screen.print()
    if not reports:
        screen.print(Text("There is no start to come.", "dim"))
        return
    narrow = screen.width < MIDDLE
    several = len({each.schedule for each in reports}) > 1 and not narrow
    late = any(each.due != each.utc for each in reports) and not narrow
    date_ = "%m-%d %H:%M" if narrow else "%Y-%m-%d %H:%M"
    table = _table(["UTC", "local", *(["starts"] if late else []), *(["schedule"] if several else [])])
    for each in reports:
        offset = datetime.fromisoformat(each.local)
        shown = f"{WEEKDAYS[offset.weekday()]} {offset:%d %H:%M}" + (f":{offset:%S}" if offset.second else "")
        local = Text.assemble(f"{shown if narrow else clock(each.local)} ", (f"{offset:%z}", "dim"))
        cells = [Text(each.utc.strftime(date_) + (f":{each.utc:%S}" if each.utc.second else "")), local]
        if late:
            cells.append(Text(f"+{instants.length((each.due - each.utc).total_seconds())}", "dim"))
        table.add_row(*cells, *([Text(clean_line(each.schedule or ""))] if several else []))
    screen.print(table)
    screen.print(Text(f"local: {', '.join(dict.fromkeys(each.timezone for each in reports))}", "dim"))


# ---- one schedule
def page(
    history: ScheduleHistory, pictured: Sequence[Occurrence], screen: Screen, days: int, *, is_whole: bool
) -> Iterator[Text]:
    """Yield the lines about a schedule: where it stands, a picture of the last days, its youngest starts.

    Args:
        history: The schedule and the starts to list.
        pictured: The starts to draw, the youngest first.
        screen: Where it will be shown.
        days: How many to draw.
        is_whole: All starts of those days are among them.
    """
    report, marks = history.schedule, _marks()
    yield from _head(report, marks, screen)
    yield Text()
    if not history.occurrences:
        yield Text("Nothing has become due yet.", "dim")
        return
    yield from _picture(report, pictured, marks, screen.width, days)
    if not is_whole:
        yield Text(f"as far as the last {len(pictured):,} starts reach", "dim")
    yield Text()
    for each in history.occurrences:
        yield from _row(each, marks, screen)
    yield Text()


def _head(report: ScheduleReport, marks: Symbols, screen: Screen) -> Iterator[Text]:
    yield _name(report, marks) + Text.assemble("  ", (report.state, STATE_STYLES[report.state]))
    facts = [
        f"{times_of(report)} in {report.timezone}",
        f"catch up {report.catch_up}",
        f"overlap {report.overlap}",
        f"jitter {report.jitter}" if report.jitter else "",
        f"grace {report.grace}" if report.grace else "",
    ]
    yield from _wrapped(f" {marks.dot} ".join(filter(None, facts)), "dim", screen)
    if report.next is not None and report.state == "armed":
        yield from _wrapped(f"next {clock(report.next.local)}, {until(report.next)}", "", screen)
    if report.paused_at is not None:
        since = f"{report.paused_at.astimezone():%Y-%m-%d %H:%M}"
        yield from _wrapped(f"paused since {since}: its starts are skipped", "yellow", screen)
    for alarm in _alarms(report):
        yield from _wrapped(f"! {clean_line(alarm)}", "yellow", screen)


def _picture(
    report: ScheduleReport, rows: Sequence[Occurrence], marks: Symbols, width: int, days: int
) -> Iterator[Text]:
    """Yield a line for each day: its hours as dots, each in the colour and shape of the worst that became of it."""
    zone = ZoneInfo(report.timezone)
    per_hour = 2 if width >= 76 else 1
    cells: dict[date, dict[int, Fate]] = {}
    counts: dict[date, dict[Fate, int]] = {}
    for row in reversed(rows):
        at = datetime.fromtimestamp(row.at, zone)
        counts.setdefault(at.date(), {}).setdefault(row.fate, 0)
        counts[at.date()][row.fate] += row.count
        for cell in _span(row, at, zone, per_hour):
            before = cells.setdefault(cell[0], {}).get(cell[1], "fired")
            cells[cell[0]][cell[1]] = min(before, row.fate, key=WORST.index)
    today = datetime.now(zone).date()
    label = len("Mon 23 Nov  ")
    ruler = "".join(f"{hour:<{6 * per_hour}}" for hour in (0, 6, 12, 18))
    yield Text(" " * label + ruler.rstrip(), "dim")
    for day in (today - timedelta(days=back) for back in range(days)):
        if day in cells or day == today:
            line_ = _day(day, cells.get(day, {}), marks, 24 * per_hour)
            counted = _counted(counts.get(day, {}))
            yield line_ + counted if line_.cell_len + counted.cell_len <= width else line_


def _span(row: Occurrence, at: datetime, zone: ZoneInfo, per_hour: int) -> list[tuple[date, int]]:
    """Return the cells that a row covers: one, or all until the end of a range."""
    end = at
    if row.count != 1 and isinstance(last := told(row).get("until"), str):
        end = datetime.fromisoformat(last).astimezone(zone)
    found: list[tuple[date, int]] = []
    step = timedelta(minutes=60 // per_hour)
    while at <= end and len(found) < 24 * per_hour * 31:
        found.append((at.date(), at.hour * per_hour + at.minute * per_hour // 60))
        at += step
    return found


def _day(day: date, cells: dict[int, Fate], marks: Symbols, width: int) -> Text:
    line_ = Text(f"{WEEKDAYS[day.weekday()]} {day.day:>2} {MONTHS[day.month - 1]}  ", "dim")
    for cell in range(width):
        fate = cells.get(cell)
        line_.append(_mark(fate, marks), FATE_STYLES[fate] if fate else "bright_black")
    return line_


def _counted(counts: dict[Fate, int]) -> Text:
    """Tell how many starts of a day had which fate."""
    found = Text()
    for fate in reversed(WORST):
        if counts.get(fate):
            found.append(", " if found else "  ", "dim").append(f"{counts[fate]:,} {fate}", FATE_STYLES[fate])
    return found


def _row(each: OccurrenceReport, marks: Symbols, screen: Screen) -> Iterator[Text]:
    style = FATE_STYLES[each.fate]
    line = Text.assemble((f"{_mark(each.fate, marks)} {each.fate:<8}", style), (f"{clock(each.local):<20} ", ""))
    count = f"{each.count:,} instants. " if each.count > 1 else ""
    by_hand = f" Started by hand: run {each.backfilled[:RUN]}" if each.backfilled else ""
    run = f"run {each.run_id[:RUN]} " if each.run_id else ""
    words = Text(clean_line(f"{run}{count}{_why(each)}{by_hand}"), "dim")
    inset = 31 if screen.width >= MIDDLE else 2
    parts = list(words.wrap(screen, max(10, screen.width - inset)))
    if screen.width >= MIDDLE and parts:
        yield line + parts.pop(0)
    else:
        line.rstrip()
        yield line
    for part in parts:
        part.rstrip()
        yield Text(" " * inset) + part


def _wrapped(text: str, style: str, screen: Screen) -> Iterator[Text]:
    for part in Text(text, style).wrap(screen, max(10, screen.width)):
        part.rstrip()
        yield part


def _mark(fate: Fate | None, marks: Symbols) -> str:
    match fate:
        case "fired":
            return marks.succeeded if marks.bar != "│" else "●"
        case "skipped":
            return marks.skipped
        case "missed":
            return marks.failed
    return marks.dot


def _marks() -> Symbols:
    """Return the marks that standard output has; a dot that is not taken for a skipped start."""
    found = symbols(sys.stdout)
    return found if found == UNICODE else replace(found, dot=".")
