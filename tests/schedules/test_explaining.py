from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.schedules.explaining import clock_notes, sentence
from weft.schedules.times import Times
from weft.workflow import Schedule

ZONES = ("Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu")
AT = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
WORDS = [
    ("0 8 * * 1-5", "Every weekday at 08:00"),
    ("0 8 * * MON-FRI", "Every weekday at 08:00"),
    ("30 7,19 * * *", "Every day at 07:30 and 19:30"),
    ("* * * * *", "Every minute"),
    ("*/5 * * * *", "Every 5 minutes"),
    ("0 * * * *", "Every hour"),
    ("15 * * * *", "Every hour, at minute 15"),
    ("0 */6 * * *", "Every 6 hours"),
    ("*/7 * * * *", "Every day at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"),
    ("0 9-17 * * 1-5", "Every hour from 09:00 to 17:00, every weekday"),
    ("0 0 1 * *", "On day 1 of every month at 00:00"),
    ("0 0 1,15 1,7 *", "On days 1 and 15 of every month in January and July at 00:00"),
    ("0 9 L * *", "On the last day of every month at 09:00"),
    ("0 9 13 * 5", "On day 13 of every month and every Friday at 09:00"),
    ("0 12 * * 6,0", "Every Saturday and Sunday at 12:00"),
]


@pytest.mark.parametrize(("cron", "words"), WORDS)
def test_words(cron: str, words: str) -> None:
    """A cron line is said as people say it, with the zone whose clock it speaks of."""
    assert sentence(Schedule(cron=cron, timezone="Europe/Riga")) == f"{words}, by the clock of Europe/Riga."


def test_intervals() -> None:
    """An interval is said with its units."""
    assert sentence(Schedule(every="1h", timezone="UTC")) == "Every hour, counted in elapsed time."
    assert sentence(Schedule(every="90s", timezone="UTC")) == "Every 1 minute 30 seconds, counted in elapsed time."


field = st.sampled_from(["*", "*/2", "*/7", "1", "1-5", "1,3", "2-6/2"])


@settings(max_examples=60, deadline=None)
@given(
    field, field, st.sampled_from(["*", "1", "L", "1-7", "*/10", "13"]), st.sampled_from(["*", "6", "JAN,JUL"]), field
)
def test_any_line(minute: str, hour: str, day: str, month: str, weekday: str) -> None:
    """Every line that is one can be said, and its zone's changes of the clock be told."""
    says = Schedule(cron=f"{minute} {hour} {day} {month} {weekday}", timezone="Europe/Zurich")

    assert sentence(says).endswith("by the clock of Europe/Zurich.")
    clock_notes(says, AT)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("hour", range(4))
def test_notes_tell_what_happens(zone: str, hour: int) -> None:
    """On each day with a note the schedule starts just as it says, and on no day without one it starts at another time."""
    says = Schedule(cron=f"30 {hour} * * *", timezone=zone)
    notes = {note.on: note for note in clock_notes(says, AT)}
    year = takewhile(lambda each: each.at < AT + 399 * 86_400, Times(says, AT).after(AT))
    starts: dict[date, list[str]] = {}
    for each in year:
        at = datetime.fromisoformat(each.key)
        starts.setdefault(at.date(), []).append(f"{at:%H:%M}")

    for day, times in starts.items():
        note = notes.get(day)
        if note is None or note.kind == "twice":
            assert times == [f"{hour:02}:30"]
        else:
            assert (note.kind, times) == ("gap", [note.starts])
    assert len(notes) <= 2
    if zone == "Europe/Zurich":
        assert [note.kind for note in notes.values()] == (["gap", "twice"] if hour == 2 else [])


def test_elapsed_time() -> None:
    """What goes by elapsed time is told otherwise: nothing falls into the gap, and an interval shifts on the clock."""
    often = clock_notes(Schedule(cron="*/5 * * * *", timezone="Europe/Zurich"), AT)
    interval = clock_notes(Schedule(every="1d", timezone="Europe/Zurich"), AT)

    assert [note.message for note in often] == [
        "28 March 2027: the clock is set from 02:00 to 03:00; no start falls into the time between.",
        "31 October 2027: the clock is set from 03:00 to 02:00; it starts in the hour that comes twice both times.",
    ]
    assert [note.message for note in interval] == [
        "From 28 March 2027 on the clock shows 1 hour later at each start.",
        "From 31 October 2027 on the clock shows 1 hour earlier at each start.",
    ]
