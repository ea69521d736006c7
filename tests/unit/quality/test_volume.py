"""A day against the recent same weekdays."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.quality.volume import VolumeFinding, judge
from evergreen.settings.quality import VolumeSettings

LIMITS = VolumeSettings()
DAY = date(2011, 8, 31)
WEEK = timedelta(days=7)


def weeks(*counts: int, until: date = DAY) -> dict[date, int]:
    """Lines of the same weekday in the weeks up to `until`, the last count being `until`'s own."""
    return {until - WEEK * back: count for back, count in enumerate(reversed(counts))}


@pytest.mark.parametrize(
    ("lines", "impossible"), [(199, True), (200, False), (1000, False), (10_000, False), (10_001, True)]
)
def test_the_limits_are_least_and_most_by_the_factor(lines: int, impossible: bool) -> None:
    found = judge(weeks(1000, 2000, 1500, 1800, lines), [DAY], LIMITS)
    assert bool(found) is impossible
    if impossible:
        assert found == [VolumeFinding(DAY, lines, 1000, 2000, 4)]


def test_the_message_says_what_was_seen_and_what_is_usual() -> None:
    found = judge(weeks(9, 1904, *[2500] * 6, 3377, 12), [DAY], LIMITS)
    assert str(found[0]) == "2011-08-31 has 12 lines, the last 8 Wednesdays had 1,904 to 3,377"


def test_other_weekdays_and_empty_ones_are_not_compared() -> None:
    lines = weeks(100, 0, 100, 100, 0, 100, 90)
    lines |= {day + timedelta(days=1): 100_000 for day in lines}
    assert judge(lines, [DAY], LIMITS) == []


def test_fewer_than_four_weekdays_give_no_verdict() -> None:
    assert judge(weeks(1000, 1000, 1000, 1), [DAY], LIMITS) == []
    assert judge(weeks(1000, 1000, 1000, 1000, 1), [DAY], LIMITS) != []


@pytest.mark.parametrize(("empty", "impossible"), [(1, False), (6, False), (7, True), (11, True)])
def test_a_day_without_lines_is_normal_and_a_week_is_not(empty: int, impossible: bool) -> None:
    lines = {DAY - timedelta(days=back): 0 if back < empty else 100 for back in range(30)}
    found = judge(lines, [DAY], LIMITS)
    assert bool(found) is impossible
    if impossible:
        suffix = {7: "th", 11: "th"}[empty]
        assert str(found[0]) == f"2011-08-31 is the {empty}{suffix} day in a row without a line"


def test_days_that_were_not_ingested_are_not_empty() -> None:
    assert judge({DAY - timedelta(days=20): 100, DAY: 0}, [DAY], LIMITS) == []


@pytest.mark.parametrize(("number", "text"), [(21, "21st"), (22, "22nd"), (23, "23rd"), (24, "24th"), (12, "12th")])
def test_ordinals(number: int, text: str) -> None:
    assert f"the {text} day" in str(VolumeFinding(DAY, 0, 0, 0, number))


@given(st.lists(st.integers(1, 10_000), min_size=4, max_size=12), st.integers(1, 100_000))
def test_a_naive_rule_agrees(earlier: list[int], lines: int) -> None:
    recent = earlier[-LIMITS.weekdays :]
    expected = lines * LIMITS.factor < min(recent) or lines > max(recent) * LIMITS.factor
    assert bool(judge(weeks(*earlier, lines), [DAY], LIMITS)) is expected


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_what_comes_later_changes_nothing(counts: list[int]) -> None:
    days = {DAY + timedelta(days=number): count for number, count in enumerate(counts)}
    middle = DAY + timedelta(days=len(counts) // 2)
    known = {day: count for day, count in days.items() if day <= middle}
    assert judge(days, [middle], LIMITS) == judge(known, [middle], LIMITS)
