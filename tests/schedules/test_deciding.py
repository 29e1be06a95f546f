"""What becomes of a schedule's instants: catch-up, overlap, edits, pauses, backfill; one fate for each."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from simulated import World, at, code_of, hours, make, make_backfill, reason_of, refused

from weft.errors import ActionError, InvalidInputs, JournalRefused
from weft.journal.base import RunRow, ScheduleMove, ScheduleView
from weft.schedules import deciding
from weft.schedules.deciding import BATCH, GAP, Arming
from weft.schedules.standing import Standing
from weft.schedules.times import Instant
from weft.workflow import Schedule as Says


def world(now: str = "07:30", **says: Any) -> World:
    """Return a schedule of full hours that is armed at half past seven."""
    made = World(at(now))
    made.arm(**({"cron": "0 * * * *"} | says))
    return made


# ---- catch-up
def test_an_instant_is_started_once_when_it_has_come() -> None:
    """Nothing starts before the instant; then one run starts, and it is that of the instant."""
    each = world()
    each.now = at("08:00") - 0.001
    assert each.fire() == 0
    each.now = at("08:00") + 59

    assert each.fire() == 1
    assert each.fire() == 0

    (occurrence,) = each.rows.values()
    assert (occurrence.key, occurrence.at, occurrence.fate) == ("2026-03-02T08:00:00+00:00", at("08:00"), "fired")
    assert list(each.runs) == [occurrence.run_id]


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ({"catch_up": "none"}, ["missed late", "missed late", "missed late"]),
        ({"catch_up": "last"}, ["missed superseded", "missed superseded", "fired made_up"]),
        ({"catch_up": "all"}, ["fired made_up", "fired made_up", "fired made_up"]),
        ({"catch_up": "last", "grace": "20m"}, ["missed grace", "missed grace", "missed grace"]),
        ({"catch_up": "last", "grace": "2h"}, ["missed grace", "missed superseded", "fired made_up"]),
        ({"catch_up": "all", "grace": "90m"}, ["missed grace", "fired made_up", "fired made_up"]),
        ({}, ["missed superseded", "missed superseded", "fired made_up"]),
    ],
)
def test_what_was_missed_is_made_up_for_as_the_policy_says(says: dict[str, str], expected: list[str]) -> None:
    """After three hours without a worker each of the three instants has the fate of its policy, and a reason."""
    each = world(**says)
    each.now = at("10:30")

    each.fire()

    assert [f"{fate} {code}" for _, fate, code in each.fates()] == expected


@pytest.mark.parametrize("says", [{}, {"jitter": "50s"}, {"grace": "30m"}])
def test_what_stands_for_missed_starts_was_started(says: dict[str, str]) -> None:
    """Each row of a missed start names the start that was made up for it, also when the rows come in several batches."""
    each = world(every="1m", cron=None, overlap="allow", **says)
    each.now += 151 * 60 + 5

    each.fire()

    fired = [row.key for row in each.rows.values() if row.fate == "fired"]
    named = {reason_of(row)["by"] for row in each.rows.values() if code_of(row) == "superseded"}
    assert named == {fired[-1]}
    assert len(each.rows) > BATCH


def test_a_start_in_time_stands_for_those_that_were_missed() -> None:
    """With `last`, nothing is made up for when another start is due and in time."""
    each = world()
    each.now = at("10:00") + 30

    each.fire()

    assert each.fates() == [
        ("08:00", "missed", "superseded"),
        ("09:00", "missed", "superseded"),
        ("10:00", "fired", ""),
    ]


def test_less_than_a_minute_late_is_in_time() -> None:
    """Starts close together are all started by a worker that is a little behind, whatever the policy."""
    each = world("07:59", cron="* * * * *", every=None, catch_up="none", overlap="allow")
    each.now = at("08:01") + 59

    each.fire()

    assert [fate for _, fate, _ in each.fates()] == ["missed", "fired"]


def test_catching_up_goes_by_batches() -> None:
    """B8: a transaction decides at most a hundred instants."""
    each = world(every="1m", cron=None, catch_up="all", overlap="allow")
    each.now += 250 * 60

    assert each.fire() == 3
    assert [len(move.runs) for move in each.moves[1:]] == [BATCH, BATCH, 50]
    assert each.standing.next == Instant(each.now + 60, each.standing.times.key(each.now + 60))


@pytest.mark.parametrize(("catch_up", "fired", "single"), [("none", 1, 1), ("last", 1, 2), ("all", GAP + 1, GAP + 1)])
def test_a_long_gap_is_one_row(catch_up: str, fired: int, single: int) -> None:
    """B8: of more than a thousand missed instants, those that nobody will start are one row with their number."""
    each = world(every="1m", cron=None, catch_up=catch_up, overlap="allow")
    each.now += 5000 * 60

    each.fire()

    ranges = [row for row in each.rows.values() if row.count > 1]
    singles = [row for row in each.rows.values() if row.count == 1]
    assert [row.fate for row in ranges] == ["missed"]
    assert sum(row.fate == "fired" for row in singles) == fired
    assert ranges[0].count + len(singles) == 5000
    assert len(singles) == single
    assert reason_of(ranges[0])["code"] == "gap"
    assert at(reason_of(ranges[0])["until"]) == ranges[0].at + 60 * (ranges[0].count - 1)


# ---- overlap
def test_a_start_is_skipped_while_the_run_before_goes_on() -> None:
    """B7: the reason names the run that had not ended; skips in a row are counted until one is started."""
    each = world()
    each.now = at("08:00")
    each.fire()
    (blocker,) = each.open
    for hour in ("09:00", "10:00", "11:00"):
        each.now = at(hour)
        each.fire()

    skipped = [row for row in each.rows.values() if row.fate == "skipped"]
    assert [reason_of(row)["blockers"] for row in skipped] == [[blocker]] * 3
    assert each.standing.spec.skips == 3
    each.open.clear()
    each.now = at("12:00")
    each.fire()
    assert each.fates()[-1] == ("12:00", "fired", "")
    assert each.standing.spec.skips == 0


def test_all_that_was_missed_waits_in_line_instead_of_being_skipped() -> None:
    """`catch_up: all` with `overlap: skip` starts every missed instant; a later one in time is skipped for them."""
    each = world(catch_up="all")
    each.now = at("10:00") + 5

    each.fire()

    assert [f"{fate} {code}" for _, fate, code in each.fates()] == ["fired made_up", "fired made_up", "skipped overlap"]


def test_cancel_ends_each_run_before_once() -> None:
    """`overlap: cancel` cancels what goes on, but no run twice: that would cut it off."""
    each = world(overlap="cancel")
    started = []
    for hour in ("08:00", "09:00", "10:00"):
        each.now = at(hour)
        each.fire()
        started.append(each.open[-1])

    assert each.cancelled == started[:2]


def test_cancel_starts_only_the_latest_of_several() -> None:
    """What the next start would end at once is not started."""
    each = world(every="10s", cron=None, overlap="cancel", catch_up="all")
    each.now += 35

    each.fire()

    assert [f"{fate} {code}".strip() for _, fate, code in each.fates()] == ["skipped superseded"] * 2 + ["fired"]
    assert each.cancelled == []


def test_allow_and_queue_start_every_one() -> None:
    """With `allow` and `queue` an open run keeps nothing from being accepted."""
    for overlap in ("allow", "queue"):
        each = world(overlap=overlap)
        for hour in ("08:00", "09:00", "10:00"):
            each.now = at(hour)
            each.fire()
        assert [fate for _, fate, _ in each.fates()] == ["fired"] * 3


def test_runs_of_a_backfill_keep_nothing_out() -> None:
    """A start by the clock is not skipped for runs that somebody started by hand."""
    each = world()
    each.do(lambda view: deciding.backfill(view, Instant(at("06:00"), "2026-03-02T06:00:00+00:00"), make_backfill))
    each.now = at("08:00")

    each.fire()

    assert each.fates()[-1] == ("08:00", "fired", "")


@pytest.mark.parametrize("code", ["at_the_limit", "queue_full"])
def test_a_run_that_the_journal_refuses_has_a_fate(code: str) -> None:
    """An instant whose run the gate of its workflow keeps out is skipped, with the refusal as its reason."""
    each = world()
    each.now = at("08:00")
    each.refuses = code
    with pytest.raises(JournalRefused):
        each.fire()

    each.do(lambda view: deciding.fire(view, make, refused=refused(code)))

    assert each.fates() == [("08:00", "skipped", code)]


def test_a_run_that_is_known_was_started() -> None:
    """An instant whose run is there already is fired, not started again."""
    each = world()
    each.now = at("08:00")

    each.do(lambda view: deciding.fire(view, make, refused=refused("known_run")))

    (occurrence,) = each.rows.values()
    assert (occurrence.fate, code_of(occurrence), each.runs) == ("fired", "known_run", {})
    assert occurrence.run_id


def test_inputs_that_do_not_fit_are_told() -> None:
    """An instant whose inputs cannot be made is skipped with the problem, and the next is tried."""

    def unfit(standing: Standing, instant: Instant, now: float) -> RunRow:
        if instant.at == at("08:00"):
            raise InvalidInputs("The input `day` is missing.", code="missing")
        return make(standing, instant, now)

    each = world()
    for hour in ("08:00", "09:00"):
        each.now = at(hour)
        each.until_done(lambda view: deciding.fire(view, unfit))

    assert each.fates() == [("08:00", "skipped", "missing"), ("09:00", "fired", "")]


def test_a_fault_of_the_maker_is_not_swallowed() -> None:
    """Only what Weft raises on purpose is a reason; any other fault comes out, and nothing is decided."""

    def broken(standing: Standing, instant: Instant, now: float) -> RunRow:
        raise ZeroDivisionError

    each = world()
    each.now = at("08:00")

    with pytest.raises(ZeroDivisionError):
        each.until_done(lambda view: deciding.fire(view, broken))
    assert not each.rows
    assert not issubclass(ZeroDivisionError, ActionError)


# ---- clocks
def test_a_clock_that_is_set_back_repeats_nothing() -> None:
    """What is decided stays decided: nothing at or before the watermark fires again."""
    each = world()
    for hour in ("08:00", "09:00"):
        each.now = at(hour)
        each.fire()
    each.now = at("07:00")
    assert each.fire() == 0
    each.arm(cron="0 * * * *", document="other")
    each.arm(cron="*/30 * * * *")
    each.now = at("09:10")

    assert each.fire() == 0
    each.now = at("09:30")
    each.fire()
    assert [time for time, _, _ in each.fates()] == ["08:00", "09:00", "09:30"]


def test_a_restored_journal_starts_nothing_again() -> None:
    """A14: with the watermark put to now, instants before it are not decided, those after it are."""
    each = world()
    assert each.row is not None
    each.now = at("11:30")
    each.row = replace(each.row, watermark=each.now)

    each.fire()
    assert not each.rows
    assert (each.row.next_at, each.row.fire_at) == (at("12:00"), at("12:00"))  # and it is not due all the time
    each.now = at("12:00")
    each.fire()

    assert each.fates() == [("12:00", "fired", "")]


def test_other_zone_data_neither_renames_nor_repeats_an_instant() -> None:
    """A23: the next instant and its key are those that were kept; the same time of that day does not come again."""
    each = world("2026-03-02T00:00:00+00:00", cron="0 8 * * *", timezone="Europe/Berlin")
    kept = Instant(at("06:00"), "2026-03-02T08:00:00+02:00")  # of a process for which Berlin is two hours ahead
    each.row = each.standing.at(kept, watermark=each.now)
    each.now = at("06:00")
    each.fire()
    each.now = at("2026-03-03T12:00:00+00:00")
    each.fire()

    assert [row.key for row in each.rows.values()] == [kept.key, "2026-03-03T08:00:00+01:00"]


def test_jitter_puts_off_and_decides_in_order() -> None:
    """An instant is started when it is due by its jitter, under the key that it has without."""
    each = world(every="1m", cron=None, jitter="5m", overlap="allow", catch_up="all")
    due: dict[str, float] = {}
    for instant in islice(each.standing.ahead(), 60):
        due[instant.key] = each.standing.times.due("w/1", instant)
    while len(each.rows) < 60:
        each.now += 1
        each.fire()

    rows = list(each.rows.values())
    assert [row.key for row in rows[:60]] == list(due)
    assert all(row.decided_at >= due[row.key] for row in rows[:60])
    assert {row.fate for row in rows} == {"fired"}


# ---- edits
@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_a_long_jitter_misses_nothing(catch_up: str) -> None:
    """While a worker runs, every start is in time, also when the jitter is longer than the interval."""
    each = world(every="1m", cron=None, jitter="30m", overlap="allow", catch_up=catch_up)
    expected = {instant.key: each.standing.times.due("w/1", instant) for instant in islice(each.standing.ahead(), 30)}
    while each.now < at("08:01"):
        each.now += 1
        each.fire()

    assert {(row.fate, row.reason) for row in each.rows.values()} == {("fired", None)}
    assert all(0 <= each.rows[key].decided_at - due <= 1 for key, due in expected.items())


def test_other_policies_hold_at_once() -> None:
    """An edit that leaves the times as they are changes document and policies, and loses no instant."""
    each = world()
    each.now = at("10:30")

    each.arm(cron="0 * * * *", catch_up="all", document="new")
    each.fire()

    assert [fate for _, fate, _ in each.fates()] == ["fired"] * 3
    assert {run.document for run in each.runs.values()} == {"new"}


@pytest.mark.parametrize("says", [{"cron": "30 * * * *"}, {"cron": "0 * * * *", "timezone": "Asia/Kolkata"}])
def test_other_times_count_from_the_edit(says: dict[str, Any]) -> None:
    """What was due by the old times and is not decided was missed; the new times, or the new zone, count from now."""
    each = world()
    each.now = at("09:15")

    each.arm(**says)
    each.now = at("09:30")
    each.fire()

    assert each.fates() == [("08:00", "missed", "edited"), ("09:00", "missed", "edited"),
                            ("09:30" if "timezone" not in says else "15:00", "fired", "")]  # fmt: skip


def test_an_interval_that_stays_keeps_its_beat() -> None:
    """An edit of `end` does not move an interval; one of `every` lets it begin anew."""
    each = world("07:30", every="1h", cron=None)
    each.now = at("08:00")
    each.arm(every="1h", end="2027-01-01T00:00:00Z")
    assert each.standing.next == Instant(at("08:30"), "2026-03-02T08:30:00+00:00")

    each.arm(every="2h")

    assert each.standing.next == Instant(at("10:00"), "2026-03-02T10:00:00+00:00")


def test_arming_again_changes_nothing() -> None:
    """Any number of workers arm the same document; the first does it."""
    each = world()
    before = each.row

    each.now = at("07:50")
    each.arm(cron="0 * * * *")

    assert each.row is before


def test_another_workspace_is_not_obeyed() -> None:
    """A schedule belongs to the workspace that armed it, unless another one takes it over."""
    each = world()
    each.arm(cron="0 9 * * *", source="there")
    assert each.row is not None
    assert each.row.source == "here"

    each.arm(cron="0 9 * * *", source="there", take=True)

    assert each.row.source == "there"
    assert each.standing.spec.says.cron == "0 9 * * *"


def test_a_retired_schedule_comes_back_and_counts_from_then() -> None:
    """While it is retired it has no instants; what was due at its end was missed."""
    each = world()
    each.now = at("08:30")
    each.until_done(lambda view: deciding.retire(view, "there"))
    assert each.row is not None
    assert not each.row.retired
    each.until_done(lambda view: deciding.retire(view, "here"))
    assert each.row.retired
    each.now = at("10:30")
    assert each.fire() == 0

    each.arm(cron="0 * * * *", source="there")
    each.now = at("11:00")
    each.fire()

    assert each.fates() == [("08:00", "missed", "retired"), ("11:00", "fired", "")]


# ---- pauses
def test_instants_of_a_pause_are_skipped() -> None:
    """A pause holds for what is due already, for edits of the document, and until the resume; nothing is made up for."""
    each = world(catch_up="all")
    each.now = at("08:30")
    each.until_done(deciding.pause)
    each.now = at("09:30")
    each.fire()
    each.arm(cron="0 * * * *", catch_up="all", document="new")
    each.now = at("10:30")
    each.until_done(deciding.resume)
    each.now = at("11:00")
    each.fire()

    assert [f"{fate} {code}".strip() for _, fate, code in each.fates()] == ["skipped paused"] * 3 + ["fired"]
    assert each.standing.spec.skips == 0
    assert each.standing.spec.paused_at is None


def test_a_long_pause_is_one_row() -> None:
    """Of more than a thousand instants in a pause there is one row, with their number."""
    each = world(every="1m", cron=None)
    each.until_done(deciding.pause)
    each.now += 3000 * 60

    each.until_done(deciding.resume)

    (occurrence,) = each.rows.values()
    assert (occurrence.fate, occurrence.count, code_of(occurrence)) == ("skipped", 3000, "paused")


def test_a_paused_schedule_with_other_times_stays_paused() -> None:
    """An edit does not end a pause."""
    each = world()
    each.until_done(deciding.pause)

    each.arm(cron="0 9 * * *")
    each.now = at("09:00")
    each.fire()

    assert each.fates() == [("09:00", "skipped", "paused")]


# ---- by hand
def test_a_backfill_runs_under_the_key_of_the_instant() -> None:
    """What was missed keeps its row and gets its run, with the id that the clock would have given; no instant has two."""
    each = world(catch_up="none")
    each.now = at("09:30")
    each.fire()
    instant = Instant(at("08:00"), "2026-03-02T08:00:00+00:00")
    before = Instant(at("05:00"), "2026-03-02T05:00:00+00:00")
    ahead = Instant(at("10:00"), "2026-03-02T10:00:00+00:00")

    def by_hand(one: Instant) -> ScheduleMove | None:
        return each.do(lambda view: deciding.backfill(view, one, make_backfill), (one.key,))

    assert by_hand(instant) is not None
    assert by_hand(before) is not None
    assert by_hand(ahead) is None
    with pytest.raises(JournalRefused):
        by_hand(instant)

    assert each.fates() == [("05:00", "fired", "backfill"), ("08:00", "missed", "late"), ("09:00", "missed", "late")]
    assert list(each.runs) == [make(each.standing, one, 0.0).id for one in (instant, before)]


def test_decisions_about_nothing_are_none() -> None:
    """A schedule that is not there is neither fired, paused, resumed, retired nor made up for."""
    view = ScheduleView(None, 0.0)

    for think in (deciding.pause, deciding.resume, deciding.retire, lambda view: deciding.fire(view, make)):
        assert think(view) is None
    assert deciding.backfill(view, Instant(0.0, ""), make) is None
    assert Arming("w/1", "w", "here", Says(cron="0 8 * * *", timezone="UTC"), "d").think(view) is not None
    assert hours(1) == 3600
