"""The instants of schedules: cron lines over many zones, judged by vectors and by a naive oracle; intervals; jitter."""

from __future__ import annotations

import json
import textwrap
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import naive_cron
import pytest
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st
from naive_cron import utc

from weft import source, structure
from weft.errors import InvalidWorkflow
from weft.schedules.times import Times
from weft.workflow import Schedule

CORPUS = Path(__file__).parents[1] / "corpora" / "cron"
POLICY = [json.loads(line) for line in (CORPUS / "dst_policy.jsonl").read_text(encoding="utf-8").splitlines()]
VECTORS = [
    line.split("|") for line in (CORPUS / "vectors.txt").read_text(encoding="utf-8").splitlines() if line[0] != "#"
]

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Santiago",
    "America/St_Johns", "Pacific/Chatham", "Africa/Casablanca", "Antarctica/Troll", "Atlantic/Azores", "Asia/Kolkata",
]  # fmt: skip
"""Zones whose clocks jump by one hour, by two, by half of one; at night, at midnight; twice for Ramadan; never."""


def cron(line: str, zone: str = "UTC", **facts: Any) -> Times:
    return Times(Schedule(cron=line, timezone=zone, **facts), 0.0)


def keys(times: Times, after: str, count: int) -> list[str]:
    return [each.key for each in islice(times.after(utc(after).timestamp()), count)]


def between(times: Times, first: datetime, last: datetime) -> list[datetime]:
    found = []
    for each in times.after(first.timestamp() - 0.001):
        if each.at > last.timestamp():
            break
        found.append(datetime.fromtimestamp(each.at, UTC))
    return found


# ---- vectors
@pytest.mark.parametrize("row", POLICY, ids=lambda row: row["why"])
def test_the_stated_rule_for_daylight_saving(row: dict[str, Any]) -> None:
    """Each line of the policy names its instants; one that never comes is refused by validation."""
    text = f"""
        name: w
        on: {{schedule: [{{cron: "{row["expr"]}", timezone: {row["tz"]}}}]}}
        steps: [{{id: a, wait: {{for: 1s}}}}]
        """
    document = source.read(textwrap.dedent(text), "w.yaml")
    if not row["next"]:
        with pytest.raises(InvalidWorkflow) as refused:
            structure.load(document)
        assert {problem.where.line for problem in refused.value.problems} == {3}
        return

    (says,) = structure.load(document).on.schedule

    assert keys(Times(says, 0.0), row["after"], len(row["next"])) == row["next"]


@pytest.mark.parametrize(("line", "zone", "after", "expected"), VECTORS, ids=["|".join(row[:3]) for row in VECTORS])
def test_vectors(line: str, zone: str, after: str, expected: str) -> None:
    """Lines whose next instants were worked out by hand from the rules of cron(8)."""
    wanted = expected.split()

    assert keys(cron(line, zone), after, len(wanted)) == wanted


# ---- the oracle
def field(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Return fields of a cron line: `*`, numbers, names, ranges, steps, lists."""
    number = st.integers(low, high).map(str)
    pair = st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda two: f"{min(two)}-{max(two)}")
    step = st.integers(1, high - low + 1)
    span = st.one_of(st.just("*"), pair.filter(lambda text: len(set(text.split("-"))) == 2))  # 5-5/2: an extension
    stepped = st.tuples(span, step).map(lambda two: f"{two[0]}/{two[1]}")
    part = st.one_of(number, pair, stepped, *([st.sampled_from(names)] if names else []))
    return st.one_of(st.just("*"), part, st.lists(part, min_size=1, max_size=3).map(",".join))


LINES = st.tuples(
    field(0, 59), field(0, 23), st.one_of(st.just("*"), field(1, 28)), st.one_of(st.just("*"), field(1, 12, ("MAR", "nov"))),
    st.one_of(st.just("*"), field(0, 7, ("SUN", "fri"))),
).map(" ".join)  # fmt: skip


HOURS = st.integers(0, 365 * 24)
"""Of the year 2026."""


def changes(zone: str) -> list[datetime]:
    """Return the days in 2026 before the clock of a zone is changed; another day when it never is."""
    at, found = datetime(2026, 1, 1, tzinfo=UTC), []
    while at.year == 2026:
        later = at + timedelta(hours=12)
        if at.astimezone(ZoneInfo(zone)).utcoffset() != later.astimezone(ZoneInfo(zone)).utcoffset():
            found.append(at - timedelta(hours=12))
        at = later
    return found or [datetime(2026, 2, 27, tzinfo=UTC)]


CHANGES = [(zone, day) for zone in ZONES for day in changes(zone)]


@given(LINES, st.sampled_from(CHANGES))
@example("*/15 3 * * *", ("Australia/Lord_Howe", datetime(2026, 10, 3, 0, tzinfo=UTC)))
@example("0,30 2 * * *", ("Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC)))
@settings(deadline=None, max_examples=150)
def test_every_minute_is_judged_alike(line: str, where: tuple[str, datetime]) -> None:
    """Around changes of the clock the instants are those that a look at every single minute finds."""
    zone, first = where
    last = first + timedelta(days=2)
    times = cron(line, zone)

    expected = naive_cron.instants(line, zone, first, last)

    assert between(times, first, last) == expected
    assert times.count(first.timestamp(), last.timestamp()) == len(expected)
    backwards = list(islice(times.until(last.timestamp()), len(expected)))
    assert [datetime.fromtimestamp(each.at, UTC) for each in backwards] == expected[::-1]


@given(LINES, st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "Asia/Kolkata"]),
       HOURS)  # fmt: skip
@settings(deadline=None, max_examples=100)
def test_cronsim_agrees_where_clocks_jump_by_whole_hours(line: str, zone: str, hour: int) -> None:
    """Our walk over the days finds what cronsim's own walk finds."""
    after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    theirs = []
    for each in CronSim(line, after.astimezone(ZoneInfo(zone))):
        if each.astimezone(UTC) > after:  # it starts from the clock's time, which may come twice
            theirs.append(each.isoformat())
        if len(theirs) == 10:
            break

    assert keys(cron(line, zone), after.isoformat(), 10) == list(dict.fromkeys(theirs))[:10]


@given(st.sampled_from(ZONES), LINES, HOURS)
@settings(deadline=None, max_examples=60)
def test_each_instant_leads_to_the_next(zone: str, line: str, hour: int) -> None:
    """Asked from instant to instant, the same instants come as in one walk, each with a key of its own."""
    times, at = cron(line, zone), (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)).timestamp()
    walk = list(islice(times.after(at), 20))

    one_by_one = []
    for _ in walk:
        each = next(times.after(at))
        one_by_one.append(each)
        at = each.at

    assert one_by_one == walk
    assert all(one.at < other.at for one, other in pairwise(walk))
    assert len({each.key for each in walk}) == len(walk)
    assert all(utc(each.key).timestamp() == each.at for each in walk)


def test_counting_is_quick_over_years() -> None:
    """A gap of years is counted without making each of its instants."""
    times = cron("* * * * *", "Europe/Berlin")

    assert (
        times.count(utc("2026-01-01T00:00:00+00:00").timestamp(), utc("2029-12-31T23:59:00+00:00").timestamp())
        == 1461 * 1440
    )


# ---- intervals, bounds, jitter
def test_an_interval_counts_from_its_start() -> None:
    """The first instant is `start`, the others follow by elapsed time; the clock's changes do not matter."""
    says = Schedule(every="90m", timezone="Europe/Berlin", start="2026-03-29T00:00:00+01:00")

    assert keys(Times(says, 7.0), "2026-03-28T00:00:00+00:00", 3) == [
        "2026-03-29T00:00:00+01:00", "2026-03-29T01:30:00+01:00", "2026-03-29T04:00:00+02:00",
    ]  # fmt: skip


def test_an_interval_without_start_counts_from_its_anchor() -> None:
    """The first instant comes an interval after the anchor, not at once."""
    times = Times(Schedule(every="1.5s", timezone="UTC"), 100.0)

    assert [each.at for each in islice(times.after(0.0), 3)] == [101.5, 103.0, 104.5]
    assert [each.at for each in times.until(104.0)] == [103.0, 101.5]
    assert times.count(101.5, 104.5) == 3
    assert next(times.after(101.5)).key == "1970-01-01T00:01:43+00:00"


@pytest.mark.parametrize("says", [{"cron": "0 8 * * *"}, {"every": "1d"}])
def test_start_and_end_belong_to_it(says: dict[str, str]) -> None:
    """An instant at `start` and one at `end` are instants; those outside are none."""
    bounds = {"start": "2026-05-02T08:00:00+00:00", "end": "2026-05-04T08:00:00+00:00"}
    times = Times(Schedule(**says, **bounds, timezone="UTC"), 0.0)  # type: ignore[arg-type]

    found = [each.key[:10] for each in times.after(0.0)]

    assert found == ["2026-05-02", "2026-05-03", "2026-05-04"]
    assert [each.key[:10] for each in times.until(utc("2027-01-01T00:00:00+00:00").timestamp())] == found[::-1]
    assert times.count(0.0, 4e9) == 3


def test_jitter_is_the_same_everywhere() -> None:
    """An instant is put off by a time that follows from schedule and instant alone, and that is within bounds."""
    times = cron("*/15 * * * *", jitter="10m")
    found = list(islice(times.after(0.0), 200))
    delays = [times.due("a/1", each) - each.at for each in found]

    assert all(0 <= delay <= 600 for delay in delays)
    assert max(delays) - min(delays) > 500
    assert delays == [cron("*/15 * * * *", jitter="10m").due("a/1", each) - each.at for each in found]
    assert delays != [times.due("a/2", each) - each.at for each in found]
    assert cron("*/15 * * * *").due("a/1", found[0]) == found[0].at


def test_jitter_ends_at_the_next_instant() -> None:
    """A jitter that is longer than the time between two instants puts no start off beyond the next one."""
    for times in (cron("0,5,40 * * * *", jitter="20m"), Times(Schedule(every="5m", timezone="UTC", jitter="1h"), 0.0)):
        found = list(islice(times.after(0.0), 200))
        due = [times.due("a/1", each) for each in found]

        assert all(each.at <= at <= after.at for each, at, after in zip(found, due, found[1:], strict=False))
        assert len({round(at - each.at) for each, at in zip(found, due, strict=True)}) > 100
