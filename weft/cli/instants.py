"""Instants and lengths of time: read from options, told to a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from weft.workflow import seconds

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Since(click.ParamType[float]):
    """An instant: ISO 8601, in local time when it has no offset, or how long ago it is: `2h`, `3d`."""

    name = "when"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        try:
            return datetime.now(UTC).timestamp() - seconds(text)
        except ValueError:
            pass
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(f"{text!r} is no instant such as 2026-11-23T08:00, and no time ago such as 2h or 3d.", param, ctx)


def started(at: datetime, now: datetime) -> str:
    """Tell when something started: `12 s ago`, `5 min ago`, `14:02`, `20 Nov 14:02`, `20 Nov 2025`; in local time."""
    ago = (now - at).total_seconds()
    if ago < 0.95:
        return "just now"
    if ago < 60:
        return f"{ago:.0f} s ago"
    if ago < 3600:
        return f"{ago // 60:.0f} min ago"
    return moment(at, now)


def moment(at: datetime, now: datetime) -> str:
    """Tell an instant as a clock and a calendar do: `14:02`, `20 Nov 14:02`, `20 Nov 2025`; in local time."""
    here, today = at.astimezone(), now.astimezone()
    if here.date() == today.date():
        return f"{here:%H:%M}"
    day = f"{here.day} {_MONTHS[here.month - 1]}"
    near = abs(here - today) < timedelta(days=300)
    return f"{day} {here:%H:%M}" if near else f"{day} {here.year}"


def length(seconds_: float) -> str:
    """Tell a length of time in a few characters: `0.4 s`, `12 s`, `3 min`, `2.5 h`, `4 d`."""
    if seconds_ < 9.95:
        return f"{seconds_:.1f} s"
    if seconds_ < 119.5:
        return f"{seconds_:.0f} s"
    if seconds_ < 7170:
        return f"{seconds_ / 60:.0f} min"
    if seconds_ < 48 * 3600 - 180:
        return f"{seconds_ / 3600:.1f} h"
    return f"{seconds_ / 86400:.0f} d"
