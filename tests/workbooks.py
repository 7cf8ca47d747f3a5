"""A workbook with what people have in their sheets."""

import datetime as dt
import io

import xlsxwriter


def write_workbook() -> bytes:
    """Two sheets; the first one has a title, formats of dates, and an empty column."""
    content = io.BytesIO()
    with xlsxwriter.Workbook(content) as book:
        sheet = book.add_worksheet("Sales")
        date = book.add_format({"num_format": "dd.mm.yyyy"})
        time = book.add_format({"num_format": "hh:mm"})
        sheet.write(1, 1, "Sales of May")
        names = ["when", "at", "share", "error", "formula", "code", "mixed", "share"]
        sheet.write_row(3, 1, names)
        sheet.write_datetime(4, 1, dt.datetime(2024, 5, 1), date)  # noqa: DTZ001 - no offset
        sheet.write_datetime(5, 1, dt.datetime(2024, 5, 2), date)  # noqa: DTZ001 - no offset
        sheet.write_datetime(4, 2, dt.time(7, 30), time)
        sheet.write_datetime(5, 2, dt.time(18), time)
        sheet.write_column(4, 3, [0.1, 2])
        sheet.write_formula(4, 4, "=1/0", value="#DIV/0!")
        sheet.write(5, 4, 7)
        sheet.write_formula(4, 5, "=D5+3.4", value=3.5)
        sheet.write_formula(5, 5, "=D6+2", value=4)
        sheet.write_string(4, 6, "007")
        sheet.write_string(5, 6, "010")
        sheet.write_column(4, 7, [1.5, "x"])
        sheet.write_column(4, 8, [1, 1])
        sheet.write_column(4, 10, [" ", " "])
        sheet.write_blank(9, 1, None, date)
        notes = book.add_worksheet("Notes")
        notes.write_column(0, 0, ["a", "b"])
    return content.getvalue()
