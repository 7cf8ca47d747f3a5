"""Dates and times as text: Python's datetime is the oracle."""

import re
from datetime import UTC, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.timetext import (
    FORMATS,
    TIME_OF_DAY,
    DatetimeFormat,
    describe_format,
    format_datetime,
    json_pattern,
    parse_datetime,
)

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - dates without an offset
_DAY = timedelta(days=1)
_PATTERNS: dict[DatetimeFormat, str] = {
    "YYYY-MM-DD": "%Y-%m-%d",
    "YYYY/MM/DD": "%Y/%m/%d",
    "DD.MM.YYYY": "%d.%m.%Y",
    "DD/MM/YYYY": "%d/%m/%Y",
    "MM/DD/YYYY": "%m/%d/%Y",
    "DD-MM-YYYY": "%d-%m-%Y",
    "MM-DD-YYYY": "%m-%d-%Y",
    "YYYYMMDD": "%Y-%m-%d",
    "DD Month YYYY": "%d %B %Y",
}
_TIMES = ["%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S%p"]
_zones = st.integers(-14 * 60, 14 * 60).map(lambda it: timezone(timedelta(minutes=it)))
_dated = st.sampled_from(list(_PATTERNS))
# strftime does not pad the years before 1000.
_instants = st.datetimes(datetime(1000, 1, 1))  # noqa: DTZ001 - dates without an offset
_recent = st.datetimes(datetime(1969, 1, 1), datetime(2068, 12, 31))  # noqa: DTZ001 - as above


def days(instant: datetime) -> float:
    """The days since 1970-01-01, by timedelta: whole days, and the rest as a fraction."""
    whole, rest = divmod(instant - _EPOCH, _DAY)
    return whole + rest / _DAY


@given(_instants, _dated, st.sampled_from(["", *_TIMES]))
def test_every_format_is_read_as_datetime_reads_it(
    instant: datetime, text_format: DatetimeFormat, clock: str
) -> None:
    """A time may follow a date, with or without seconds, fractions and the half of the day."""
    pattern = f"{_PATTERNS[text_format]} {clock}".strip()
    text = instant.strftime(pattern)

    assert parse_datetime(text, text_format) == days(datetime.strptime(text, pattern))  # noqa: DTZ007 - no offset


@given(_recent, st.sampled_from([f for f in _PATTERNS if f.endswith("YYYY")]))
def test_years_of_two_digits_are_those_of_posix(
    instant: datetime, text_format: DatetimeFormat
) -> None:
    """69 is 1969 and 68 is 2068."""
    text = instant.strftime(_PATTERNS[text_format].replace("%Y", "%y"))

    assert parse_datetime(text, text_format) == (instant - _EPOCH).days


@given(st.datetimes(timezones=_zones), st.sampled_from(FORMATS))
def test_iso_8601_with_an_offset_counts_in_utc(
    instant: datetime, text_format: DatetimeFormat
) -> None:
    """Every format of dates includes ISO 8601; an instant outside the years 1 to 9999 is none."""
    try:
        expected = days(instant.astimezone(UTC).replace(tzinfo=None))
    except OverflowError:
        expected = None
    if text_format == TIME_OF_DAY:
        expected = None

    for text in (instant.isoformat(), instant.isoformat(" ")):
        assert parse_datetime(text, text_format) == expected


def test_a_letter_z_is_utc() -> None:
    """Z is the offset of zero, and an offset may be without its colon or minutes."""
    for text in ("2013-05-01T07:30Z", "2013-05-01 09:30+0200", "2013-05-01T02:30:00 -05"):
        assert parse_datetime(text, "YYYY-MM-DD") == 15826.3125


@given(st.times())
def test_a_time_of_day_is_a_fraction_of_a_day(moment: time) -> None:
    """Python's time has microseconds too."""
    expected = timedelta(hours=moment.hour, minutes=moment.minute, seconds=moment.second)
    expected += timedelta(microseconds=moment.microsecond)

    assert parse_datetime(moment.isoformat(), TIME_OF_DAY) == expected / _DAY


@pytest.mark.parametrize(
    ("text", "text_format"),
    [
        ("2013-05", "YYYY-MM"),
        ("2013/5", "YYYY-MM"),
        ("05/2013", "MM/YYYY"),
        ("5-2013", "MM/YYYY"),
        ("01-May-2013", "DD Month YYYY"),
        ("1. may 13", "DD Month YYYY"),
        ("May 1, 2013", "DD Month YYYY"),
        ("May 1, 2013, 7:30 PM", "DD Month YYYY"),
        ("1-MAY-13 07:30:15Z", "DD Month YYYY"),
        ("2013-05-01T07:30", "DD Month YYYY"),
        ("May 2013", "Month YYYY"),
        ("may-2013", "Month YYYY"),
        ("May-13", "Month YYYY"),
        ("20130501", "YYYYMMDD"),
        ("20130501T073000", "YYYYMMDD"),
        ("201305010730Z", "YYYYMMDD"),
        ("2013-05-01", "Month YYYY"),
        ("1.5.2013", "DD.MM.YYYY"),
        ("5/1/13", "MM/DD/YYYY"),
        ("2013-5-1T00:00:00.123456789", "YYYY-MM-DD"),
    ],
)
def test_months_and_short_forms_are_the_same_day(text: str, text_format: DatetimeFormat) -> None:
    """A month is its first day, and leading zeros may be missing."""
    number = parse_datetime(text, text_format)

    assert number is not None
    assert int(number) == 15826


@pytest.mark.parametrize("text", ["September 2013", "Sept. 2013", "sep 2013", "SEP-13"])
def test_months_have_names_and_abbreviations(text: str) -> None:
    """In English, in any case."""
    assert parse_datetime(text, "Month YYYY") == days(datetime(2013, 9, 1))  # noqa: DTZ001 - no offset


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2013-02-29",
        "1900-02-29",
        "2013-04-31",
        "2013-13-01",
        "2013-00-10",
        "0000-01-01",
        "10000-01-01",
        "13-05-01",
        "2013-05-01T24:00",
        "2013-05-01T12:60",
        "2013-05-01T12:30:60",
        "2013-05-01T12:30:00.",
        "2013-05-01T12:30+24:00",
        "2013-05-01T12:30+01:60",
        "2013-05-01T13:30 PM",
        "2013-05-01T0:30 AM",
        "2013-05-01T",
        "2013-05-01 ",
        "2013/05-01",
        "01.05.2013",
        "15826",
        "\u0662\u0660\u0661\u0663-\u0660\u0665-\u0660\u0661",
        "2013-05-01T12:30:00.0000000001",
        "2013-05-01" + " " * 100_000,
        "1" * 100_000,
    ],
)
def test_impossible_dates_are_rejected(text: str) -> None:
    """Leap days of other years, 24:00, leap seconds, other formats and long texts."""
    assert parse_datetime(text, "YYYY-MM-DD") is None


@pytest.mark.parametrize(
    "text",
    [
        "29 Feb 2013",
        "1 Mai 2013",
        "32 May 2013",
        "May 2013",
        "1 May 02013",
        "1 May 2013 x",
        "13 2013",
    ],
)
def test_impossible_dates_with_a_name_are_rejected(text: str) -> None:
    """The month must be English, and the day one of it."""
    assert parse_datetime(text, "DD Month YYYY") is None


@pytest.mark.parametrize("year", [1600, 2000, 2012, 2024, 2400])
def test_leap_days_are_days(year: int) -> None:
    """Every fourth year, but not each hundredth."""
    before = parse_datetime(f"{year}-02-28", "YYYY-MM-DD")
    leap_day = parse_datetime(f"29.02.{year}", "DD.MM.YYYY")

    assert before is not None
    assert leap_day == before + 1


@given(_recent, st.sampled_from(FORMATS), st.sampled_from([60_000_000, 1_000_000, 1_000, 1]))
def test_a_formatted_date_is_the_same_number(
    instant: datetime, text_format: DatetimeFormat, unit: int
) -> None:
    """Formatting is the inverse of parsing, to the bit."""
    microseconds = (instant - _EPOCH) // timedelta(microseconds=1) // unit * unit
    number = days(_EPOCH + timedelta(microseconds=microseconds))
    if text_format == TIME_OF_DAY:
        number = (timedelta(microseconds=microseconds) % _DAY) / _DAY

    assert parse_datetime(format_datetime(number, text_format), text_format) == number


@given(st.integers(-719_162, 2_932_896), st.sampled_from([f for f in FORMATS if f != TIME_OF_DAY]))
def test_every_day_has_a_text(day: int, text_format: DatetimeFormat) -> None:
    """From 0001-01-01 to 9999-12-31, without a time."""
    text = format_datetime(day, text_format)

    assert ":" not in text
    assert parse_datetime(text, text_format) == day


@pytest.mark.parametrize(
    ("number", "text_format", "text"),
    [
        (15826.0, "YYYY-MM-DD", "2013-05-01"),
        (15826.3125, "YYYY-MM-DD", "2013-05-01T07:30"),
        (15826.3125, "DD.MM.YYYY", "01.05.2013 07:30"),
        (15826.0, "Month YYYY", "May 2013"),
        (15827.0, "YYYY-MM", "2013-05-02"),
        (15826.0, "MM/YYYY", "05/2013"),
        (15826.3125, "DD Month YYYY", "1 May 2013 07:30"),
        (0.3125, "HH:MM", "07:30"),
        (1 / 86_400, "HH:MM", "00:00:01"),
        (15826.3125, "YYYYMMDD", "20130501T073000"),
        (-1.0, "MM/DD/YYYY", "12/31/1969"),
    ],
)
def test_text_has_only_the_digits_it_needs(
    number: float, text_format: DatetimeFormat, text: str
) -> None:
    """No time at midnight, no seconds for whole minutes."""
    assert format_datetime(number, text_format) == text


@pytest.mark.parametrize("text_format", FORMATS)
@given(data=st.data())
def test_the_pattern_of_json_schema_describes_dates(
    text_format: DatetimeFormat, data: st.DataObject
) -> None:
    """Each text of the pattern is a date, and each formatted date fits the pattern."""
    pattern = json_pattern(text_format)
    text = data.draw(st.from_regex(pattern, fullmatch=True))
    number = data.draw(st.integers(-354_000, 2_930_000)) + data.draw(st.integers(0, 1439)) / 1440
    if text_format == TIME_OF_DAY:
        number %= 1

    assert parse_datetime(text.rstrip("\n"), text_format) is not None
    assert re.search(pattern, format_datetime(number, text_format))


@pytest.mark.parametrize("text_format", FORMATS)
def test_a_description_names_the_format(text_format: DatetimeFormat) -> None:
    """Messages and documents show it."""
    assert text_format in describe_format(text_format)
