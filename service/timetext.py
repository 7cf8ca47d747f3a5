"""How tables write dates and times, and their number in the graph's input.

A date with or without a time is the number of days since 1970-01-01T00:00, and a time of day alone
is a fraction of a day. An instant with an offset counts in UTC, and one without as it is written.
Training and the service both read dates by these rules.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal, get_args

DatetimeFormat = Literal[
    "YYYY-MM-DD",
    "YYYY/MM/DD",
    "DD.MM.YYYY",
    "DD/MM/YYYY",
    "MM/DD/YYYY",
    "DD-MM-YYYY",
    "MM-DD-YYYY",
    "YYYYMMDD",
    "DD Month YYYY",
    "YYYY-MM",
    "MM/YYYY",
    "Month YYYY",
    "HH:MM",
]
"""The formats of dates. A time may follow a date, and every format but HH:MM includes ISO 8601."""

FORMATS: tuple[DatetimeFormat, ...] = get_args(DatetimeFormat)
TIME_OF_DAY: DatetimeFormat = "HH:MM"
MONTHS: tuple[DatetimeFormat, ...] = ("YYYY-MM", "MM/YYYY", "Month YYYY")
"""The formats of months, without a day."""
ISO: DatetimeFormat = "YYYY-MM-DD"
"""ISO 8601, which every format but the time of day includes."""

DAY_MICROSECONDS = 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()
FIRST_DAY = float(date.min.toordinal() - _EPOCH)
"""0001-01-01."""
END = float(date.max.toordinal() - _EPOCH + 1)
"""The end of 9999-12-31; it is not part of the range."""

_LONGEST = 48
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_MONTH_NUMBERS = (
    {name.lower(): number for number, name in enumerate(_MONTHS, 1)}
    | {name[:3].lower(): number for number, name in enumerate(_MONTHS, 1)}
    | {"sept": 9}
)
# As in POSIX: 69 is 1969, and 68 is 2068.
_FIRST_TWO_DIGIT_YEAR = 69
_HALF_DAY_HOURS = 12
_HOURS, _MINUTES = 24, 60
_MINUTE, _SECOND, _MILLISECOND = 60_000_000, 1_000_000, 1_000

# Every repetition has a limit, so that a match takes constant time.
_TIME_PATTERN = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    r"(?: ?(?P<half>[AaPp])[Mm])?"
)
_TIME = re.compile(_TIME_PATTERN)
_DATE = re.compile(
    r"(?P<first>[0-9]{1,4})(?P<mark>[-/.])(?P<middle>[0-9]{1,2})(?P=mark)(?P<last>[0-9]{1,4})"
    rf"(?:[Tt ]{_TIME_PATTERN}(?: ?(?:(?P<utc>[Zz])|(?P<sign>[+-])(?P<offset_hours>[0-9]{{2}})"
    r":?(?P<offset_minutes>[0-9]{2})?))?)?"
)
# A date that begins with four digits and a hyphen is ISO 8601 in every format.
_ISO_START = re.compile(r"[0-9]{4}-")
_COMPACT = re.compile(
    r"([0-9]{4})([0-9]{2})([0-9]{2})(?:[Tt ]?([0-9]{2})([0-9]{2})([0-9]{2})?([Zz]?))?"
)
_YEAR_MONTH = re.compile(r"(?P<year>[0-9]{4})[-/](?P<month>[0-9]{1,2})")
_MONTH_YEAR = re.compile(r"(?P<month>[0-9]{1,2})[-/](?P<year>[0-9]{4})")
_NAMED_DAY = re.compile(
    r"(?:(?P<day>[0-9]{1,2})\.?[ -](?P<month>[A-Za-z]{3,9})\.?,?[ -](?P<year>[0-9]{4}|[0-9]{2})"
    r"|(?P<us_month>[A-Za-z]{3,9})\.? (?P<us_day>[0-9]{1,2}),? (?P<us_year>[0-9]{4}))"
    r"(?:,?(?P<time>[Tt ][0-9].{0,35}))?"
)
_NAMED_MONTH = re.compile(
    r"(?P<month>[A-Za-z]{3,9})\.?(?:[ -](?P<year>[0-9]{4})|-(?P<short>[0-9]{2}))"
)


@dataclass(frozen=True)
class _Order:
    """Where the parts of a date are, counted from 0, and the mark between them."""

    mark: str
    year: int
    month: int
    day: int


_ISO_ORDER = _Order("-", 0, 1, 2)
_ORDERS: Mapping[DatetimeFormat, _Order] = {
    "YYYY/MM/DD": _Order("/", 0, 1, 2),
    "DD.MM.YYYY": _Order(".", 2, 1, 0),
    "DD/MM/YYYY": _Order("/", 2, 1, 0),
    "MM/DD/YYYY": _Order("/", 2, 0, 1),
    "DD-MM-YYYY": _Order("-", 2, 1, 0),
    "MM-DD-YYYY": _Order("-", 2, 0, 1),
    "YYYYMMDD": _Order("", 0, 1, 2),
}


def parse_datetime(text: str, text_format: DatetimeFormat) -> float | None:
    """Return the days since 1970-01-01, or the fraction of a day for a time of day.

    Digits of a second after the sixth are dropped.

    Args:
        text: without white space around it.
        text_format: how the date is written; ISO 8601 is read too.

    Returns:
        None if the text has another format, or is no date of the years 1 to 9999.
    """
    if len(text) > _LONGEST:
        return None
    if text_format == TIME_OF_DAY:
        found = _TIME.fullmatch(text)
        elapsed = None if found is None else _time_of_day(found)
        return None if elapsed is None else elapsed / DAY_MICROSECONDS
    if text_format in MONTHS and (month := _parse_month(text, text_format)):
        return float(date(*month, 1).toordinal() - _EPOCH)
    expand = _EXPANSIONS.get(text_format)
    found = _DATE.fullmatch(text if expand is None else expand(text))
    if found is None:
        return None
    iso = _ISO_START.match(found.string) is not None
    return _instant(found, _ISO_ORDER if iso else _ORDERS.get(text_format))


def _expand_compact(text: str) -> str:
    """Return a date without marks, such as 20130501T0730, as ISO 8601 with marks."""
    found = _COMPACT.fullmatch(text)
    if found is None:
        return text
    day, (hour, minute, second, utc) = "-".join(found.groups()[:3]), found.groups()[3:]
    return day if hour is None else f"{day}T{hour}:{minute}:{second or '00'}{utc}"


def _expand_name(text: str) -> str:
    """Return a date with the name of its month, such as 1 May 2013 or May 1, 2013, as ISO 8601."""
    found = _NAMED_DAY.fullmatch(text)
    if found is None:
        return text
    month = _MONTH_NUMBERS.get((found["month"] or found["us_month"]).lower(), 0)
    day, year = found["day"] or found["us_day"], found["year"] or found["us_year"]
    return f"{_full_year(year):04}-{month:02}-{day}{found['time'] or ''}"


_EXPANSIONS: Mapping[DatetimeFormat, Callable[[str], str]] = {
    "YYYYMMDD": _expand_compact,
    "DD Month YYYY": _expand_name,
}


def _parse_month(text: str, text_format: DatetimeFormat) -> tuple[int, int] | None:
    """Return the year and the month of a text that is only a month."""
    if text_format != "Month YYYY":
        found = (_YEAR_MONTH if text_format == "YYYY-MM" else _MONTH_YEAR).fullmatch(text)
        year, month = (int(found["year"]), int(found["month"])) if found else (0, 0)
    else:
        found = _NAMED_MONTH.fullmatch(text)
        month = _MONTH_NUMBERS.get(found["month"].lower(), 0) if found else 0
        year = _full_year(found["year"] or found["short"]) if found else 0
    return (year, month) if year > 0 and 1 <= month <= len(_MONTHS) else None


def _full_year(digits: str) -> int:
    """Return a year; two digits are of the years 1969 to 2068."""
    year = int(digits)
    if len(digits) > 2:  # noqa: PLR2004 - digits of a short year
        return year
    return year + (1900 if year >= _FIRST_TWO_DIGIT_YEAR else 2000)


def _instant(found: re.Match[str], order: _Order | None) -> float | None:
    """Return the number of a date with its time, in UTC if it has an offset."""
    days = None if order is None else _find_day(found, order)
    if days is None or found["hour"] is None:
        return days
    elapsed, offset = _time_of_day(found), _offset_minutes(found)
    if elapsed is None or offset is None:
        return None
    carried, elapsed = divmod(elapsed - offset * _MINUTE, DAY_MICROSECONDS)
    number = days + carried + elapsed / DAY_MICROSECONDS
    return number if FIRST_DAY <= number < END else None


def _find_day(found: re.Match[str], order: _Order) -> float | None:
    parts = (found["first"], found["middle"], found["last"])
    year, month, day = parts[order.year], parts[order.month], parts[order.day]
    # A year at the end may have two digits.
    widths = (4,) if order.year == 0 else (2, 4)
    if found["mark"] != order.mark or len(year) not in widths or max(map(len, (month, day))) > 2:  # noqa: PLR2004 - digits
        return None
    try:
        return float(date(_full_year(year), int(month), int(day)).toordinal() - _EPOCH)
    except ValueError:  # no such day
        return None


def _time_of_day(found: re.Match[str]) -> int | None:
    """Return the microseconds since midnight; None if there is no such time."""
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"] or 0)
    if found["half"]:
        if not 1 <= hour <= _HALF_DAY_HOURS:
            return None
        is_afternoon = found["half"] in "Pp"
        hour = hour % _HALF_DAY_HOURS + (_HALF_DAY_HOURS if is_afternoon else 0)
    if hour >= _HOURS or minute >= _MINUTES or second >= _MINUTES:
        return None
    microseconds = int((found["fraction"] or "").ljust(6, "0")[:6])
    return (hour * _MINUTES + minute) * _MINUTE + second * _SECOND + microseconds


def _offset_minutes(found: re.Match[str]) -> int | None:
    """Return the offset from UTC; None if there is no such offset."""
    if found["sign"] is None:
        return 0
    hours, minutes = int(found["offset_hours"]), int(found["offset_minutes"] or 0)
    if hours >= _HOURS or minutes >= _MINUTES:
        return None
    total = hours * _MINUTES + minutes
    return -total if found["sign"] == "-" else total


def format_datetime(number: float, text_format: DatetimeFormat = ISO) -> str:
    """Return the text of a number that `parse_datetime` returns.

    It has as few digits of a second as identify the number, and no time if that is midnight.

    Args:
        number: from `FIRST_DAY` to before `END`, or from 0 to before 1 for a time of day.
        text_format: of the date; one that is not the first of a month is never only a month.
    """
    day, elapsed = _split(number)
    if text_format == TIME_OF_DAY:
        return _format_time(elapsed) if day == 0 else "24:00"
    found = date.fromordinal(min(day + _EPOCH, date.max.toordinal()))
    year, month = f"{found.year:04}", f"{found.month:02}"
    name = _MONTHS[found.month - 1]
    if elapsed == 0 and found.day == 1 and text_format in MONTHS:
        texts = {"YYYY-MM": f"{year}-{month}", "MM/YYYY": f"{month}/{year}"}
        return texts.get(text_format, f"{name} {year}")
    if text_format == "DD Month YYYY":
        text = f"{found.day} {name} {year}"
        return f"{text} {_format_time(elapsed)}" if elapsed else text
    order = _ORDERS.get(text_format, _ISO_ORDER)
    parts = {order.year: year, order.month: month, order.day: f"{found.day:02}"}
    text = order.mark.join(parts[k] for k in range(3))
    if elapsed == 0:
        return text
    if text_format == "YYYYMMDD":
        compact = elapsed % _SECOND == 0
        clock = _format_time(elapsed).replace(":", "").ljust(6, "0")
        return f"{text}T{clock}" if compact else format_datetime(number)
    return f"{text}{'T' if order is _ISO_ORDER else ' '}{_format_time(elapsed)}"


def _split(number: float) -> tuple[int, int]:
    """Return the day, and the microseconds since its midnight.

    The roundest time within the precision of the number is used.
    """
    day = math.floor(number)
    exact = (number - day) * DAY_MICROSECONDS
    precision = math.ulp(number) / 2 * DAY_MICROSECONDS
    units = (_MINUTE, _SECOND, _MILLISECOND)
    rounded = (round(exact / unit) * unit for unit in units)
    elapsed = next((time for time in rounded if abs(time - exact) <= precision), round(exact))
    return day + elapsed // DAY_MICROSECONDS, elapsed % DAY_MICROSECONDS


def _format_time(elapsed: int) -> str:
    minutes, rest = divmod(elapsed, _MINUTE)
    text = f"{minutes // _MINUTES:02}:{minutes % _MINUTES:02}"
    if not rest:
        return text
    second, fraction = divmod(rest, _SECOND)
    if not fraction:
        return f"{text}:{second:02}"
    digits = f"{fraction:06}" if fraction % _MILLISECOND else f"{fraction // _MILLISECOND:03}"
    return f"{text}:{second:02}.{digits}"


def describe_format(text_format: DatetimeFormat) -> str:
    """Describe the texts of a format, for messages: "a date YYYY-MM-DD, with or without a time"."""
    if text_format == TIME_OF_DAY:
        return "a time of day HH:MM or HH:MM:SS, before 24:00"
    if text_format in MONTHS:
        return f"a month {text_format}, or a date {ISO}"
    also = "" if text_format == ISO else f" or {ISO}"
    return f"a date {text_format}{also}, with or without a time HH:MM:SS"


# Patterns for JSON Schema, with all leap days, and with years of four digits that no offset leaves.
_YEAR_TEXT = "[1-9][0-9]{3}"
_LEAP_YEAR_TEXT = "(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)"
_DAYS_OF_MONTHS = (
    ("(?:0[1-9]|1[0-9]|2[0-8])", "(?:0[1-9]|1[0-2])", _YEAR_TEXT),
    ("(?:29|30)", "(?:0[13-9]|1[0-2])", _YEAR_TEXT),
    ("31", "(?:0[13578]|1[02])", _YEAR_TEXT),
    ("29", "02", _LEAP_YEAR_TEXT),
)
_TIME_TEXT = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
_OFFSET_TEXT = "(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?"


def json_pattern(text_format: DatetimeFormat) -> str:
    """Return a regular expression of JSON Schema for the texts of a format, and for ISO 8601.

    It leaves out forms that `parse_datetime` reads too, such as days of one digit.
    """
    if text_format == TIME_OF_DAY:
        return f"^{_TIME_TEXT}$"
    time = f"(?:[T ]{_TIME_TEXT}{_OFFSET_TEXT})?"
    orders = dict.fromkeys((_ISO_ORDER, _ORDERS.get(text_format, _ISO_ORDER)))
    dates = [_date_pattern(order) + time for order in orders if order.mark]
    if text_format == "YYYYMMDD":
        clock = "(?:[01][0-9]|2[0-3])[0-5][0-9](?:[0-5][0-9])?"
        dates.append(f"{_date_pattern(_ORDERS[text_format])}(?:T{clock}Z?)?")
    if text_format == "DD Month YYYY":
        dates += [f"{_named_pattern(*one)}{time}" for one in _DAYS_OF_MONTHS]
    if text_format == "YYYY-MM":
        dates.append(f"{_YEAR_TEXT}-(?:0[1-9]|1[0-2])")
    if text_format == "MM/YYYY":
        dates.append(f"(?:0[1-9]|1[0-2])/{_YEAR_TEXT}")
    if text_format == "Month YYYY":
        dates.append(f"(?:{'|'.join(_MONTHS)}) {_YEAR_TEXT}")
    return f"^(?:{'|'.join(dates)})$"


def _named_pattern(day: str, month: str, year: str) -> str:
    """Return the pattern of days of months that are given as numbers, with the names of these."""
    names = [name for k, name in enumerate(_MONTHS, 1) if re.fullmatch(month, f"{k:02}")]
    return f"{day.replace('0[1-9]', '0?[1-9]')} (?:{'|'.join(names)}) {year}"


def _date_pattern(order: _Order) -> str:
    mark = re.escape(order.mark).replace(r"\-", "-")
    choices = []
    for day, month, year in _DAYS_OF_MONTHS:
        parts = {order.day: day, order.month: month, order.year: year}
        choices.append(mark.join(parts[k] for k in range(3)))
    return f"(?:{'|'.join(choices)})"
