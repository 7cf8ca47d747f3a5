"""Common mistakes in requests, and the error messages of the service.

``python -m tests.mistakes`` sends them to the shipped models and writes the list into
``docs/http.md``; a test compares.
"""

import gzip
import json
import re
import sys
from dataclasses import dataclass

import httpx

from tests.images import png_of_size
from tests.processes import ROOT, served

PAGE = ROOT / "docs" / "http.md"
HEADING = "### Mistakes and their error messages\n"

ADMISSION = "/models/admission/predict"
HOUSES = "/models/california_linear/predict"
PRICES = "/models/house_price/predict"
DIGITS = "/models/digits_small/predict"
HOUSE = {
    "longitude": -122.23,
    "latitude": 37.88,
    "housing_median_age": 41,
    "total_rooms": 880,
    "total_bedrooms": 129,
    "population": 322,
    "households": 126,
    "median_income": 8.3252,
    "ocean_proximity": "NEAR BAY",
}
GOOD = {"exam_1": 45, "exam_2": 85}
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@dataclass(frozen=True)
class Mistake:
    """A mistake of a client, and its request."""

    what: str
    path: str
    body: bytes
    kind: str = "application/json"
    verb: str = "POST"
    row: bool = False
    """Whether the status is 200, and the message is that of a row."""


def of_values(what: str, path: str, body: object) -> Mistake:
    return Mistake(what, path, json.dumps(body).encode())


def of_table(what: str, table: bytes | str, *, row: bool = False) -> Mistake:
    body = table if isinstance(table, bytes) else table.encode()
    return Mistake(what, ADMISSION, body, "text/csv", row=row)


def of_image(what: str, content: bytes, path: str = DIGITS) -> Mistake:
    return Mistake(what, path, content, "image/png")


MISTAKES = [
    of_values("a misspelled field", ADMISSION, {"exam1": 45, "exam_2": 85}),
    of_values("a missing field", ADMISSION, {"exam_1": 45}),
    of_values("an extra field", ADMISSION, {**GOOD, "name": "Ada"}),
    of_values("a number in quotes", ADMISSION, {**GOOD, "exam_1": "45"}),
    of_values("a decimal comma", ADMISSION, {**GOOD, "exam_1": "45,5"}),
    of_values("a thousands separator", HOUSES, {**HOUSE, "total_rooms": "1,880"}),
    of_values("a percent sign", ADMISSION, {**GOOD, "exam_1": "45 %"}),
    of_values("a unit after the number", ADMISSION, {**GOOD, "exam_1": "45 points"}),
    of_values("a value in another unit", ADMISSION, {**GOOD, "exam_1": 450}),
    of_values("a fraction of a whole number", PRICES, {"size": 1650, "bedrooms": 3.5}),
    of_values("a negative size", PRICES, {"size": -1650, "bedrooms": 3}),
    of_values("a missing whole number", PRICES, {"size": 1650}),
    of_values("two fields swapped", HOUSES, {**HOUSE, "longitude": 37.88, "latitude": -122.23}),
    of_values("null where a value is required", ADMISSION, {**GOOD, "exam_1": None}),
    of_values("true instead of a number", ADMISSION, {**GOOD, "exam_1": True}),
    of_values("a misspelled word", HOUSES, {**HOUSE, "ocean_proximity": "near bai"}),
    of_values("too few values in a row", ADMISSION, [[45, 85], [45]]),
    of_values("no row at all", ADMISSION, []),
    of_values("an object instead of rows", ADMISSION, {"instances": GOOD}),
    of_values("the fields of another model", "/models/iris/predict", GOOD),
    Mistake("NaN in JSON", ADMISSION, b'{"exam_1": NaN, "exam_2": 85}'),
    Mistake("a missing brace", ADMISSION, b'{"exam_1": 45, "exam_2": 85'),
    Mistake("an empty body", ADMISSION, b""),
    Mistake("a form", ADMISSION, b"exam_1=45&exam_2=85", "application/x-www-form-urlencoded"),
    Mistake("a table sent as JSON", ADMISSION, b"exam_1,exam_2\n45,85\n"),
    Mistake("a PDF sent as JSON", ADMISSION, b"%PDF-1.7 ..."),
    Mistake("an Excel file", ADMISSION, b"PK\x03\x04...", XLSX),
    of_table("an Excel file sent as CSV", b"PK\x03\x04..."),
    of_table("a PDF sent as CSV", b"%PDF-1.7 ..."),
    of_table(
        "a compressed table without Content-Encoding",
        gzip.compress(b"exam_1,exam_2\n45,85\n", mtime=0),
    ),
    of_table("an empty table", ""),
    of_table("a table without rows", "exam_1,exam_2\n"),
    of_table("a table without a header", "45,85\n60,60\n"),
    of_table("a misspelled column", "exam 1,exam_2\n45,85\n"),
    of_table("a missing column", "name,exam_2\nAda,85\n"),
    of_table("a duplicate column", "exam_1,exam_2,exam_1\n45,85,46\n"),
    of_table("an unsupported separator", "exam_1 exam_2\n45 85\n"),
    of_table("decimal commas and decimal points", "exam_1;exam_2\n45,5;85\n60.5;60\n"),
    of_table("another text encoding", "exam_1,exam_2,name\n45,85,Zoë\n".encode("cp1252")),
    of_table("decimal commas in a comma-separated table", "exam_1,exam_2\n45,5,85\n", row=True),
    of_table("a word instead of a number", "exam_1,exam_2\n45,85\nsixty,60\n", row=True),
    of_table("an empty cell", "exam_1,exam_2\n45,\n", row=True),
    of_table("a spreadsheet error", "exam_1,exam_2\n45,#DIV/0!\n", row=True),
    of_table("a currency in a cell", "exam_1,exam_2\n45,85 €\n", row=True),
    of_table("a missing cell", "exam_1,exam_2\n45\n", row=True),
    of_table("a quote that is not closed", 'exam_1,exam_2\n"45,85\n60,60\n', row=True),
    Mistake(
        "JSON over several lines",
        ADMISSION,
        b'{\n"exam_1": 45, "exam_2": 85}',
        "application/x-ndjson",
        row=True,
    ),
    Mistake("a misspelled model", "/models/admision/predict", b"{}"),
    Mistake("an unknown version", "/models/admission/versions/9/predict", b"{}"),
    Mistake("a misspelled parameter", f"{ADMISSION}?topp=1", b"{}"),
    of_image("a PDF sent as an image", b"%PDF-1.7 ..."),
    of_image("a HEIC photo", b"\0\0\0\x18ftypheic...."),
    of_image("an empty file", b""),
    of_image("a truncated image", png_of_size(28, 28, bytes(100))),
    of_image("an image with too many pixels", png_of_size(60_000, 60_000)),
    of_image("a blank image for a digit model", png_of_size(28, 28, bytes(28 * 29))),
    of_values("the URL of an image", DIGITS, {"image": "https://example.org/seven.png"}),
    of_values("a file name instead of the file", DIGITS, {"image": "seven.png"}),
    of_values("pixels from 0 to 1", DIGITS, {"image": [0, 0.5] * 392}),
    of_values("a wrong number of pixels", DIGITS, {"image": [0] * 783}),
    of_values("a row of a table for an image model", DIGITS, GOOD),
    Mistake("a table for an image model", DIGITS, b"exam_1,exam_2\n45,85\n", "text/csv"),
    of_image("an image for a model of tables", b"\x89PNG\r\n...", ADMISSION),
    Mistake(
        "class labels of a regression model",
        "/models/ice_cream/predict?top=2",
        b'{"temperature": 20}',
    ),
    Mistake("GET for a prediction", ADMISSION, b"", verb="GET"),
    Mistake("an unknown path", "/predict/admission", b"{}"),
]


def sentence(client: httpx.Client, mistake: Mistake) -> tuple[int, str]:
    """The status, and the message of the request or of its first failed row."""
    headers = {"content-type": mistake.kind}
    if mistake.row:
        headers["accept"] = "application/json"
    response = client.request(mistake.verb, mistake.path, content=mistake.body, headers=headers)
    described = response.json()
    if mistake.row:
        described = next(row for row in described["predictions"] if "error" in row)
    address = str(client.base_url).rstrip("/")
    return response.status_code, described["error"].replace(address, "http://localhost:8000")


def section(client: httpx.Client) -> str:
    """The section of the page."""
    lines = [
        HEADING,
        "`python -m tests.mistakes` sends these requests to the shipped models.",
        "With status 200, the message is in the row of the table that failed.",
        "",
        "| mistake | request | status | message |",
        "|---|---|---|---|",
    ]
    for mistake in MISTAKES:
        status, described = sentence(client, mistake)
        cells = (mistake.what, _shown(mistake), str(status), described)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def on_page() -> str:
    """The current section of the page."""
    found = re.search(rf"^{re.escape(HEADING)}(?:(?!^##).*\n)*", PAGE.read_text(), re.MULTILINE)
    return found[0].rstrip("\n") + "\n" if found else ""


def _shown(mistake: Mistake) -> str:
    if mistake.verb == "GET" or mistake.body == b"{}":
        return f"`{mistake.verb} {mistake.path}`"
    text = mistake.body.decode("utf-8", "backslashreplace").replace("\n", "⏎")
    text = "".join(letter if letter.isprintable() else "·" for letter in text)
    return f"`{text[:60]}{'…' if len(text) > 60 else ''}`" if text else "nothing"


def main() -> int:
    """Write the list into the page."""
    with served("--device", "cpu") as service, httpx.Client(base_url=service.address) as client:
        made = section(client)
    page, before = PAGE.read_text(), on_page()
    PAGE.write_text(page.replace(before, made) if before else f"{page.rstrip()}\n\n{made}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
