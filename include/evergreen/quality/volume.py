"""Is a day's number of lines possible, given the recent same weekdays?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from evergreen.settings.quality import VolumeSettings


@dataclass(frozen=True)
class VolumeFinding:
    """A day whose number of lines cannot be right."""

    day: date
    lines: int
    low: int  # least and most lines of the earlier same weekdays; both 0 where too many days were empty
    high: int
    compared: int  # how many earlier same weekdays, or how many empty days in a row

    def __str__(self) -> str:
        """What was seen and what was expected; ends without what to do, which depends on the command."""
        if not self.lines:
            return f"{self.day} is the {_ordinal(self.compared)} day in a row without a line"
        return (
            f"{self.day} has {self.lines:,} lines, the last {self.compared} {self.day:%A}s "
            f"had {self.low:,} to {self.high:,}"
        )


def judge(lines: Mapping[date, int], days: Iterable[date], settings: VolumeSettings) -> list[VolumeFinding]:
    """Days among `days` whose number of lines is impossible, in order.

    Against the last `weekdays` same weekdays that had lines, the range from least / factor to most x factor is possible
    (least and most, not mean and deviation: a shop's weekdays are few and skewed). A day without lines is normal; more
    than `max_empty_days` in a row are not, for shops close on holidays but not for a week unannounced. With
    fewer than `min_weekdays` earlier weekdays there is no verdict.

    Args:
        lines: lines of each ingested day. A day that is not in it was not ingested, and counts neither way.
        days: the days to judge.
        settings: how many weekdays, and the limits.
    """
    findings = (_judge_day(lines, day, settings) for day in sorted(days))
    return [finding for finding in findings if finding is not None]


def _judge_day(lines: Mapping[date, int], day: date, settings: VolumeSettings) -> VolumeFinding | None:
    seen = lines.get(day, 0)
    if not seen:
        empty = _empty_days_until(lines, day)
        return VolumeFinding(day, 0, 0, 0, empty) if empty > settings.max_empty_days else None
    earlier = sorted(
        (other for other, count in lines.items() if count and other < day and other.weekday() == day.weekday()),
        reverse=True,
    )[: settings.weekdays]
    if len(earlier) < settings.min_weekdays:
        return None
    counts = [lines[other] for other in earlier]
    low, high = min(counts), max(counts)
    if low / settings.factor <= seen <= high * settings.factor:
        return None
    return VolumeFinding(day, seen, low, high, len(earlier))


def _empty_days_until(lines: Mapping[date, int], day: date) -> int:
    empty = 0
    while lines.get(day, 1 if empty else 0) == 0:
        empty += 1
        day -= timedelta(days=1)
    return empty


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
